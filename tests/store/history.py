"""A history in which everything happens that can happen to an evaluation, for tests that look over all of it."""

from collections.abc import Sequence

from receiver.core.matching import Filter
from receiver.core.routing import Route
from receiver.store import fetches, outbox, outbox_desk, results
from receiver.store.attempts import Failure
from receiver.store.database import Database
from receiver.store.outbox import Settled, State
from receiver.store.outbox_desk import DeliveryFilter
from receiver.store.tables import deliveries
from tests.store.building import (
    ALL,
    FILE,
    HOLD,
    NOW,
    SAMPLE,
    accepted,
    arrival,
    claimed,
    fetched_again,
    finished,
    key,
    other,
    released,
    stage,
    staged,
    taken,
)  # fmt: skip
from tests.store.places import put

ROUTES = (ALL, FILE, Route("bad", (Filter(overall_passed=("false",)),)))
SINKS = ("all", "file", "bad")
ENDS: Sequence[State] = ("delivered", "delivered", "dead", "dead", "pending")


async def mixed(database: Database) -> None:
    """A history of everything that happens: 12 evaluations, in all states, with deliveries in all states."""
    await released(database, *range(5), routes=ROUTES)  # 0 to 4 are released with their trees
    await fetched_again(database, 0, routes=ROUTES, overall_passed=True)
    await fetched_again(database, 0, routes=ROUTES, overall_passed=None)
    await fetched_again(database, 1, routes=ROUTES)  # the same again
    await staged(database, 5)  # goes out without its tree, which comes later
    await database.write(fetches.release_held, ROUTES, limit=9, now=NOW + HOLD)
    await finished(database, (await claimed(database, now=NOW + HOLD)).values(), routes=ROUTES, now=NOW + HOLD)
    await staged(database, 6, now=NOW + HOLD)  # given up
    [fetch] = (await claimed(database, now=NOW + HOLD)).values()
    await database.write(fetches.give_up, fetch, "refused", ROUTES, NOW + HOLD)
    await staged(database, 7, 8, now=NOW + HOLD)  # 7 is being fetched, 8 is due
    await claimed(database, limit=1, now=NOW + HOLD)
    await accepted(database, arrival(SAMPLE))
    await stage(database)
    await database.write(fetches.release_held, ROUTES, limit=9, now=NOW)
    await accepted(database, arrival(9), arrival(2, "evaluation.failed"), arrival(3, n=1), arrival(3), arrival(3))
    await accepted(database, arrival(10), arrival(10, "evaluation.failed"), other(b"?"), other(b"!", kind="ignored"))
    claims = await taken(database, limit=6)
    for claim, state in zip(claims, ENDS, strict=False):
        ended = None if state == "pending" else NOW
        failure = None if state == "delivered" else Failure(NOW, "dead" if ended else "again", "503", status=503)
        settled = Settled(claim.id, claim.claim, state, None if ended else NOW, ended, failure=failure)
        await database.write(outbox.settle, [settled])
    await database.write(outbox_desk.discard, DeliveryFilter(ids=(claims[3].id,)), NOW)
    await database.write(put, deliveries, results.new_delivery(key(0), "all", 3, NOW, replay_id="r1"))
