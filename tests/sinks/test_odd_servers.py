"""The sinks that keep a connection, and servers that are none of theirs: what it comes to is bounded, and said plainly."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from receiver.sinks.base import Again, Down, Outcome, Sink
from receiver.sinks.http import HttpOptions
from receiver.sinks.kafka import KafkaOptions
from receiver.sinks.sqs import SqsOptions
from tests.sinks import amqp_side, nats_side, redis_side
from tests.sinks.destinations import SIGNING_SECRET
from tests.sinks.servers import LONG, Connection, TcpServer, nobody_listens
from tests.sinks.troubles import cut, outcome_of, speak_http

BROKEN = Down("no connection, or a broken one")
NOT_KNOWN = Down("cannot connect: its name is not known")
REFUSED = Down("cannot connect: refused")
HUNG_UP = Down("cannot connect: it hung up at once")
NOT_IN_TIME = Down("no connection in time")
NO_ANSWER = Again("no answer in time")


def _kafka(at: str, **changes: Any) -> Sink:
    given = {"name": "it", "bootstrap_servers": at, "topic": "t", "timeout": LONG, **changes}
    return KafkaOptions.model_validate(given).open(None)


def _http(at: str) -> Sink:
    return HttpOptions.model_validate({"name": "it", "url": f"http://{at}/", "secret": SIGNING_SECRET}).open(None)


def _sqs(at: str) -> Sink:
    given = {
        "name": "it",
        "queue_url": f"http://{at}/1/verdicts",
        "endpoint_url": f"http://{at}",
        "region": "eu-west-1",
    }
    return SqsOptions.model_validate(given).open(None)


SINKS: Mapping[str, Callable[..., Sink]] = {
    "amqp": lambda at, **changes: amqp_side.sink_to(f"amqp://{at}", routing_key="nowhere", **changes),
    "kafka": _kafka,
    "nats": lambda at, **changes: nats_side.sink_to(f"nats://{at}", **changes),
    "redis": lambda at, **changes: redis_side.sink_to(f"redis://{at}/0", **changes),
}
"""A sink to this host and port."""
OTHERS: Mapping[str, Callable[..., Sink]] = {"http": _http, "sqs": _sqs}
"""Those to which any server that speaks HTTP may be one of theirs."""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("amqp", NOT_IN_TIME), ("kafka", NO_ANSWER), ("nats", NOT_IN_TIME), ("redis", NO_ANSWER)],
)
async def test_one_that_accepts_and_says_nothing_is_bounded(kind: str, expected: Outcome) -> None:
    """No greeting, no answer: the timeout ends it."""
    async with TcpServer(Connection.hang) as server:
        assert await outcome_of(SINKS[kind](f"127.0.0.1:{server.port}", timeout=0.2)) == expected


@pytest.mark.parametrize(("kind", "expected"), [("amqp", HUNG_UP), ("nats", HUNG_UP), ("redis", BROKEN)])
async def test_one_that_hangs_up_is_down(kind: str, expected: Outcome) -> None:
    """At once, each time."""
    async with TcpServer(cut) as server:
        assert await outcome_of(SINKS[kind](f"127.0.0.1:{server.port}")) == expected


@pytest.mark.parametrize("kind", SINKS)
async def test_another_protocol_is_not_taken_for_ours(kind: str) -> None:
    """An HTTP server on that port."""
    async with TcpServer(speak_http) as server:
        assert isinstance(await outcome_of(SINKS[kind](f"127.0.0.1:{server.port}", timeout=0.3)), Again | Down)


@pytest.mark.parametrize("kind", [*SINKS, *OTHERS])
async def test_a_name_that_is_not_known_is_told(aws: None, kind: str) -> None:
    """Not the name itself."""
    assert await outcome_of({**SINKS, **OTHERS}[kind]("nowhere.invalid:1")) == NOT_KNOWN


@pytest.mark.parametrize("kind", [*SINKS, *OTHERS])
async def test_nobody_there_is_told(aws: None, kind: str) -> None:
    """A port at which nobody listens, by the messages' outcomes and by the check."""
    with nobody_listens() as port:
        assert await outcome_of({**SINKS, **OTHERS}[kind](f"127.0.0.1:{port}")) == REFUSED
