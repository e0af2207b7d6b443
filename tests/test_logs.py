"""Log lines: their shape, their level, that nothing hidden is in them, and that no failure to log reaches the caller."""

import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast
from uuid import UUID

import hypothesis
import pytest
import structlog
from hypothesis import strategies as st

from receiver import logs

Lines = Callable[[], list[dict[str, Any]]]

DIGEST = "0123456789abcdef" * 4
LIBRARIES = ("uvicorn", "uvicorn.error", "alembic", "httpx", "httpcore", "sqlalchemy.engine", "asyncio")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leaves logging as it was."""
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in LIBRARIES}
    level_of_root = root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logs._RENDERER.hider.hide(())
    logs._STREAM.target = None
    root.removeHandler(logs._HANDLER)
    root.setLevel(level_of_root)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def lines(stream: io.StringIO) -> Lines:
    """The lines so far, read as JSON; with this, logging is set up at `info`."""
    logs.configure("info", "json", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line(lines: Lines, stream: io.StringIO) -> None:
    """A line is an object: when (UTC), level, event, then the keys that were given, on one line."""
    structlog.get_logger().info("delivery.done", sink="verdicts", took=0.25, note="two\nlines")
    (line,) = lines()
    assert list(line) == ["timestamp", "level", "event", "sink", "took", "note"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "event": "delivery.done",
        "sink": "verdicts",
        "took": 0.25,
        "note": "two\nlines",
    }
    assert stream.getvalue().endswith("}\n")


def test_level(lines: Lines, stream: io.StringIO) -> None:
    """What is below the level is dropped; a logger that is in use follows when the level changes."""
    log = structlog.get_logger()
    bound = log.bind(sink="a")
    for level, events in (("info", 4), ("debug", 5), ("error", 2), ("critical", 1)):
        logs.configure(level, "json", stream)
        for logger in (log, bound):
            stream.truncate(0)
            stream.seek(0)
            logger.debug("a.debug")
            logger.info("an.info")
            logger.warning("a.warning")
            logger.error("an.error")
            logger.critical("a.critical")
            assert len(lines()) == events


def test_stream_changes(lines: Lines) -> None:
    """A logger that is in use follows when the stream and the form change."""
    log = structlog.get_logger()
    log.info("first.line")
    second = io.BytesIO()
    logs.configure("info", "json", wrapper := io.TextIOWrapper(second))
    log.info("second.line")
    logs.configure("info", "console", third := io.StringIO())
    log.info("third.line", key="value")
    assert [line["event"] for line in lines()] == ["first.line"]
    assert json.loads(second.getvalue())["event"] == "second.line"
    wrapper.close()
    assert re.fullmatch(r"\S+Z \[info\s*\] third\.line\s+key=value\n", third.getvalue())


def test_form_of_a_terminal() -> None:
    """On a terminal lines are for people, with colours; anywhere else they are JSON."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, is_json in ((Terminal(), False), (io.StringIO(), True)):
        logs.configure("info", None, stream)
        structlog.get_logger().info("a.line")
        assert stream.getvalue().startswith("{") is is_json
        assert ("\x1b[" in stream.getvalue()) is not is_json


def test_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a stream, lines go to what standard error is at the time."""
    logs.configure()
    structlog.get_logger().info("a.line")
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["event"] == "a.line"


def test_no_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without standard error logs nothing and goes on."""
    logs.configure("info", "json")
    monkeypatch.setattr(sys, "stderr", None)
    structlog.get_logger().info("a.line")
    logs.configure("info")


def test_context(lines: Lines) -> None:
    """What is bound to the context is in every line of it, also in those of the standard library."""
    with structlog.contextvars.bound_contextvars(evaluation_id="e-1"):
        structlog.get_logger().info("an.event")
        logging.getLogger("uvicorn.error").info("text")
    structlog.get_logger().info("an.event")
    assert [line.get("evaluation_id") for line in lines()] == ["e-1", "e-1", None]


