"""`GET /v1/verdicts`: every word of the filter, pages, and what is refused."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from urllib.parse import quote, urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from receiver.core.matching import WORDS, Filter
from receiver.core.verdict import NOT_IN_LISTS, Judge, Verdict
from receiver.store.reading import Position, Sort
from receiver.web.cursors import cursor_for, read_cursor
from receiver.web.parameters import read_list_query
from tests.web.receivers import Receiver, callback, until
from tests.web.seeds import NOON, key, store, verdict

HANDS = [{"judge": "anatomy", "category": "hands", "subcategory": None, "detail": "six fingers"}]
TEXT = [{"judge": "text", "category": "text/legibility", "subcategory": None, "detail": None}]

STORED = [
    verdict(
        1, overall_passed=True, weighted_pass_rate=1, task_type="headshot", model_id="m-1", client_ref="order-1/a",
        run_id="r-1", issues=TEXT,
    ),
    verdict(
        2, overall_passed=False, weighted_pass_rate=0.5, task_type="headshot", model_id="m-2", client_ref="order-1/b",
        run_id="r-2", issues=[*HANDS, *TEXT], primary_action_code="regenerate",
    ),
    verdict(
        3, overall_passed=False, weighted_pass_rate=0, task_type="ad_creative", client_ref="order-2/a", issues=HANDS,
        primary_action_code="regenerate", tree="unavailable", tree_reason="no_api_key",
    ),
    verdict(4, overall_passed=None, client_ref="ORDER-1/a", origin="reconciled"),
    verdict(
        5, event="evaluation.failed", status="failed", failure_code="timed_out", client_ref="100%_done\\",
        completed_at=None,
    ),
    verdict(6, event="evaluation.failed", status="failed", failure_code="invalid_media", client_ref="null"),
    verdict(7, tree="pending", origin="sample", client_ref="a,b&c=d é\u2028"),
]  # fmt: skip


def minute(number: int, seconds: int = -10) -> str:
    return (NOON + timedelta(minutes=number, seconds=seconds)).isoformat()


FILTERS: list[tuple[str, set[int]]] = [
    ("", {1, 2, 3, 4, 5, 6, 7}),
    ("overall_passed=true", {1}),
    ("overall_passed=false", {2, 3}),
    ("overall_passed=null", {4, 5, 6, 7}),
    ("overall_passed=true&overall_passed=null", {1, 4, 5, 6, 7}),
    ("status=completed", {1, 2, 3, 4, 7}),
    ("status=failed", {5, 6}),
    ("status=running", set()),
    ("event=evaluation.failed", {5, 6}),
    ("failure_code=timed_out", {5}),
    ("failure_code=timed_out&failure_code=invalid_media", {5, 6}),
    ("failure_code=null", {1, 2, 3, 4, 7}),
    ("primary_action_code=regenerate", {2, 3}),
    ("task_type=headshot", {1, 2}),
    ("task_type=headshot&task_type=ad_creative", {1, 2, 3}),
    ("task_type=HEADSHOT", set()),
    ("task_type=head", set()),
    ("model_id=m-2", {2}),
    ("model_id=null&model_id=m-1", {1, 3, 4, 5, 6, 7}),
    ("client_ref=order-1%2Fa", {1}),
    ("client_ref=a%2Cb%26c%3Dd+%C3%A9%E2%80%A8", {7}),
    ("client_ref=null", set()),
    ("client_ref_prefix=order-1", {1, 2}),
    ("client_ref_prefix=order-1%2Fa&client_ref_prefix=ORDER", {1, 4}),
    ("client_ref_prefix=100%25_", {5}),
    ("client_ref_prefix=100%25_done%5C", {5}),
    ("client_ref_prefix=order_", set()),
    ("client_ref_prefix=%25", set()),
    ("client_ref_prefix=", {1, 2, 3, 4, 5, 6, 7}),
    ("run_id=r-1&run_id=r-2", {1, 2}),
    ("issue_category=hands", {2, 3}),
    ("issue_category=hands&issue_category=text/legibility", {1, 2, 3}),
    ("issue_category=null", {4, 5, 6, 7}),
    ("issue_category=HANDS", set()),
    ("weighted_pass_rate_min=0.5", {1, 2}),
    ("weighted_pass_rate_max=0.5", {2, 3}),
    ("weighted_pass_rate_min=0.5&weighted_pass_rate_max=0.5", {2}),
    ("weighted_pass_rate_min=1e-300&weighted_pass_rate_max=0.999", {2}),
    ("weighted_pass_rate_max=0", {3}),
    ("weighted_pass_rate_min=2&weighted_pass_rate_min=1", {1}),
    (f"completed_after={quote(minute(3))}", {3, 4, 6, 7}),
    (f"completed_before={quote(minute(3))}", {1, 2, 3}),
    (f"completed_after={quote(minute(3, -9))}", {4, 6, 7}),
    ("completed_after=2026-11-25T13:02:50%2B01:00&completed_before=2026-11-25T12:02:50Z", {3}),
    ("completed_before=2026-11-25T12:02:50", {1, 2, 3}),
    ("completed_before=2026-11-25", set()),
    ("tree=complete", {1, 2, 4, 5, 6}),
    ("tree=unavailable&tree=pending", {3, 7}),
    ("origin=callback", {1, 2, 3, 5, 6}),
    ("origin=sample&origin=reconciled", {4, 7}),
    ("status=completed&overall_passed=false&task_type=headshot&issue_category=text/legibility", {2}),
    ("status=failed&overall_passed=true", set()),
]


async def found(receiver: Receiver, query: str) -> list[Any]:
    answer = await receiver.get(f"/v1/verdicts?{query}")
    assert answer.status == 200, answer.body
    assert answer.json["next"] is None
    items: list[Any] = answer.json["items"]
    return items


def test_the_table_has_every_word() -> None:
    """No word of the filters is left out of the table above."""
    assert {part.partition("=")[0] for query, _ in FILTERS for part in query.split("&") if part} == set(WORDS)


async def test_filters(receiver: Receiver) -> None:
    """Words must all hold; several values of one mean any of; `null` is no value; bounds include themselves."""
    await store(receiver, *STORED)
    wrong = {}
    for query, expected in FILTERS:
        items = await found(receiver, query)
        if [item["evaluation_id"] for item in items] != [str(key(number)) for number in sorted(expected, reverse=True)]:
            wrong[query] = [item["evaluation_id"][-1] for item in items]
    assert wrong == {}


async def test_one_set_of_rules(receiver: Receiver) -> None:
    """What the API finds must be what a sink's `match` with the same words would be given."""
    await store(receiver, *STORED)
    for query, expected in FILTERS:
        filter_ = read_list_query(QueryParams(query)).filter
        assert {each.evaluation_id for each in STORED if filter_.matches(each)} == {key(n) for n in expected}, query


