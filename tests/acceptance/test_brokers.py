"""Every broker in every trouble, under load: everything arrives without a hand, as often as docs/sinks.md promises.

In short: all troubles of a broker at once, each at a sink of its own. Long: each by itself under more load; and all at once
on PostgreSQL, where two processes deliver.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.acceptance.books import LookInto
from tests.acceptance.brokers.base import Broker
from tests.acceptance.brokers.kafka_broker import KafkaBroker
from tests.acceptance.brokers.nats_broker import NatsBroker
from tests.acceptance.brokers.ordeal import Ordeal
from tests.acceptance.brokers.rabbitmq import RabbitBroker
from tests.acceptance.brokers.redis_broker import RedisBroker
from tests.acceptance.brokers.sqs_broker import SqsBroker
from tests.acceptance.brokers.troubles import TROUBLES, Scale
from tests.acceptance.brokers.web import WebBroker
from tests.acceptance.processes import ROOT, Install, Report

ROAD = "away swallowed unanswered reset slow"
SERVER = "stopped killed hanging swallowed unanswered reset slow"
MATRIX: Mapping[type[Broker], str] = {
    RedisBroker: f"{SERVER} full revoked",
    NatsBroker: f"{SERVER} full revoked missing",
    RabbitBroker: f"{SERVER} full revoked missing alarmed",
    KafkaBroker: f"{ROAD} missing",
    SqsBroker: f"{ROAD} missing",
    WebBroker: f"{ROAD} untrusted expired cut failing limited redirected",
}
"""Which trouble is tried at which broker."""
LEFT_OUT = {"amqp-stopped", "amqp-alarmed"}
"""Where there is little time: each of these takes the one RabbitMQ that all use away for seconds."""
QUICK = Scale(altered="short-pauses")
HARD = Scale(connections=4, pause=0.05, before=100, least=5, timeout=3)
WIDE = replace(HARD, connections=2, before=50)
"""Where there are many sinks."""
MILD = replace(HARD, connections=1, pause=0.1, before=20, timeout=5)
"""Where many sinks share a server, or it stands in for one that takes more."""
ALL = [(kind, trouble) for kind, troubles in MATRIX.items() for trouble in troubles.split()]

Opened = Callable[[Sequence[str], Scale], Awaitable[list[Broker]]]


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> type[Broker]:
    """The broker that the test is about."""
    given: type[Broker] = request.param
    return given


@pytest.fixture
def server(kind: type[Broker], request: pytest.FixtureRequest) -> object:
    """The one that all of them share, if they do."""
    return kind.fixture and request.getfixturevalue(kind.fixture)


@pytest.fixture
async def opened(kind: type[Broker], server: object, tmp_path: Path) -> AsyncIterator[Opened]:
    """Starts one for each of these troubles."""
    async with AsyncExitStack() as stack:

        async def open_(troubles: Sequence[str], scale: Scale) -> list[Broker]:
            brokers = [kind(trouble, scale, tmp_path / trouble, server) for trouble in troubles]
            return [await stack.enter_async_context(broker) for broker in brokers]

        yield open_


@pytest.mark.parametrize("kind", MATRIX, ids=lambda kind: kind.kind, indirect=True)
async def test_all_at_once(
    kind: type[Broker], opened: Opened, install: Install, sqlite_address: str, look_into: LookInto, report: Report
) -> None:
    """On SQLite, one process."""
    phases = [await opened(troubles, QUICK) for troubles in _phases(kind, LEFT_OUT)]
    ordeal = Ordeal(install, sqlite_address, look_into(sqlite_address), phases, QUICK)
    for fate in await ordeal.run():
        report(str(fate))


@pytest.mark.long
@pytest.mark.parametrize(
    "kind", [kind for kind in MATRIX if kind is not SqsBroker], ids=lambda kind: kind.kind, indirect=True
)
async def test_all_at_once_on_postgresql(
    kind: type[Broker], opened: Opened, install: Install, postgres_address: str, look_into: LookInto, report: Report
) -> None:
    """One process takes in, two deliver. Not to SQS: its stand-in has one thread, and answers so many too late."""
    scale = MILD if kind is RabbitBroker else WIDE
    phases = [await opened(troubles, scale) for troubles in _phases(kind)]
    ordeal = Ordeal(install, postgres_address, look_into(postgres_address), phases, scale)
    for fate in await ordeal.run():
        report(str(fate))


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "trouble"), ALL, ids=[f"{kind.kind}-{trouble}" for kind, trouble in ALL], indirect=["kind"]
)
async def test_one_by_itself(
    kind: type[Broker],
    trouble: str,
    opened: Opened,
    install: Install,
    sqlite_address: str,
    look_into: LookInto,
    report: Report,
) -> None:
    """On SQLite, one process."""
    scale = MILD if kind is SqsBroker else HARD
    ordeal = Ordeal(install, sqlite_address, look_into(sqlite_address), [await opened([trouble], scale)], scale)
    [fate] = await ordeal.run()
    report(str(fate))


def test_the_page_on_sinks_says_which_are_tried() -> None:
    """What its table has a cross for, and nothing else."""
    table = (ROOT / "docs/sinks.md").read_text().partition("| trouble |")[2].partition("\n\n")[0].splitlines()
    kinds = re.findall(r"`(\w+)`", table[0])
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table[2:]]
    tried = {(kind, row[0]) for row in rows for kind, cell in zip(kinds, row[2:], strict=True) if cell}

    assert tried == {(kind.kind, trouble) for kind, trouble in ALL}


def _phases(kind: type[Broker], left_out: Collection[str] = ()) -> list[list[str]]:
    """What can be at once; and by itself each that makes a shared server go away."""
    troubles = [each for each in MATRIX[kind].split() if f"{kind.kind}-{each}" not in left_out]
    alone = [each for each in troubles if kind.fixture and TROUBLES[each].shakes_all]
    return [[each for each in troubles if each not in alone], *([each] for each in alone)]