def test_standard_library(lines: Lines) -> None:
    """A logger of the standard library gives lines of the same shape: its name is the event, its text the message."""
    logging.getLogger("uvicorn.error").info("started at %s", "port 1")
    (line,) = lines()
    assert list(line) == ["timestamp", "level", "event", "message"]
    assert (line["level"], line["event"], line["message"]) == ("info", "uvicorn.error", "started at port 1")
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("level", ["debug", "info", "error"])
def test_talkative_libraries(level: str, lines: Lines, stream: io.StringIO) -> None:
    """Libraries that show addresses, headers or bodies below `warning` are not heard there, whatever our level."""
    logs.configure(level, "json", stream)
    for name in ("httpx", "httpcore", "sqlalchemy.engine", "asyncio", "slack_sdk", "redis"):
        logging.getLogger(name).info("GET https://hooks.slack.com/services/secret")
        logging.getLogger(name).debug("authorization: Bearer secret")
    logging.getLogger("uvicorn").debug("ours")
    assert [line["event"] for line in lines()] == (["uvicorn"] if level == "debug" else [])
    logging.getLogger("asyncio").error("a task failed")
    assert lines()[-1]["event"] == "asyncio"


def test_configured_twice(lines: Lines, stream: io.StringIO) -> None:
    """Setting up again doubles no line."""
    logs.configure("info", "json", stream)
    logging.getLogger("uvicorn").info("text")
    assert len(lines()) == 1


def test_arguments_that_do_not_fit(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library's mistake in its log call costs the arguments, not the line, and nobody else."""
    text = "%d of %s"
    with monkeypatch.context() as patch:
        patch.setattr(logging.getLogger(), "handlers", [logs._HANDLER])  # pytest's own raise
        logging.getLogger("uvicorn").info(text, "x")
        logging.getLogger("uvicorn").info("%(a)s", {"b": 1})
    assert [line["message"] for line in lines()] == ["%d of %s", "%(a)s"]


def _fail(message: str, variable: str = "") -> None:
    raise ValueError(message)


def test_exceptions(lines: Lines) -> None:
    """An exception is one key, the traceback as text without the values of variables."""
    try:
        _fail("why", "in a variable")
    except ValueError:
        structlog.get_logger().exception("a.failure", sink="a")
        logging.getLogger("asyncio").exception("text")
    ours, theirs = lines()
    assert ours["level"] == theirs["level"] == "error"
    for line in (ours, theirs):
        assert "exc_info" not in line
        assert line["exception"].startswith("Traceback (most recent call last):\n")
        assert line["exception"].endswith("ValueError: why")
        assert "variable = " not in line["exception"]


def test_exceptions_on_a_console(stream: io.StringIO) -> None:
    """On a console the traceback stands below its line, plain."""
    logs.configure("info", "console", stream)
    try:
        _fail("why")
    except ValueError:
        structlog.get_logger().exception("a.failure")
    assert "a.failure" in stream.getvalue().splitlines()[0]
    assert stream.getvalue().endswith("ValueError: why\n")


@dataclass
class Plain:
    field: str


class Unspeakable:
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, None),
        ({"a": [1, (2, "x")]}, {"a": [1, [2, "x"]]}),
        ({1: "x"}, {"1": "x"}),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        (datetime.fromisoformat("2026-01-02T03:04:05"), "2026-01-02T03:04:05Z"),
        (b"x", "b'x'"),
        ({"x"}, "{'x'}"),
        (2**70, hex(2**70)),
        (float("nan"), None),
        (Plain("x"), "Plain(field='x')"),
        ("half \ud83d", "half ?"),
        (ValueError("x"), "x"),
        (Unspeakable(), "<Unspeakable>"),
        ([Unspeakable()], "<list>"),
    ],
)
def test_any_value(value: object, written: object, lines: Lines) -> None:
    """Whatever is logged, there is a line, and what cannot be written costs its own key only."""
    structlog.get_logger().info("an.event", value=value, other=1)
    (line,) = lines()
    assert (line["event"], line["other"]) == ("an.event", 1)
    assert line["value"] == written


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "value",
    [
        "whsec_abcDEF123+/==",
        f"signature {DIGEST}",
        DIGEST.upper(),
        "key is sesame-open",
        {"a": ["sesame-open"]},
        {"sesame-open": 1},
        ["whsec_x", 1],
        ValueError("sesame-open"),
        1234567890123,
        'quo"te\\and\nline',
        "sesame-open-wide",
    ],
)
def test_hidden(form: logs.Format, value: object, stream: io.StringIO) -> None:
    """Callback secrets, signatures and what was given to `hide` are in no line, wherever they stand; the rest stays."""
    logs.configure("info", form, stream)
    logs.hide("sesame-open", "sesame-open-wide", "1234567890123", 'quo"te\\and\nline')
    structlog.get_logger().info("an.event", value=value, other="kept")
    text = stream.getvalue()
    assert "[hidden]" in text
    assert "kept" in text
    for part in ("abcDEF", DIGEST, DIGEST.upper(), "sesame", "wide", "1234567890123", "quo", "whsec_"):
        assert part not in text
    if form == "json":
        assert list(json.loads(text)) == ["timestamp", "level", "event", "value", "other"]