async def test_items(receiver: Receiver) -> None:
    """Items are verdicts without judges, issues, gate failures, action and check summary, with all else, newest first."""
    whole = verdict(
        1, judges=[Judge(name="anatomy")], issues=HANDS, gate_failures=[{"module": "nsfw"}], check_summary={"a": 1},
        action={"primary_action": "regenerate"}, cost="0.10", top_issues=["hands"],
    )  # fmt: skip
    await store(receiver, whole, verdict(2))
    second, first = await found(receiver, "")
    assert second["evaluation_id"] == str(key(2))
    assert set(first) == set(Verdict.model_fields) - {"judges", "issues", "gate_failures", "action", "check_summary"}
    expected = whole.model_copy(update={"revision": 1}).model_dump(mode="json", exclude=set(NOT_IN_LISTS))
    assert first == expected
    assert (first["received_at"], first["cost"], first["top_issues"]) == ("2026-11-25T12:01:00Z", "0.10", ["hands"])


async def test_what_the_hook_took(receiver: Receiver) -> None:
    """A callback must be in the list soon after it was acknowledged, as pending."""
    evaluation_id, body = callback(client_ref="order-7", top_issues=["hands"])
    await receiver.post(body)

    async def is_there() -> bool:
        return len(await found(receiver, "client_ref=order-7")) == 1

    await until(is_there, "the verdict")
    [item] = await found(receiver, "client_ref=order-7&tree=pending&overall_passed=false")
    assert (item["evaluation_id"], item["top_issues"], item["revision"]) == (str(evaluation_id), ["hands"], 0)


async def pages(receiver: Receiver, query: str, cursor: str | None) -> tuple[list[str], str | None]:
    answer = await receiver.get(f"/v1/verdicts?{query}" + (f"&cursor={cursor}" if cursor else ""))
    assert answer.status == 200, answer.body
    return [item["evaluation_id"] for item in answer.json["items"]], answer.json["next"]


