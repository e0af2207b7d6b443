"""`receiver verdicts show ID --timeline`: what happened to one evaluation, line by line."""

from sqlalchemy import Connection

from receiver.core.routing import Route
from receiver.store import intake, outbox
from receiver.store.attempts import Failure
from receiver.store.outbox import Settled
from tests.cli.installation import Installation
from tests.store.building import LEASE, NOW, SECOND, arrival
from tests.web.seeds import key, stored, verdict


def failed_once(conn: Connection) -> None:
    """An evaluation whose delivery was refused once, with words that a terminal would obey, and then taken."""
    intake.accept(conn, [arrival(key(1), completed_at=None)])
    stored(conn, [verdict(1, overall_passed=False)], routes=[Route("queue")])
    [claim] = outbox.claim(conn, "queue", limit=1, lease=LEASE, now=NOW.replace(year=2027))
    failure = Failure(NOW, "again", "\x1b[2Jrefused")
    outbox.settle(conn, [Settled(claim.id, claim.claim, "pending", NOW, error="refused", failure=failure)])
    [claim] = outbox.claim(conn, "queue", limit=1, lease=LEASE, now=NOW)
    outbox.settle(conn, [Settled(claim.id, claim.claim, "delivered", ended_at=NOW + SECOND, remote_id="1700-0")])


def test_timeline(here: Installation) -> None:
    """A line for each thing that happened, to the millisecond, with all that is known of it and no control characters."""
    here.write(failed_once)
    said = here.run("verdicts", "show", key(1), "--timeline")
    assert (said.status, said.err) == (0, "")
    lines = " ".join(said.out.split())
    assert "2026-11-18 14:00:00.000 received event evaluation.completed, origin callback, secret_label old" in lines
    assert "oddities completed_at is missing" in lines
    assert (
        "delivery_failed delivery 1, sink queue, revision 1, outcome again, attempt 1, reason [2Jrefused, due_at"
        in lines
    )
    assert "2026-11-18 14:00:01.000 delivered delivery 1, sink queue, revision 1, attempt 2, remote_id 1700-0" in lines
    assert "\x1b" not in said.out
    as_json = here.run("verdicts", "show", key(1), "--timeline", "--json").json
    assert {entry["what"] for entry in as_json["items"]} == {
        "received", "fetched", "released", "delivery_failed", "delivered",
    }  # fmt: skip
    assert as_json["complete"] is True


def test_nothing_known(here: Installation) -> None:
    """An id that never came is told as such."""
    said = here.run("verdicts", "show", key(9), "--timeline")
    assert (said.status, said.out, said.err) == (1, "", f"there is no evaluation {key(9)} here\n")
