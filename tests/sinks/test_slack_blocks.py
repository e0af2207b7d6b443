"""A verdict as a Slack message: what it tells, and that no text from Runflow can break it or do harm in it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.verdict import Action, GateFailure, Judge, Verdict
from receiver.sinks.slack_blocks import has_image, payload
from receiver.sinks.slack_text import plain
from receiver.sinks.summary import percent
from tests.sinks.any_verdict import ANY_TEXT, VERDICTS
from tests.sinks.messages import RECEIVED, evaluation_id, failed_verdict, full_verdict
from tests.sinks.slack_side import HARMLESS, check_content, check_harmless, counted, texts

PUBLIC_URL = "https://receiver.example"


def told(verdict: Verdict) -> str:
    """All of a message's texts."""
    return "\n".join(texts(payload(verdict, public_url=PUBLIC_URL)))


def blocks(verdict: Verdict, kind: str, **options: Any) -> list[dict[str, Any]]:
    """The blocks of one kind."""
    content = payload(verdict, **{"public_url": None, **options})
    return [block for block in content["blocks"] if block["type"] == kind]


def test_a_failing_verdict_tells_what_is_wrong_and_what_to_do() -> None:
    """All that somebody needs who has to decide about the image."""
    message = told(full_verdict())

    for expected in (
        "Not passed, 70%",
        "Evaluation\n" + str(evaluation_id(1)),
        "Client reference\norder-88213/headshot-03",
        "Task type\nheadshot",
        "Top issues\n• Facial identity drifts from the reference",
        "Failing judge: identity_preservation (88% sure)\nPHASE 1: located both faces.",
        "Gate failures\n• identity_similarity: generated_image: Face similarity",
        "Suggested action: regenerate\nThe subject is not recognisable enough",
        "Improved prompt\nstudio lighting, neutral background, keep the exact facial proportions",
        "From a callback",
    ):
        assert expected in message
    assert "prompt_adherence" not in message


def test_the_same_verdict_makes_the_same_message() -> None:
    """Nothing comes in but the verdict."""
    assert payload(full_verdict(), public_url=None) == payload(full_verdict(), public_url=None)


def test_a_message_with_little_in_it_is_whole() -> None:
    """Only what every verdict has: no block is empty, and no label stands without its value."""
    bare = Verdict(
        evaluation_id=evaluation_id(1), event="evaluation.completed", received_at=RECEIVED, tree="complete", revision=1
    )
    content = payload(bare, public_url=None)

    assert [block["type"] for block in content["blocks"]] == ["header", "section", "context"]
    assert list(texts(content["blocks"][:2])) == [
        "No verdict",
        f"Evaluation\n{evaluation_id(1)}",
    ]
    assert content["text"] == f"No verdict\n{evaluation_id(1)}"


def test_a_failed_evaluation_tells_its_failure_code() -> None:
    """It has no verdict, and says so; the tree that could not be had is named with the reason."""
    message = told(failed_verdict())

    for expected in ("Evaluation failed", "Failure\ntimed_out", "Details are not available: no_api_key"):
        assert expected in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"overall_passed": True}, "Passed, 70%"),
        ({"weighted_pass_rate": None}, "Not passed"),
        ({"weighted_pass_rate": 0.9951}, "Not passed, 99.5%"),
        ({"revision": 3}, "Revised: Not passed, 70%"),
        ({"origin": "sample"}, "Test: Not passed, 70%"),
    ],
)
def test_the_title_says_it_in_a_line(changes: dict[str, Any], expected: str) -> None:
    """Verdict and score; whether it was revised, or is a test."""
    [header] = blocks(full_verdict(**changes), "header")

    assert header["text"] == {"type": "plain_text", "text": expected, "emoji": False}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"origin": "reconciled"}, "No callback came"),
        ({"origin": "sample"}, "A test message"),
        ({"revision": 2}, "Revision 2: it takes the place of what was sent before"),
        ({"tree": "unavailable", "tree_reason": "hold"}, "Details are not available: hold"),
        ({"tree": "unavailable", "tree_reason": None}, "Details are not available"),
        ({"superseded_at": datetime(2026, 11, 18, tzinfo=UTC)}, "A later evaluation has superseded this one"),
    ],
)
def test_the_notes_say_where_it_comes_from_and_what_is_missing(changes: dict[str, Any], expected: str) -> None:
    """In small print at the end."""
    [context] = blocks(full_verdict(**changes), "context")

    assert any(text.startswith(expected) for text in texts(context))


def test_of_many_only_a_few_are_shown_and_the_rest_counted() -> None:
    """Somebody is to read this in a channel."""
    verdict = full_verdict(
        top_issues=[f"issue {number}" for number in range(8)],
        judges=[Judge(name=f"judge {number}", passed=False) for number in range(9)],
        gate_failures=[GateFailure(reason=f"gate {number}") for number in range(100)],
    )
    message = told(verdict)

    for shown, hidden, rest in (
        ("issue 4", "issue 5", "and 3 more"),
        ("judge 4", "judge 5", "and 4 more failing judges"),
        ("gate 4", "gate 5", "and 95 more"),
    ):
        assert shown in message
        assert hidden not in message
        assert rest in message