def test_hidden_in_a_traceback(lines: Lines) -> None:
    """A secret in an exception's text is hidden as well, in our lines and in the standard library's."""
    logs.hide("sesame-open")
    try:
        _fail("sesame-" + "open")
    except ValueError:
        structlog.get_logger().exception("a.failure")
        logging.getLogger("asyncio").exception("with whsec_abc and %s", "sesame-open")
    for line in lines():
        assert "ValueError: [hidden]" in line["exception"]
        assert "sesame-open" not in str(line)


def test_not_hidden(lines: Lines) -> None:
    """Ids, longer and shorter hex, and texts too short to hide are left as they are."""
    logs.hide("info", "", "short")
    values = ["00000000-0000-4000-8000-000000000001", DIGEST + "0", DIGEST[1:], "info short"]
    structlog.get_logger().info("an.event", values=values)
    assert lines()[0]["values"] == values


def test_hide_adds(lines: Lines) -> None:
    """What was hidden before stays hidden: after a rotation the old secret is still one."""
    logs.hide("the-old-one")
    logs.hide("the-new-one")
    structlog.get_logger().info("an.event", a="the-old-one", b="the-new-one")
    assert (lines()[0]["a"], lines()[0]["b"]) == ("[hidden]", "[hidden]")


class FullDisk(io.RawIOBase):
    """Takes nothing."""

    def write(self, _: object) -> int:
        raise OSError(28, "No space left on device")


def test_a_stream_that_fails(lines: Lines, stream: io.StringIO) -> None:
    """A full disk, a closed stream or a text stream that fails costs the line, never the caller."""

    class OnFullDisk(io.StringIO):
        buffer = cast("BinaryIO", FullDisk())

    class BrokenPipe(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(32, "Broken pipe")

    closed = io.StringIO()
    closed.close()
    log = structlog.get_logger()
    for target in (OnFullDisk(), BrokenPipe(), closed):
        logs.configure("info", None, target)
        log.info("an.event")
        logging.getLogger("uvicorn").info("text")
    logs.configure("info", "json", stream)
    log.info("it.works_again")
    assert [line["event"] for line in lines()] == ["it.works_again"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@hypothesis.settings(deadline=None, derandomize=True)
@hypothesis.given(
    value=values,
    before=st.text(st.characters()),
    after=st.text(st.characters()),
    secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=8).map(lambda text: f"\u2402{text}\u2403"),
)
def test_any_secret_among_anything(value: Any, before: str, after: str, secret: str) -> None:
    """Whatever the secret and whatever is around it, a line is one JSON object that does not hold it."""
    stream = io.BytesIO()
    logs.configure("info", "json", io.TextIOWrapper(stream))
    logs._RENDERER.hider.hide((secret,))
    structlog.get_logger().info("an.event", value=value, text=before + secret + after, deep=[{"x": secret}])
    (text,) = stream.getvalue().decode().removesuffix("\n").split("\n")
    line = json.loads(text)
    assert secret not in str(line)
    assert (line["event"], line["deep"]) == ("an.event", [{"x": "[hidden]"}])
