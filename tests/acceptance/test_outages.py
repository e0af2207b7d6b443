"""Runflow's API away, slow or refusing for a while: everything arrives in the end, without a hand."""

from receiver.offline import OfflineRunflow
from receiver.offline.faults import Fault, RateLimited, Slow
from tests.acceptance.books import LookInto, check_books, quiet
from tests.acceptance.collector import Arrival, check_arrived, in_file, sink
from tests.acceptance.load import Callback, Load
from tests.acceptance.processes import API_KEY, SECRET, Install, Server, until
from tests.sinks.servers import free_port


async def test_runflow_down_slow_limited_and_refusing(
    install: Install, sqlite_address: str, look_into: LookInto
) -> None:
    """However the API fails for a while, each verdict goes out once, with its whole tree."""
    port = free_port()
    runflow = OfflineRunflow(secret=SECRET, api_key=API_KEY, port=port)
    place = install(
        sink("out", "file", path="out.ndjson"),
        DATABASE_URL=sqlite_address,
        RUNFLOW_API_URL=f"http://127.0.0.1:{port}",
        RUNFLOW_API_KEY=API_KEY,
    )
    server = await place.serve(forked=True)
    load = Load(server.address)
    await load.post(_some(runflow))
    await server.logged("fetch.again")  # nobody listens
    async with runflow:
        runflow.faults.slow = Slow(seconds=1)
        await load.post(_some(runflow))
        runflow.faults.rate_limited = RateLimited(retry_after=1)
        await load.post(_some(runflow))
        await _paused(server, "rate_limited")
        runflow.faults.rate_limited = runflow.faults.slow = None
        runflow.faults.key_revoked = Fault()
        await load.post(_some(runflow))
        await _paused(server, "key_refused")
        runflow.faults.key_revoked = None
        database = look_into(sqlite_address)
        await quiet(database)
    arrivals = in_file(place.folder / "out.ndjson")
    assert check_arrived(load.acknowledged.values(), arrivals) == 0
    assert {arrival.envelope["data"]["tree"] for arrival in arrivals} == {"complete"}
    await check_books(database, delivered=len(arrivals))


async def test_a_key_that_is_refused_for_longer_than_the_hold(
    install: Install, sqlite_address: str, look_into: LookInto
) -> None:
    """What was held for long enough goes out without its tree, and as a revision with it once the key is good again."""
    async with OfflineRunflow(secret=SECRET, api_key=API_KEY) as runflow:
        place = install(
            "[fetch]\nhold = 1\n" + sink("out", "file", path="out.ndjson"),
            DATABASE_URL=sqlite_address,
            RUNFLOW_API_URL=runflow.url,
            RUNFLOW_API_KEY=API_KEY,
        )
        runflow.faults.key_revoked = Fault()
        server = await place.serve(forked=True)
        load = Load(server.address)
        callbacks = _some(runflow)
        await load.post(callbacks)
        out = place.folder / "out.ndjson"
        await until(lambda: len(in_file(out)) == len(callbacks), "verdicts without their tree")
        assert all(_is(arrival, revision=1, tree="unavailable") for arrival in in_file(out))
        runflow.faults.key_revoked = None
        await until(lambda: len(in_file(out)) == 2 * len(callbacks), "revisions with their tree")
        later = in_file(out)[len(callbacks) :]
        assert all(_is(arrival, revision=2, tree="complete") for arrival in later)
        assert {arrival.envelope["subject"] for arrival in later} == {str(callback.key) for callback in callbacks}
        database = look_into(sqlite_address)
        await quiet(database)
        await check_books(database, delivered=2 * len(callbacks))


def _some(runflow: OfflineRunflow) -> list[Callback]:
    return [Callback(runflow) for _ in range(10)]


async def _paused(server: Server, reason: str) -> None:
    def is_logged() -> bool:
        pauses = server.look("fetch.paused") + server.look("fetch.still_paused")
        return any(record["reason"].startswith(reason) for record in pauses)

    await until(is_logged, f"a pause for {reason}")


def _is(arrival: Arrival, *, revision: int, tree: str) -> bool:
    data = arrival.envelope["data"]
    is_revised = arrival.envelope["type"].endswith(".revised")
    return (data["revision"], data["tree"], is_revised) == (revision, tree, revision > 1)
