"""Reading settings again while the service runs: all or nothing, and nothing is lost on the way."""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.typing import EventDict

from receiver.errors import SettingsError
from receiver.offline import OfflineRunflow
from receiver.pipeline import pipeline as pipelines
from receiver.pipeline.pipeline import Pipeline
from receiver.settings import Settings
from receiver.store import lanes
from receiver.wiring import Service
from tests.pipeline.clock import DEADLINE, until, until_awaited
from tests.pipeline.desk import KEY, living
from tests.pipeline.serving import SECRET, TOKEN, Asked, arrived, asked, file_sink, settings_for

NEW_SECRET = "whsec_after_the_reload"
NEW_TOKEN = "another-token-of-the-service-tests"
REDIS_SINK = '[[sinks]]\nname = "stream"\ntype = "redis"\nurl = "redis://127.0.0.1:6379/0"\nstream = "verdicts"\n'


def settings(folder: Path, *sinks: str, **environ: str) -> Settings:
    toml = "".join(sink if sink.startswith("[") else file_sink(sink, folder) for sink in sinks)
    return settings_for(folder, f"sqlite:///{folder / 'receiver.db'}", toml, **environ)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Asked]:
    """A service with one sink, `first`, and no key."""
    service = Service(settings(tmp_path, "first"), runs_pipeline=True)
    await service.start()
    async with asked(service) as client:
        yield client
    await service.stop()


async def post_one(client: Asked, runflow: OfflineRunflow, secret: str = SECRET) -> tuple[int, str]:
    """The status of a new callback, and the id of its message."""
    key = runflow.add(kind="passed")
    return await client.post(runflow.callback_body(key), secret), f"{key}:evaluation.completed:1"


async def test_secrets_tokens_and_sinks_are_replaced(client: Asked, tmp_path: Path, runflow: OfflineRunflow) -> None:
    """What was good before is good no more, and the new is; the sink that was taken away gets nothing new."""
    status, first = await post_one(client, runflow)
    assert status == 202
    await until(lambda: arrived("first", tmp_path) == [first])
    new = settings(tmp_path, "second", RUNFLOW_WEBHOOK_SECRET=NEW_SECRET, RECEIVER_API_TOKENS=f"new:read={NEW_TOKEN}")
    await client.service.reload(new)
    assert (await post_one(client, runflow))[0] == 401
    status, second = await post_one(client, runflow, NEW_SECRET)
    assert status == 202
    await until(lambda: arrived("second", tmp_path) == [second])
    assert arrived("first", tmp_path) == [first]
    key = runflow.add()
    assert (await client.verdict(key, TOKEN), await client.verdict(key, NEW_TOKEN)) == (401, 404)


async def test_a_key_that_comes_is_used(client: Asked, tmp_path: Path, runflow: OfflineRunflow) -> None:
    """From then on trees are fetched; without a key verdicts went out alone."""
    _, alone = await post_one(client, runflow)
    await until(lambda: arrived("first", tmp_path) == [alone])
    assert len(runflow.requests) == 0
    await client.service.reload(settings(tmp_path, "first", RUNFLOW_API_URL=runflow.url, RUNFLOW_API_KEY=KEY))
    _, fetched = await post_one(client, runflow)
    await until(lambda: arrived("first", tmp_path) == [alone, fetched])
    assert len(runflow.requests) == 1
    assert len(await living(client.service.database)) == 1


async def test_what_is_paused_is_tried_at_once(client: Asked, tmp_path: Path, runflow: OfflineRunflow) -> None:
    """A lane that is paused for long because a key was refused does not wait on when a new key has come."""
    database = client.service.database
    with_key = {"RUNFLOW_API_URL": runflow.url, "RUNFLOW_API_KEY": KEY}
    await client.service.reload(settings(tmp_path, "first", **(with_key | {"RUNFLOW_API_KEY": "rf_live_wrong"})))
    now = database.now()
    tomorrow = now + timedelta(days=1)
    await database.write(lanes.pause, lanes.FETCH, until=tomorrow, reason="key_refused: 401", now=now)
    _, message = await post_one(client, runflow)
    await client.service.reload(settings(tmp_path, "first", **with_key))
    await until(lambda: arrived("first", tmp_path) == [message])
    assert (await database.read(lanes.state, lanes.FETCH)).failures == 0