@pytest.mark.parametrize("sort", ["received_at", "completed_at"])
async def test_pages_while_others_arrive(receiver: Receiver, sort: str) -> None:
    """Page by page each verdict that was there at the first must come once and in order, whatever arrives meanwhile."""
    at_once = {"received_at": NOON, "completed_at": NOON}  # as many as this share a moment, and fall on different pages
    there = [verdict(n, **at_once) for n in range(1, 13)] + [verdict(n) for n in range(13, 24)]
    await store(receiver, *there)
    expected = [str(key(number)) for number in range(23, 0, -1)]
    seen: list[list[str]] = []
    cursor, arrived = None, 100
    while cursor is not None or not seen:
        page, cursor = await pages(receiver, f"sort={sort}&limit=5", cursor)
        seen.append(page)
        await store(receiver, verdict(arrived), verdict(arrived + 1))
        arrived += 2
    assert [len(page) for page in seen] == [5, 5, 5, 5, 3]
    assert [each for page in seen for each in page] == expected


async def test_the_last_page_is_full(receiver: Receiver) -> None:
    """Where nothing follows, `next` must be null, also after a full page."""
    await store(receiver, *(verdict(n) for n in range(1, 5)))
    first, cursor = await pages(receiver, "limit=2&status=completed", None)
    last, end = await pages(receiver, "limit=2&status=completed", cursor)
    assert (first, last, end) == ([str(key(4)), str(key(3))], [str(key(2)), str(key(1))], None)


async def test_sorted_by_completion(receiver: Receiver) -> None:
    """`sort=completed_at` is newest completion first; what was never completed has no place in that order."""
    await store(
        receiver,
        verdict(1, completed_at=NOON + timedelta(hours=9)),
        verdict(2, completed_at=None),
        verdict(3, completed_at=NOON - timedelta(hours=9)),
    )
    assert [item["evaluation_id"][-1] for item in await found(receiver, "sort=completed_at")] == ["1", "3"]
    assert [item["evaluation_id"][-1] for item in await found(receiver, "sort=received_at")] == ["3", "2", "1"]


async def test_how_many(receiver: Receiver) -> None:
    """50 if nothing is said, 500 at most."""
    await store(receiver, *(verdict(n) for n in range(1, 502)))
    for query, expected in (("", 50), ("limit=1", 1), ("limit=0500", 500), ("limit=500", 500)):
        page, cursor = await pages(receiver, query, None)
        assert (len(page), cursor is None) == (expected, False)


AT = Position(datetime(2026, 11, 25, 12, tzinfo=UTC), key(1))
GOOD = cursor_for(AT, "received_at", Filter())
NO_CURSOR = "is not one that this service made; begin without it"
WRONG: list[tuple[str, dict[str, str]]] = [
    ("status_code=x", {"status_code": f"unknown; there are {', '.join(WORDS)}, limit, cursor, sort"}),
    ("overall_passed=yes", {"overall_passed": "must be true, false or null"}),
    ("overall_passed=True", {"overall_passed": "must be true, false or null"}),
    ("overall_passed=", {"overall_passed": "must be true, false or null"}),
    ("overall_passed=true&overall_passed=1", {"overall_passed": "must be true, false or null"}),
    ("weighted_pass_rate_min=x", {"weighted_pass_rate_min": "should be a valid number, unable to parse string as a number"}),
    ("weighted_pass_rate_max=nan", {"weighted_pass_rate_max": "should be a finite number"}),
    ("weighted_pass_rate_max=1e999", {"weighted_pass_rate_max": "should be a finite number"}),
    ("weighted_pass_rate_min=null", {"weighted_pass_rate_min": "should be a valid number, unable to parse string as a number"}),
    *(
        (f"limit={text}", {"limit": "must be a whole number from 1 to 500"})
        for text in ("0", "501", "-1", "1.5", "", "x", "9" * 5000, "%D9%A3")
    ),
    ("limit=1&limit=2", {"limit": "given more than once"}),
    ("sort=status", {"sort": "must be one of received_at, completed_at"}),
    ("sort=", {"sort": "must be one of received_at, completed_at"}),
    ("sort=received_at&sort=received_at", {"sort": "given more than once"}),
    *((f"cursor={text}", {"cursor": NO_CURSOR}) for text in (
        "", "x", "%00", "%C3%A9", "!!!", "A" * 9000, GOOD[:-1], GOOD[:-4], GOOD[1:], GOOD + "A", GOOD + "=", GOOD.swapcase(),
        GOOD + "!", GOOD + "%0A", "%20" + GOOD, f"B{GOOD[1:]}", f"_{GOOD[1:]}", f"{GOOD[:44]}AAAA{GOOD[48:]}", str(key(1)),
    )),
    (f"sort=completed_at&cursor={GOOD}", {"cursor": "was made with sort=received_at; the two must go together"}),
    (f"cursor={GOOD}&cursor={GOOD}", {"cursor": "given more than once"}),
    *((f"{words}&cursor={GOOD}", {"cursor": "was made with other filters; begin without it"}) for words in (
        "status=failed", "overall_passed=null", "weighted_pass_rate_min=0.5", "completed_after=2026-11-25",
        "client_ref_prefix=",
    )),
    (f"status=failed&tree=x&limit=0&cursor={GOOD}", {
        "limit": "must be a whole number from 1 to 500", "cursor": "was made with other filters; begin without it",
    }),
    ("task_type=a" + "&task_type=a" * 100, {"task_type": "may be given 100 times"}),
    ("run_id=a&x=1&limit=0&y&sort=z", {
        "x": f"unknown; there are {', '.join(WORDS)}, limit, cursor, sort",
        "y": f"unknown; there are {', '.join(WORDS)}, limit, cursor, sort",
        "limit": "must be a whole number from 1 to 500",
        "sort": "must be one of received_at, completed_at",
    }),
]  # fmt: skip


