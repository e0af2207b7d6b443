"""RabbitMQ and its queues, for the tests of the `amqp` sink."""

import asyncio
import base64
import hashlib
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import trustme
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from receiver.sinks.amqp import AmqpOptions
from receiver.sinks.base import Sink
from tests.sinks.servers import LONG, OwnServer, free_port, listens, program

REMEDY = "apt-get install rabbitmq-server"
LARGEST = 16_000_000
USERS = {"guest": ".*", "app": ".*", "reader": ""}
"""Each has its name for a password; and to which exchanges and queues it may write."""


class RabbitServer(OwnServer):
    """A RabbitMQ of one's own, which takes some seconds to start. On `tls_port` it wants a certificate.

    `files`: the paths of its authority (`ca`) and of a client's certificate with its key (`client`).
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._distribution, self._mapper, self.tls_port = free_port(), free_port(), free_port()
        self.files = _certificates(folder)

    @property
    def url(self) -> str:
        """The address of its first virtual host."""
        return self.url_of("guest")

    def url_of(self, user: str) -> str:
        """The same for one of its users."""
        return f"amqp://{user}:{user}@127.0.0.1:{self.port}/"

    def command(self, port: int) -> Sequence[str]:
        (self.folder / "plugins").write_text("[].")
        self.definitions.write_text(json.dumps(_definitions()))
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{port}\nload_definitions = {self.definitions}\n"
            f"max_message_size = {LARGEST}\n"
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\nssl_options.cacertfile = {self.files['ca']}\n"
            f"ssl_options.certfile = {self.files['server']}\nssl_options.keyfile = {self.files['server']}\n"
            "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n"
        )
        return [program("rabbitmq-server", REMEDY)]

    @property
    def definitions(self) -> Path:
        """The file of its users and what they may do."""
        return self.folder / "definitions.json"

    def environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": folder,
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"tests{self._distribution}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "ERL_EPMD_PORT": str(self._mapper),
            "RABBITMQ_MNESIA_BASE": folder,
            "RABBITMQ_LOG_BASE": folder,
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
        }

    async def answers(self, port: int) -> bool:
        """It listens when all else is ready."""
        return await listens(port)

    async def control(self, *arguments: str) -> None:
        """`rabbitmqctl`, which takes a second."""
        process = await asyncio.create_subprocess_exec(
            program("rabbitmqctl", REMEDY), *arguments, env=self.environment(), stdout=subprocess.DEVNULL
        )
        assert await process.wait() == 0

    def end(self) -> None:
        """Kills it, and the port mapper that it started, which notices its death a little later."""
        self.kill()
        kill = [program("epmd", REMEDY), "-kill"]
        for _ in range(100):
            done = subprocess.run(kill, env=self.environment(), capture_output=True, timeout=LONG, check=False)
            if b"Killed" in done.stdout:
                return
            time.sleep(0.05)
        raise AssertionError(done.stdout.decode())


def _certificates(folder: Path) -> dict[str, str]:
    authority = trustme.CA()
    files = {name: folder / f"{name}.pem" for name in ("ca", "server", "client")}
    authority.cert_pem.write_to_path(files["ca"])
    for name, whom in (("server", "127.0.0.1"), ("client", "client.test")):
        authority.issue_cert(whom).private_key_and_cert_chain_pem.write_to_path(files[name])
    return {name: str(path) for name, path in files.items()}


def _definitions() -> dict[str, Any]:
    return {
        "vhosts": [{"name": "/"}, {"name": "its own/é"}],
        "users": [
            {
                "name": user,
                "password_hash": base64.b64encode(b"salt" + hashlib.sha256(b"salt" + user.encode()).digest()).decode(),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": "",
            }
            for user in USERS
        ],
        "permissions": [
            {"user": user, "vhost": vhost, "configure": ".*", "write": write, "read": ".*"}
            for user, write in USERS.items()
            for vhost in ("/", "its own/é")
        ],
    }


def sink_to(url: str, **changes: Any) -> Sink:
    """A sink that publishes there."""
    return AmqpOptions.model_validate({"name": "it", "url": url, "timeout": LONG, **changes}).open(None)


@asynccontextmanager
async def channel_at(url: str) -> AsyncIterator[AbstractChannel]:
    """A channel of the test's own."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        yield channel


async def make_queue(url: str, name: str, **arguments: Any) -> None:
    """A durable queue."""
    async with channel_at(url) as channel:
        await channel.declare_queue(
            name, durable=True, arguments={key.replace("_", "-"): v for key, v in arguments.items()}
        )


async def taken(url: str, name: str) -> list[AbstractIncomingMessage]:
    """Takes all messages from a queue, in order, as a consumer does."""
    async with channel_at(url) as channel:
        queue = await channel.get_queue(name, ensure=True)
        found: list[AbstractIncomingMessage] = []
        while (each := await queue.get(no_ack=True, fail=False, timeout=LONG)) is not None:
            found.append(each)
        return found


async def ids(url: str, name: str) -> list[str | None]:
    """Takes all messages from a queue; their ids."""
    return [each.message_id for each in await taken(url, name)]
