"""The registry: options for every word, sinks from options, and libraries only when they are needed."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

import receiver.sinks
from receiver.errors import SettingsError
from receiver.sinks.base import SinkOptions
from receiver.sinks.registry import OPTIONS, open_sink

LIBRARIES = {
    "amqp": "aio_pika",
    "apprise": "apprise",
    "http": "standardwebhooks",
    "kafka": "confluent_kafka",
    "nats": "nats",
    "redis": "redis",
    "slack": "slack_sdk",
    "sqs": "aiobotocore",
}
GIVEN = {
    "amqp": {"url": "amqp://127.0.0.1", "routing_key": "verdicts"},
    "apprise": {"url": "json://127.0.0.1"},
    "file": {"path": "verdicts.ndjson"},
    "http": {"url": "https://example.org/", "secret": "whsec_" + "A" * 32},
    "kafka": {"bootstrap_servers": "127.0.0.1", "topic": "verdicts"},
    "nats": {"url": "nats://127.0.0.1", "subject": "verdicts"},
    "redis": {"url": "redis://127.0.0.1", "stream": "verdicts"},
    "slack": {"url": "https://hooks.slack.com/services/T/B/x"},
    "sqs": {"queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/verdicts.fifo"},
}


def options(kind: str, **changes: object) -> SinkOptions:
    """Good options of that kind."""
    return OPTIONS[kind].model_validate({"name": "it", "type": kind, **GIVEN[kind], **changes})


@pytest.mark.parametrize("kind", sorted(OPTIONS))
async def test_options_open_a_sink(kind: str) -> None:
    """Without a connection: nobody need be there."""
    sink = open_sink(options(kind), public_url=None)

    assert sink.batch >= 1
    await sink.close()


def test_reading_options_imports_no_library() -> None:
    """Settings can be read, and checked, where a kind's library is not installed."""
    program = f"import sys, receiver.sinks.registry; print([n for n in {list(LIBRARIES.values())} if n in sys.modules])"
    root = str(Path(receiver.sinks.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": root}, capture_output=True, check=True)

    assert done.stdout.decode().strip() == "[]"


@pytest.mark.parametrize("kind", sorted(LIBRARIES))
def test_a_library_that_is_missing_is_named_with_the_remedy(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, as every error of the settings."""
    for name in [name for name in sys.modules if name.partition(".")[0] == LIBRARIES[kind]]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, LIBRARIES[kind], None)
    for name in [name for name in sys.modules if name.startswith(f"receiver.sinks.{kind}_")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(receiver.sinks, name.rpartition(".")[2])
    with pytest.raises(SettingsError) as caught:
        open_sink(options(kind), public_url=None)

    assert str(caught.value) == (
        f"sink it: type {kind} needs a library that is not installed: pip install 'runflow-receiver[{kind}]'"
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", ""),
        ("name", "Capital"),
        ("name", "-dash"),
        ("name", "a" * 65),
        ("type", "other"),
        ("match", [{"colour": "red"}]),
        ("timeout", 0),
        ("timeout", 301),
        ("concurrency", 0),
        ("rate", 0),
        ("dead_after", 0),
        ("colour", "red"),
    ],
)
@pytest.mark.parametrize("kind", sorted(OPTIONS))
def test_a_wrong_common_option_is_refused(kind: str, option: str, value: object) -> None:
    """By every kind alike."""
    with pytest.raises(ValidationError) as caught:
        options(kind, **{option: value})

    assert {error["loc"][0] for error in caught.value.errors()} == {option}


def test_one_table_of_match_is_a_list_of_one() -> None:
    """As interface and settings have it."""
    one = options("file", match={"overall_passed": ["false"]})

    assert one.match == options("file", match=[{"overall_passed": "false"}]).match
    assert len(one.match) == 1


def test_options_without_a_kind_open_nothing() -> None:
    """The common options alone are no sink."""
    with pytest.raises(NotImplementedError):
        open_sink(SinkOptions(name="it", type="none"), public_url=None)