@pytest.mark.parametrize(("query", "problems"), WRONG, ids=range(len(WRONG)))
async def test_what_is_refused(on_sqlite: Receiver, query: str, problems: dict[str, str]) -> None:
    """An unknown parameter or a bad value must be a 422 that names each, and nothing is guessed."""
    answer = await on_sqlite.get(f"/v1/verdicts?{query}")
    assert (answer.status, answer.json["code"]) == (422, "VALIDATION_ERROR")
    assert {problem["field"]: problem["message"] for problem in answer.json["errors"]} == problems
    assert answer.json["message"] == "; ".join(f"{field}: {problems[field]}" for field in problems)
    assert all(set(problem) == {"field", "message"} for problem in answer.json["errors"])


@pytest.mark.parametrize("word", ["completed_after", "completed_before"])
@pytest.mark.parametrize("value", ["x", "", "2026-13-01", "yesterday", "0001-01-01T00:00:00+14:00", "null", "\x00"])
async def test_times_that_are_none(on_sqlite: Receiver, word: str, value: str) -> None:
    """A time that cannot be read, or cannot be told in UTC, must be a 422 that names the word."""
    answer = await on_sqlite.get(f"/v1/verdicts?{urlencode({word: value})}")
    assert (answer.status, [problem["field"] for problem in answer.json["errors"]]) == (422, [word])


async def test_filters_in_another_order(receiver: Receiver) -> None:
    """A cursor is of what the filters say, in whatever order, and with whatever limit, they are given."""
    await store(receiver, *(verdict(n, task_type=str(n % 3), weighted_pass_rate=1) for n in range(1, 10)))
    words = ["task_type=0", "task_type=1", "weighted_pass_rate_min=0.50"]
    _, cursor = await pages(receiver, "&".join(["limit=2", *words]), None)
    rest, _ = await pages(receiver, "&".join(["weighted_pass_rate_min=0.5", *words[1::-1], "limit=500"]), cursor)
    assert [each[-1] for each in rest] == ["6", "4", "3", "1"]


@given(
    at=st.datetimes(timezones=st.just(UTC)),
    evaluation_id=st.uuids(),
    sort=st.sampled_from(get_args(Sort)),
    change=st.tuples(st.integers(0, 200), st.integers(0, 255)),
)
def test_any_cursor(at: datetime, evaluation_id: UUID, sort: Sort, change: tuple[int, int]) -> None:
    """Every place in the order has a text that leads back to it, and no other text does."""
    position = Position(at, evaluation_id)
    text = cursor_for(position, sort, Filter())
    assert read_cursor(text, sort, Filter()) == position
    assert text.replace("-", "").replace("_", "").isalnum()
    place, character = change[0] % len(text), chr(change[1])
    changed = text[:place] + character + text[place + 1 :]
    if changed != text:
        with pytest.raises(ValueError, match="not one that this service made"):
            read_cursor(changed, sort, Filter())
