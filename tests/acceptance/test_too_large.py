"""A message over a destination's own limit is a dead letter that says its size; with another limit it goes when told to."""

import json
import re
from contextlib import AsyncExitStack
from pathlib import Path
from signal import SIGHUP

from receiver.offline import OfflineRunflow
from tests.acceptance.books import LookInto, check_audit, quiet
from tests.acceptance.brokers.base import Broker
from tests.acceptance.brokers.kafka_broker import KafkaBroker
from tests.acceptance.brokers.sqs_broker import SqsBroker
from tests.acceptance.brokers.troubles import Scale
from tests.acceptance.brokers.web import AUTHORITY, WebBroker
from tests.acceptance.collector import check_arrived
from tests.acceptance.load import Callback, Load
from tests.acceptance.processes import API_KEY, SECRET, Install, until
from tests.sinks.sqs_side import SqsServer

LIMIT = 1024
"""Bytes, less than any verdict has."""


async def test_too_large_is_told_with_its_size_and_goes_when_the_limit_is_raised(
    install: Install, sqlite_address: str, look_into: LookInto, sqs_server: SqsServer, tmp_path: Path
) -> None:
    """Kafka, SQS and HTTP, each with `max_bytes`; settings are read anew at SIGHUP, and the dead are retried by hand."""
    async with AsyncExitStack() as stack, OfflineRunflow(secret=SECRET, api_key=API_KEY) as runflow:
        brokers = [
            await stack.enter_async_context(kind("slow", Scale(), tmp_path / kind.kind, sqs_server))
            for kind in (KafkaBroker, SqsBroker, WebBroker)
        ]
        place = install(
            _sinks(brokers, f"max_bytes = {LIMIT}\n"),
            DATABASE_URL=sqlite_address,
            RUNFLOW_API_URL=runflow.url,
            RUNFLOW_API_KEY=API_KEY,
            **SqsBroker.environ,
        )
        AUTHORITY.cert_pem.write_to_path(tmp_path / "authority.pem")
        server = await place.serve(altered=f"trust:{tmp_path / 'authority.pem'}", forked=True)
        load = Load(server.address)
        await load.post([Callback(runflow) for _ in range(5)])
        due = len(brokers) * len(load.acknowledged)
        await until(lambda: len(server.look("delivery.dead")) == due, "dead letters")
        printed = await place.run("deliveries", "list", "--state", "dead", "--json")
        dead = json.loads(printed.output)["items"]
        assert len(dead) == due
        assert all(_says_its_size(each["last_error"]) for each in dead)

        (place.folder / "receiver.toml").write_text(_sinks(brokers, ""))
        server.signal(SIGHUP)
        await server.logged("settings.reloaded")
        retried = await place.run("deliveries", "retry", "--state", "dead", "--yes")
        assert retried.status == 0, retried
        await quiet(look_into(sqlite_address))
        for broker in brokers:
            assert check_arrived(load.acknowledged.values(), await broker.received(), broker.name) == 0
        await check_audit(place)
        await server.stop()


def _sinks(brokers: list[Broker], more: str) -> str:
    return "".join(broker.sink() + more for broker in brokers)


def _says_its_size(error: str) -> bool:
    match = re.search(r"the message has (\d+) bytes", error)
    return match is not None and int(match[1]) > LIMIT