async def test_a_sink_that_cannot_be_opened_leaves_all_as_it_was(
    client: Asked, tmp_path: Path, runflow: OfflineRunflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old secret, tokens and sinks are still good."""
    wrong = settings(tmp_path, "second", REDIS_SINK, RUNFLOW_WEBHOOK_SECRET=NEW_SECRET)
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "redis"]:
            patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, "redis", None)
        with pytest.raises(SettingsError, match=r"sink stream: .*pip install 'runflow-receiver\[redis\]'"):
            await client.service.reload(wrong)
    assert (await post_one(client, runflow, NEW_SECRET))[0] == 401
    status, message = await post_one(client, runflow)
    assert status == 202
    await until(lambda: arrived("first", tmp_path) == [message])
    assert arrived("second", tmp_path) == []


async def test_what_needs_a_restart_is_told_and_stays(
    client: Asked, tmp_path: Path, runflow: OfflineRunflow, logged: list[EventDict]
) -> None:
    """Another database and another port are not taken; the log says so, and everything else is."""
    new = settings(tmp_path, "second", RECEIVER_PORT="4711")
    other = new.model_copy(update={"database_url": settings_for(tmp_path, "sqlite:///other.db").database_url})
    await client.service.reload(other)
    [told] = [entry for entry in logged if entry["event"] == "settings.need_a_restart"]
    assert told["settings"] == ["database_url", "port"]
    _, message = await post_one(client, runflow)
    await until(lambda: arrived("second", tmp_path) == [message])
    assert not (tmp_path / "other.db").exists()


async def test_callbacks_that_come_during_a_reload_are_taken(
    client: Asked, tmp_path: Path, runflow: OfflineRunflow
) -> None:
    """Nobody is turned away while the sinks are replaced, over and over, and each message arrives once."""
    sent: list[str] = []
    done = asyncio.Event()

    async def post_on() -> None:
        while not done.is_set():
            status, message = await post_one(client, runflow)
            assert status == 202
            sent.append(message)
            await asyncio.sleep(0.01)  # so that there are not thousands of them to be looked through

    posting = asyncio.create_task(post_on())
    for number in range(8):
        await client.service.reload(settings(tmp_path, "first", "second" if number % 2 else "third"))

        def more(than: int = len(sent)) -> bool:
            return len(sent) > than

        await until(more)
    done.set()
    await posting
    await until(lambda: len(arrived("first", tmp_path)) >= len(sent))
    assert sorted(arrived("first", tmp_path)) == sorted(sent)


async def test_several_reloads_at_once_end_with_the_last(
    client: Asked, tmp_path: Path, runflow: OfflineRunflow
) -> None:
    """They come one after the other; one pipeline runs in the end."""
    await asyncio.gather(
        *(client.service.reload(settings(tmp_path, name)) for name in ("second", "third", "second", "fourth"))
    )
    _, message = await post_one(client, runflow)
    await until(lambda: arrived("fourth", tmp_path) == [message])
    assert [arrived(name, tmp_path) for name in ("second", "third")] == [[], []]

    async def one_lives() -> bool:
        return len(await living(client.service.database)) == 1

    await until_awaited(one_lives)


async def test_a_stop_during_a_reload_leaves_nothing_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline that was to follow is not started any more."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    stop = Pipeline.stop
    started: list[Pipeline] = []
    start = Pipeline.start

    async def slow_stop(pipeline: Pipeline) -> None:
        begun.set()
        await go_on.wait()
        await stop(pipeline)

    def noted_start(pipeline: Pipeline) -> None:
        started.append(pipeline)
        start(pipeline)

    monkeypatch.setattr(pipelines.Pipeline, "stop", slow_stop)
    monkeypatch.setattr(pipelines.Pipeline, "start", noted_start)
    service = Service(settings(tmp_path, "first"), runs_pipeline=True)
    await service.start()
    reloading = asyncio.create_task(service.reload(settings(tmp_path, "second")))
    await begun.wait()
    stopping = asyncio.create_task(service.stop())
    await until(lambda: service._is_stopping)
    go_on.set()
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(reloading, stopping)
    assert len(started) == 1
