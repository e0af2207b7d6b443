"""A burst of failing verdicts from stored events to Slack: few messages, every verdict accounted for, through a crash."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from receiver.offline import OfflineRunflow
from receiver.pipeline.deliver import SinkPlan
from receiver.pipeline.pipeline import Pipeline
from receiver.settings import Settings
from receiver.sinks.slack import SlackOptions
from receiver.store import lanes
from receiver.store.audit import audit
from receiver.store.database import Database, system_clock
from receiver.web.slack import PATH
from receiver.wiring import sink_plan
from tests.pipeline.clock import until, until_awaited
from tests.pipeline.desk import KEY, Desk
from tests.pipeline.outage import Interrupted
from tests.pipeline.whole import kill, plan_for, running
from tests.sinks.slack_side import CHANNEL, TOKEN, Posted, SlackServer, click, signed_by_slack
from tests.store.places import copied
from tests.web.receivers import serving, settings_for

BURST = 500
QUICK = {"rate": 100, "digest_within": 3, "digest_gather": 0.3, "digest_longest": 1}


@pytest.fixture
def clock() -> Callable[[], datetime]:
    """Here the time runs: what loops by itself must not be moved."""
    return system_clock


def plan(url: str) -> SinkPlan:
    """A webhook, as the service is wired."""
    options = SlackOptions.model_validate({"name": "log", "url": url, **QUICK})
    return sink_plan(options, Settings())


async def all_delivered(desk: Desk, count: int) -> bool:
    return (await desk.states()).count("delivered") == count


def told(server: SlackServer) -> int:
    """How many verdicts the messages speak of, by their titles."""
    titles = [message.text.splitlines()[0] for message in server.slack.messages]
    return sum(int(title.split(" more")[0]) if " more" in title else 1 for title in titles)


async def test_a_service_from_the_callback_to_the_thumb(
    runflow: OfflineRunflow, migrated_file: Path, tmp_path: Path
) -> None:
    """As it is run: a callback becomes a message of the bot's; a click on it is in Runflow's feedback and in the message."""
    async with SlackServer() as server:
        sink = f"""[[sinks]]
            name = "slack"
            type = "slack"
            channel = "{CHANNEL}"
            api_url = "{server.api_url}"
            """
        settings = settings_for(
            f"sqlite:///{copied(migrated_file, tmp_path)}",
            tmp_path,
            sink,
            RUNFLOW_API_URL=runflow.url,
            RUNFLOW_API_KEY=KEY,
            SLACK_BOT_TOKEN=TOKEN,
            SLACK_SIGNING_SECRET="signing",
        )
        assert settings.warnings == ()
        async with serving(settings, runs_pipeline=True) as receiver:
            key = runflow.add(kind="not_passed", client_ref="order-1")
            await receiver.post(runflow.callback_body(key))
            await until(lambda: len(server.slack.messages) == 1)
            at = system_clock().timestamp()
            body = click(server.slack.messages[0], "rate_up", at=at)
            headers = [*signed_by_slack(body, "signing", at).items()]
            assert (await receiver.ask("POST", PATH, headers, body)).status == 200
            await until(lambda: "👍 <@U0ANNA>" in server.slack.messages[0].text)
            feedback = runflow.evaluations.get(key).feedback
            assert feedback is not None
            assert feedback.is_positive is True
            again = runflow.add(kind="not_passed", client_ref="order-1")
            await receiver.post(runflow.callback_body(again))
            await receiver.service.reload(settings)  # a new lane knows nothing of the burst, and need not wait
            await until(lambda: len(server.slack.messages) == 2)
            assert server.slack.messages[1].thread == server.slack.messages[0].ts


async def adds_up(database: Database) -> None:
    books = await database.read(audit, ["log"])
    assert (books.adds_up, books.exceptions) == (True, [])
    [sink] = books.sinks
    assert sink.due == sink.by_state["delivered"] == BURST


async def test_a_burst_is_few_messages_and_none_is_missing(desk: Desk, database: Interrupted) -> None:
    """500 verdicts: the first by itself, the others in digests that tell of each."""
    async with SlackServer() as server:
        async with running(database, desk.bells, plan_for(None, [plan(server.hook_url)])):
            await desk.release(BURST)
            await until_awaited(lambda: all_delivered(desk, BURST))
        assert told(server) == BURST
        assert len(server.slack.messages) <= 6
        assert server.slack.messages[0].text.startswith("Not passed")
    await adds_up(database)


async def test_killed_after_slack_took_it_a_digest_is_repeated_and_nothing_is_lost(
    desk: Desk, database: Interrupted
) -> None:
    """The process dies between Slack's yes and the note of it: the same again, in another process, and no more than that."""
    async with SlackServer() as server:

        def die_at_the_digest(posted: Posted) -> None:
            database.away = " more" in posted.text  # what Slack says to it is not written down

        server.slack.noticed = die_at_the_digest
        first = Pipeline(database, desk.bells, plan_for(None, [plan(server.hook_url)]))
        await desk.release(BURST)
        first.start()
        await until(lambda: database.away and database.refused > 0)
        await kill(first)
        before = told(server)
        server.slack.noticed = lambda _: None
        database.away = False
        await database.write(lanes.free_all_leases, database.now())
        async with running(database, desk.bells, plan_for(None, [plan(server.hook_url)])):
            await until_awaited(lambda: all_delivered(desk, BURST))
        assert before == BURST
        assert told(server) == 1 + 2 * (BURST - 1)
    await adds_up(database)
