"""Whole services over real settings, and the HTTP that they are asked by."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import Connection, text

from receiver.core.signature import Secret
from receiver.offline.listener import Listener
from receiver.settings import Settings, load_settings
from receiver.wiring import Service
from tests.pipeline.clock import DEADLINE

SECRET = "whsec_service_tests"
TOKEN = "a-token-of-the-service-tests"


def settings_for(folder: Path, database: str, toml: str = "", **environ: str) -> Settings:
    """The settings of a receiver that keeps its files in this folder."""
    (folder / "receiver.toml").write_text(toml)
    usual = {
        "DATABASE_URL": database,
        "RUNFLOW_WEBHOOK_SECRET": SECRET,
        "RECEIVER_API_TOKENS": f"tests:read={TOKEN}",
        "RECEIVER_CONFIG": str(folder / "receiver.toml"),
    }
    return load_settings(usual | environ, directory=folder)


def file_sink(name: str, folder: Path) -> str:
    """A sink that writes `NAME.ndjson`."""
    return f'[[sinks]]\nname = "{name}"\ntype = "file"\npath = "{folder / name}.ndjson"\n'


def arrived(name: str, folder: Path) -> list[str]:
    """The ids of the messages that the sink has written."""
    file = folder / f"{name}.ndjson"
    return [json.loads(line)["id"] for line in file.read_text().splitlines()] if file.exists() else []


class Asked:
    """A service behind a port of its own."""

    def __init__(self, service: Service, client: httpx.AsyncClient) -> None:
        self.service = service
        self._client = client

    async def ready(self) -> str:
        """`ready`, or the reason why it is not."""
        answer = await self._client.get("/readyz")
        content = answer.json()
        return "ready" if answer.status_code == 200 else str(content["reason"])

    async def post(self, body: bytes, secret: str = SECRET) -> int:
        """The status of the answer to a callback that is signed with that secret."""
        headers = {"Runflow-Signature": Secret(secret).sign(body)}
        return (await self._client.post("/webhook/runflow", content=body, headers=headers)).status_code

    async def verdict(self, evaluation_id: UUID, token: str = TOKEN) -> Any:
        """The verdict as the API shows it, or the status of its refusal."""
        headers = {"Authorization": f"Bearer {token}"}
        answer = await self._client.get(f"/v1/verdicts/{evaluation_id}", headers=headers)
        return answer.json() if answer.status_code == 200 else answer.status_code


@asynccontextmanager
async def asked(service: Service) -> AsyncIterator[Asked]:
    """The service's HTTP side, served; the service itself is started and stopped by the test."""
    service.intake.longest_wait = DEADLINE  # a slow machine is no reason for a 503
    listener = Listener(service.app)
    await listener.start()
    try:
        async with httpx.AsyncClient(base_url=listener.url, trust_env=False, timeout=DEADLINE) as client:
            yield Asked(service, client)
    finally:
        await listener.close()


def execute(conn: Connection, statement: str) -> None:
    """Runs a statement of a test's own."""
    conn.execute(text(statement))
