"""Whatever stands in an address, the answer is a page, one verdict, or an error that says what is wrong with it."""

from collections.abc import Sequence
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from receiver.core.matching import WORDS
from receiver.web.hook import PATH
from tests.web.logged import Lines
from tests.web.receivers import READER, Receiver, guarded
from tests.web.seeds import key, store, verdict
from tests.web.wire import Answer, Wire, request

HUGE = (b"x" * 9_000, b"9" * 9_000, b"%" * 3_000, b"\xf0\x9f\x92\xa9" * 700)
"""An address of more than 64 KiB is none to the HTTP parser, so that six of these must fit."""
ODD = (
    b"", b"\0", b"a\0b", b"\xed\xa0\x80", b"\xff\xfe", b"\xd9\xa3", b"null", b"true", b"received_at", b"%", b"_", b"\\", b"'",
    b'"; DROP TABLE verdicts; --', b"-0", b"1e308", b"-1e400", b"nan", b"inf", b"1_0", b"0x1", b"1e18", b"-1",
    b"-62135596800", b"253402300800", b"0001-01-01", b"0001-01-01T00:00:00+23:59", b"2026-11-25T12:00:00",
    b"9999-12-31T23:59:59.999999Z", b"9999-12-31T23:59:59-23:59",
)  # fmt: skip
NAMES = (*WORDS, "limit", "cursor", "sort", "embed", "", "x\0")

values = st.sampled_from(ODD) | st.sampled_from(HUGE) | st.binary(max_size=30) | st.text(max_size=30).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)  # fmt: skip
pairs = st.tuples(st.sampled_from(NAMES).map(str.encode) | st.binary(max_size=8), values)
encoded = st.lists(pairs, max_size=6).map(
    lambda chosen: "&".join(f"{quote_from_bytes(name)}={quote_from_bytes(value)}" for name, value in chosen)
)
raw = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=60)
queries = encoded | raw
segments = values.map(quote_from_bytes).filter(lambda text: text not in ("", ".", ".."))

shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


async def ask(receiver: Receiver, targets: Sequence[str]) -> list[Answer]:
    async with Wire(receiver.port) as wire:
        headers = [("Authorization", f"Bearer {READER}")]
        return [guarded(await wire.ask(request("GET", target, headers))) for target in targets]


def is_a_page_or_told_why(answer: Answer) -> bool:
    if answer.status == 200:
        return set(answer.json) == {"items", "next"}
    return answer.status == 422 and all(problem["message"] for problem in answer.json["errors"])


@pytest.fixture
async def both(sqlite_receiver: Receiver, postgres_receiver: Receiver, lines: Lines) -> list[Receiver]:
    """One receiver on each kind of database, with a verdict in it."""
    for receiver in (sqlite_receiver, postgres_receiver):
        await receiver.forget()
        await store(receiver, verdict(1, client_ref="order-1"))
    return [sqlite_receiver, postgres_receiver]


@shared
@given(query=queries)
@example(query="&".join(f"{word}=%00" for word in WORDS))
@example(query="&".join(f"{word}=null" for word in WORDS))
@example(query="client_ref=a&" * 99 + "client_ref=a")
@example(query="&".join(f"{word}={value}" for word in ("client_ref", "task_type", "run_id") for value in range(100)))
@example(query="x&" * 10_000)
@example(query="client_ref_prefix=" + "a" * 60_000)
async def test_any_query(both: list[Receiver], query: str) -> None:
    """A list is never answered with a status other than 200 and 422, and both databases say the same."""
    one, other = [(await ask(receiver, [f"/v1/verdicts?{query}"]))[0] for receiver in both]
    assert is_a_page_or_told_why(one), (one.status, one.body[:500])
    assert (one.status, one.body) == (other.status, other.body)


@shared
@given(segment=segments, query=queries)
async def test_any_id(sqlite_receiver: Receiver, lines: Lines, segment: str, query: str) -> None:
    """One verdict is never asked for so that the answer is other than 404 or 422."""
    [answer] = await ask(sqlite_receiver, [f"/v1/verdicts/{segment}?{query}"])
    assert answer.status in (404, 422), (answer.status, answer.body[:500])
    assert answer.json["code"] in ("NOT_FOUND", "VALIDATION_ERROR")


@shared
@given(query=queries)
async def test_any_embed(both: list[Receiver], query: str) -> None:
    """With an id that is there the answer is 200 or 422."""
    for receiver in both:
        [answer] = await ask(receiver, [f"/v1/verdicts/{key(1)}?{query}"])
        assert answer.status in (200, 422), (answer.status, answer.body[:500])


@shared
@given(segment=segments, query=queries)
async def test_any_address(sqlite_receiver: Receiver, lines: Lines, segment: str, query: str) -> None:
    """An address that is not served is 404, and the hook takes nothing but POST, whatever follows it."""
    answers = await ask(sqlite_receiver, [f"/x/{segment}?{query}", f"{PATH}?{query}", f"{PATH}/{segment}"])
    assert [answer.status for answer in answers] == [404, 405, 404]
