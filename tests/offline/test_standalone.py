"""`python -m receiver.offline` in a process of its own: its address, its submissions, its end."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.core.signature import Keyring, Secret
from receiver.offline.listener import Listener

PATIENCE = 60


@asynccontextmanager
async def offline(*options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The process and its address. It must end by itself on SIGTERM, with status 0 and nothing on standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "receiver.offline", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            url = (await process.stdout.readline()).decode().strip()
        yield process, url
        process.send_signal(signal.SIGTERM)
    except BaseException:
        process.kill()
        raise
    finally:
        async with asyncio.timeout(PATIENCE):
            _, complaints = await process.communicate()
    assert complaints == b""
    assert process.returncode == 0


async def test_it_serves_and_ends() -> None:
    """Its first line is its address; it asks for the key; faults can be set; it ends with a read hanging."""
    async with (
        httpx.AsyncClient(trust_env=False, timeout=PATIENCE, headers={"Authorization": "Bearer rf_live_x"}) as client,
        offline("--api-key", "rf_live_x") as (_, url),
    ):
        assert url.startswith("http://127.0.0.1:")
        assert (await client.get(f"{url}/v1/auth/me", headers={"Authorization": ""})).status_code == 401
        assert (await client.get(f"{url}/v1/auth/me")).status_code == 200
        await client.put(f"{url}/offline/faults", json={"hanging": {"count": 1}})
        reading = asyncio.create_task(client.get(f"{url}/v1/evaluations"))
        while (await client.get(f"{url}/offline/faults")).json()["hanging"]["count"]:
            pass
    with pytest.raises(httpx.TransportError):
        await reading


async def test_it_submits_by_itself() -> None:
    """With a callback address it makes so many submissions, whose callbacks are signed and on record."""
    arrived: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()

    async def take(request: Request) -> Response:
        arrived.put_nowait((await request.body(), request.headers["runflow-signature"].encode()))
        return Response(status_code=202)

    listener = Listener(Starlette(routes=[Route("/", take, methods=["POST"])]))
    await listener.start()
    options = ("--secret", "whsec_own", "--rate", "100", "--count", "3", "--seed", "5", "--decide-delay", "0")
    async with (
        httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client,
        offline(*options, "--callback-url", f"{listener.url}/") as (_, url),
    ):
        async with asyncio.timeout(PATIENCE):
            callbacks = [await arrived.get() for _ in range(3)]
            while (shown := (await client.get(f"{url}/offline/callbacks")).json())["accepted"] < 3:
                pass
    await listener.close()
    keyring = Keyring([Secret("whsec_own", "own")])
    assert {keyring.label_of_signer(body, [signature]) for body, signature in callbacks} == {"own"}
    assert {item["body"].encode() for item in shown["items"]} == {body for body, _ in callbacks}
    assert shown["evaluations"] == 3


async def refused(*options: str) -> tuple[int | None, str]:
    """The exit status and the complaint of a process that cannot start."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "receiver.offline", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    async with asyncio.timeout(PATIENCE):
        _, complaints = await process.communicate()
    return process.returncode, complaints.decode()


@pytest.mark.parametrize("options", [("--retries", "soon"), ("--port", "x"), ("--rate", "0"), ("--melt",)])
async def test_wrong_options_are_refused(options: tuple[str, ...]) -> None:
    """A wrong option ends it with status 2 and a line that names it."""
    status, complaint = await refused(*options)
    assert status == 2
    assert options[0] in complaint


async def test_a_taken_port_is_named() -> None:
    """A port that cannot be had ends it with status 1 and a line that names it."""
    listener = Listener(Starlette())
    await listener.start()
    port = listener.url.rpartition(":")[2]
    status, complaint = await refused("--port", port)
    await listener.close()
    assert status == 1
    assert complaint == f"Error: cannot listen on 127.0.0.1:{port}: Address already in use\n"
