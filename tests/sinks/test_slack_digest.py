"""Many verdicts as one Slack message: what it tells, its limits, and that no text from Runflow can do harm in it."""

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from receiver.core.verdict import GateFailure, Issue, Judge, Verdict
from receiver.sinks.base import Done, Never
from receiver.sinks.slack import SlackOptions
from receiver.sinks.slack_digest import bare, digest
from receiver.sinks.slack_sink import MOST_IN_A_DIGEST
from tests.sinks.any_verdict import VERDICTS
from tests.sinks.messages import RECEIVED, failed_verdict, full_verdict, message
from tests.sinks.servers import LONG
from tests.sinks.slack_side import SlackServer, check_content, check_harmless, texts

PUBLIC_URL = "https://receiver.example"


def told(verdicts: list[Verdict]) -> list[str]:
    """The texts of the digest, in order."""
    return list(texts(digest(verdicts, public_url=PUBLIC_URL)["blocks"]))


def several(count: int, category: str, first: int = 1, **changes: Any) -> list[Verdict]:
    """So many that fail for the same cause, each a little better than the one before."""
    return [
        full_verdict(
            first + number,
            issues=[Issue(judge="identity_preservation", category=category)],
            client_ref=f"{category}-{number}",
            weighted_pass_rate=number / 100,
            received_at=RECEIVED + timedelta(seconds=number),
            **changes,
        )
        for number in range(count)
    ]


def test_seventeen_more_like_this() -> None:
    """How many, since when, by cause the most frequent first, the worst of each with the judge's words, what to do, links."""
    verdicts = [*several(3, "anatomy", 100), *several(13, "identity", 200), failed_verdict(client_ref="order-1")]
    title, overall, causes, action, *rest = told(verdicts)

    assert title == "17 more: 16 not passed, 1 could not be evaluated"
    assert overall.startswith("Arrived 2026-11-18 14:13:23 to 14:13:35 UTC  •  Mean score 5.1%  •  headshot (16)")
    assert causes == "13 × identity\n3 × anatomy\n1 × timed_out"
    assert action == "Suggested action: regenerate (16)"
    assert rest[0].startswith("0%  •  identity-0  •  identity\nFacial identity drifts from the reference")
    assert "\nidentity_preservation: PHASE 1: located both faces." in rest[0]
    assert rest[1].startswith("<https://storage.runflow.io/assets/")
    assert rest[2].startswith(f"<{PUBLIC_URL}/v1/verdicts/")
    shown = [text.splitlines()[0] for text in rest if "  •  " in text]
    assert shown == [
        "0%  •  identity-0  •  identity",
        "1%  •  identity-1  •  identity",
        "0%  •  anatomy-0  •  anatomy",
        "order-1  •  timed_out",
    ]
    assert rest[-1].startswith("The others: anatomy-1, anatomy-2, identity-2,")


def test_one_kind_is_told_in_a_word() -> None:
    """As it reads best."""
    assert told(several(17, "identity"))[0] == "17 more not passed"


def test_of_many_causes_only_some_are_named_and_the_rest_counted() -> None:
    """All are counted."""
    verdicts = [verdict for number in range(12) for verdict in several(12 - number, f"cause-{number}", 100 * number)]
    causes = told(verdicts)[2].splitlines()

    assert causes[0] == "12 × cause-0"
    assert len(causes) == 9
    assert causes[-1] == "10 × another of 4 causes"
    assert sum(int(line.split(" × ")[0]) for line in causes) == len(verdicts)


def test_a_cause_is_found_wherever_there_is_one() -> None:
    """Failing judges' issues before others; gates, judges and the callback's own words where there are none."""
    nothing: dict[str, Any] = {"issues": [], "gate_failures": [], "judges": [], "top_issues": []}
    failing = [Judge(name="hands", passed=False), Judge(name="light", passed=True)]
    changes: list[dict[str, Any]] = [
        {"issues": [Issue(judge="light", category="light"), Issue(judge="hands", category="hand")], "judges": failing},
        {"issues": [Issue(judge="light", category="light")], "judges": failing},
        {"gate_failures": [GateFailure(module="similarity")]},
        {"judges": failing},
        {"top_issues": ["", "  The hand\nhas six fingers "]},
        {},
    ]
    causes = [told([full_verdict(n, **nothing | each)])[2] for n, each in enumerate(changes)]

    assert causes == [
        "1 × hand",
        "1 × light",
        "1 × similarity",
        "1 × hands",
        "1 × The hand has six fingers",
        "1 × no cause given",
    ]


@given(st.lists(VERDICTS, min_size=2, max_size=40))
def test_whatever_runflow_says_a_digest_is_within_slacks_limits_and_harmless(verdicts: list[Verdict]) -> None:
    """Any texts in any fields of any number; every one of them is counted."""
    content = digest(verdicts, public_url=PUBLIC_URL)

    check_content(content)
    check_harmless(content, PUBLIC_URL)
    check_content(bare(verdicts))
    causes = list(texts(content["blocks"]))[2].splitlines()
    assert sum(int(line.split(" × ")[0]) for line in causes if " × " in line) >= len(verdicts)


def test_the_largest_digest_is_within_slacks_limits() -> None:
    """As many as a send takes, with the longest texts and addresses."""
    long = "&<>🙂" * 2000
    verdicts = [
        full_verdict(
            number,
            issues=[Issue(category=f"{number % 20}{long}")],
            client_ref=f"{number}{long}",
            task_type=f"{number}{long}",
            primary_action_code=f"{number}{long}",
            top_issues=[long],
            judges=[Judge(name=long, passed=False, reasoning=long)],
            generated_image_url="https://images.example/" + "x" * 500,
        )
        for number in range(MOST_IN_A_DIGEST)
    ]
    content = digest(verdicts, public_url="https://" + "y" * 200)

    check_content(content)


async def test_several_messages_are_one_post_and_share_its_outcome() -> None:
    """The sink says how many it takes at once."""
    async with SlackServer() as server:
        sink = SlackOptions(name="it", url=server.hook_url, timeout=LONG).open(PUBLIC_URL)
        outcomes = await sink.send([message(number) for number in range(17)])
        await sink.close()

    assert sink.batch == MOST_IN_A_DIGEST
    assert outcomes == [Done()] * 17
    assert [posted.text.splitlines()[0] for posted in server.slack.messages] == ["17 more not passed"]


async def test_a_digest_that_slack_refuses_is_posted_without_what_could_be_the_reason() -> None:
    """Whatever it is about one verdict, the others are not dead letters for it."""
    async with SlackServer() as server:
        sink = SlackOptions(name="it", url=server.hook_url, timeout=LONG).open(PUBLIC_URL)
        server.slack.answers.append((400, b"invalid_blocks", {}))
        taken = await sink.send([message(number) for number in range(3)])
        server.slack.answers.extend([(400, b"invalid_blocks", {})] * 2)
        refused = await sink.send([message(number) for number in range(3)])
        await sink.close()

    assert taken == [Done()] * 3
    assert [posted.text for posted in server.slack.messages] == ["3 more not passed"]
    assert [type(outcome) for outcome in refused] == [Never] * 3


def test_digests_can_be_switched_off() -> None:
    """Then each verdict is a message, and one send takes one."""
    options = SlackOptions(name="it", url="https://hooks.slack.com/services/T/B/x", digest=False)

    assert options.gathering is None
    assert options.open(None).batch == 1