@pytest.mark.parametrize(
    ("action", "code", "expected"),
    [
        (Action(primary_action="regenerate"), "other", ["Suggested action: regenerate"]),
        (None, "regenerate", ["Suggested action: regenerate"]),
        (Action(failure_summary="why"), None, ["Suggested action: none\nwhy"]),
        (Action(improved_prompt="better"), None, ["Improved prompt\nbetter"]),
        (Action(primary_action=" ", improved_prompt="\u202e"), None, []),
    ],
)
def test_what_is_suggested_is_told_as_far_as_it_is_known(
    action: Action | None, code: str | None, expected: list[str]
) -> None:
    """From the tree's action, or else the callback's code."""
    verdict = full_verdict(
        action=action, primary_action_code=code, top_issues=[], judges=[], gate_failures=[], client_ref=None
    )

    assert list(texts(blocks(verdict, "section")[1:])) == expected


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "http://images.example/1.png",
        "runflow://assets/1",
        "data:image/png;base64,AAAA",
        "https://",
        "https://images.example/a b.png",
        "https://images.example/<b>.png",
        'https://images.example/".png',
        "https://images.example/é.png",
        "https://images.example/\n",
        "https://images.example/" + "x" * 3000,
    ],
)
def test_an_image_that_slack_would_refuse_is_left_out(url: str | None) -> None:
    """It would make Slack refuse the whole message."""
    content = payload(full_verdict(generated_image_url=url), public_url=None)

    assert not has_image(content)


def test_the_image_is_shown_unless_it_is_not_wanted() -> None:
    """Its address as it is, with every sign of its query."""
    url = "https://images.example/1.png?a=b&c=%20d"
    [image] = blocks(full_verdict(generated_image_url=url), "image")

    assert (image["image_url"], image["alt_text"]) == (url, "The image that was evaluated")
    assert blocks(full_verdict(generated_image_url=url), "image", with_image=False) == []


def test_the_link_leads_to_the_whole_verdict_where_there_is_an_address() -> None:
    """Ours."""
    verdict = full_verdict(generated_image_url=None)
    with_link = json.dumps(payload(verdict, public_url=PUBLIC_URL + "/"))
    without = json.dumps(payload(verdict, public_url=None))

    assert f"<{PUBLIC_URL}/v1/verdicts/{evaluation_id(1)}|The whole verdict (asks for a token)>" in with_link
    assert "<" not in without


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        (None, 10, ""),
        ("", 10, ""),
        (" \n\t ", 10, ""),
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("a & b", 9, "a &amp; b"),
        ("a & b", 8, "a &amp;…"),
        ("a & b", 7, "a…"),
        ("&&&", 6, "&amp;…"),
        ("<!channel>", 100, "&lt;!channel&gt;"),
        ("🙂🙂", 4, "🙂🙂"),
        ("🙂🙂", 3, "🙂…"),
        ("🙂", 1, "…"),
        ("a\0b\x1b[1mc\x7f", 100, "ab[1mc"),
        ("abc\u202edef\u2066", 100, "abcdef"),
        ("one\u2028two", 100, "one\ntwo"),
        ("x" * 5_000_000, 5, "xxxx…"),
    ],
)
def test_text_is_cleaned_cut_and_escaped(text: str | None, limit: int, expected: str) -> None:
    """In whole characters, never inside an escape, and never longer than the limit."""
    assert plain(text, limit) == expected


@pytest.mark.parametrize(
    ("share", "expected"), [(None, ""), (0, "0%"), (1, "100%"), (0.7, "70%"), (0.123456, "12.3%"), (0.9999, "100%")]
)
def test_a_share_is_told_in_percent(share: float | None, expected: str) -> None:
    """To a tenth, without needless zeros."""
    assert percent(share) == expected


@given(VERDICTS)
def test_whatever_runflow_says_the_message_is_within_slacks_limits_and_harmless(verdict: Verdict) -> None:
    """Any text in any field: blocks that Slack takes, no markup but our links, and what is escaped is escaped whole."""
    content = payload(verdict, public_url=PUBLIC_URL)

    check_content(content)
    check_harmless(content, PUBLIC_URL)


@given(ANY_TEXT, st.integers(1, 4000))
def test_any_text_is_cut_to_any_limit(text: str, limit: int) -> None:
    """Within the limit; whole if it fits; unescaped, its beginning is that of the text."""
    shown = plain(text, limit)

    assert counted(shown) <= limit
    assert "&" not in HARMLESS.sub("", shown)
    whole = plain(text, 100_000)
    assert shown == whole if counted(whole) <= limit else whole.startswith(shown.removesuffix("…"))
