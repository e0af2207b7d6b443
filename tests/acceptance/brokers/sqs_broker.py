"""SQS: moto's server, one for all."""

import asyncio
import json
import uuid
from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import urlsplit

from tests.acceptance.brokers.base import Broker
from tests.acceptance.collector import Arrival
from tests.sinks.sqs_side import REGION, SqsServer


class SqsBroker(Broker):
    """A FIFO queue, which drops what comes again within five minutes, and is read by a consumer."""

    kind = "sqs"
    fixture = "sqs_server"
    drops_repeats = True
    at_once = 10
    environ: ClassVar[Mapping[str, str]] = {
        "AWS_ACCESS_KEY_ID": "the",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_EC2_METADATA_DISABLED": "true",
    }

    async def start(self) -> int:
        """It runs already."""
        self._server: SqsServer = self.shared
        self._name = f"{self.trouble}-{uuid.uuid4()}.fifo"
        return urlsplit(self._server.endpoint).port or 0

    async def make(self) -> None:
        self._queue = await asyncio.to_thread(self._server.make, self._name)

    def options(self) -> dict[str, str | float | bool]:
        endpoint = f"http://127.0.0.1:{self.gap.port}"
        where = {"queue_url": self._server.url_of(self._name), "region": REGION, "endpoint_url": endpoint}
        return {**where, "concurrency": 2}  # the one server takes little, and all sinks are at it

    async def received(self) -> list[Arrival]:
        taken = await asyncio.to_thread(self._queue.taken_out)
        return [Arrival(each.attributes["id"], json.loads(each.body)) for each in taken]

    async def end(self) -> None:
        """Others use it."""
