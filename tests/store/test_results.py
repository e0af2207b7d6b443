"""Releasing results: revisions, whom they are due to, the tree as rows; all in one transaction."""

import json
from typing import Any

import pytest
from sqlalchemy import Connection, Table
from sqlalchemy.exc import IntegrityError

from receiver.core.matching import Filter
from receiver.core.routing import Route
from receiver.core.verdict import Action, GateFailure, Issue, Judge, Verdict, without_tree
from receiver.store import fetches, reading, results, staging
from receiver.store.database import Database
from receiver.store.results import Found
from receiver.store.rows import insert_rows
from receiver.store.tables import actions, deliveries, gate_failures, issues, judges, revisions, trees, verdicts
from tests.store.building import (
    ALL,
    FILE,
    NOW,
    SAMPLE,
    SECOND,
    accepted,
    arrival,
    claimed,
    fetched_again,
    finished,
    key,
    released,
    stage,
    staged,
    taken,
    tree_of,
)  # fmt: skip
from tests.store.places import rows

GOOD = Route("good", (Filter(overall_passed=("true",)),))
BAD = Route("bad", (Filter(overall_passed=("false",)),))
LATER = NOW + 60 * SECOND


async def stored(database: Database, number: int = 1) -> Verdict:
    found = await database.read(reading.one, key(number))
    assert found is not None
    return found


async def due(database: Database) -> list[tuple[Any, ...]]:
    return await database.read(rows, deliveries, "sink", "revision")


async def test_first(database: Database) -> None:
    """The first result is revision 1 and due now to each sink that matches; the row says what the document says."""
    [it] = await released(database, 1, routes=[GOOD, BAD, ALL])
    assert (it.verdict.revision, it.is_new, it.sinks) == (1, True, ["bad", "all"])
    assert await stored(database) == it.verdict
    columns = list(results.row_of(it.verdict))
    [row] = await database.read(rows, verdicts, *columns)
    assert dict(zip(columns, row, strict=True)) == results.row_of(it.verdict)
    assert await database.read(rows, verdicts, "due_to", "tree_updated_at") == [('["bad","all"]', NOW)]
    columns = [
        "sink",
        "revision",
        "replay_id",
        "state",
        "due_at",
        "created_at",
        "started_at",
        "attempts",
        "claim",
        "ended_at",
    ]
    rest = (1, "", "pending", NOW, NOW, NOW, 0, 0, None)
    assert await database.read(rows, deliveries, *columns) == [("all", *rest), ("bad", *rest)]


async def test_same_again(database: Database) -> None:
    """The same result again is no revision and goes nowhere, but the image's address, which expires, is the new one."""
    await released(database, 1)
    [it] = await fetched_again(database, 1, now=LATER, generated_image_url="https://cdn.example/2", updated_at=LATER)
    assert (it.verdict.revision, it.is_new, it.sinks) == (1, False, [])
    assert (await stored(database)).generated_image_url == "https://cdn.example/2"
    assert await due(database) == [("all", 1)]
    assert await database.read(rows, verdicts, "due_to", "tree_updated_at") == [('["all"]', LATER)]
    assert await database.read(rows, revisions, "revision") == []
    assert await database.read(rows, trees, "fetched_at") == [(LATER,)]


async def test_revision(database: Database) -> None:
    """A result that differs goes to the sinks that were given an earlier one and to those that match now."""
    await released(database, 1, routes=[GOOD, BAD])
    [it] = await fetched_again(database, 1, routes=[GOOD, BAD], now=LATER, overall_passed=True)
    assert (it.verdict.revision, it.is_new, it.sinks) == (2, True, ["good", "bad"])
    assert await due(database) == [("bad", 1), ("bad", 2), ("good", 2)]
    assert await database.read(rows, revisions, "revision", "due_to") == [(1, '["bad"]')]
    assert (await stored(database)).overall_passed is True


async def test_given_long_ago(database: Database) -> None:
    """A sink that was given the first revision gets the third, also if it was not configured at the second."""
    await released(database, 1, routes=[BAD])
    [second] = await fetched_again(database, 1, routes=[GOOD], overall_passed=True)
    [third] = await fetched_again(database, 1, routes=[BAD], overall_passed=None)
    assert (second.sinks, third.sinks, third.verdict.revision) == (["good"], ["bad"], 3)
    assert await database.read(rows, revisions, "revision", "due_to") == [(1, '["bad"]'), (2, '["good"]')]


async def test_sink_taken_away(database: Database) -> None:
    """A sink that is not configured any more gets nothing new."""
    await released(database, 1, routes=[ALL, BAD])
    [it] = await fetched_again(database, 1, routes=[BAD], top_issues=["x"])
    assert it.sinks == ["bad"]
    assert await due(database) == [("all", 1), ("bad", 1), ("bad", 2)]


async def test_new_sink(database: Database) -> None:
    """A sink that is new gets nothing of what went out before, until that changes."""
    await released(database, 1)
    [same] = await fetched_again(database, 1, routes=[ALL, BAD])
    [changed] = await fetched_again(database, 1, routes=[ALL, BAD], top_issues=["x"])
    assert (same.sinks, changed.sinks) == ([], ["all", "bad"])


async def test_no_sinks(database: Database) -> None:
    """Where nothing matches the result is stored and numbered all the same."""
    [it] = await released(database, 1, routes=[GOOD])
    assert (it.verdict.revision, it.sinks) == (1, [])
    assert await due(database) == []
    assert await database.read(rows, verdicts, "due_to") == [("[]",)]


async def test_older_answer(database: Database) -> None:
    """An answer that Runflow changed earlier than the one that is stored changes nothing; one of the same time may."""
    await released(database, 1, updated_at=LATER)
    assert await fetched_again(database, 1, updated_at=NOW, overall_passed=True) == []
    assert (await stored(database)).overall_passed is False
    [it] = await fetched_again(database, 1, updated_at=LATER, overall_passed=True)
    assert it.verdict.revision == 2
    [it] = await fetched_again(database, 1, updated_at=None, overall_passed=None)
    assert it.verdict.revision == 3
    assert await database.read(rows, verdicts, "tree_updated_at") == [(LATER,)]


async def test_callback_alone_never_over_a_tree(database: Database) -> None:
    """A callback alone undoes neither a tree nor what went out without one."""
    [it] = await released(database, 1)
    for _ in range(2):
        alone = Found(without_tree(it.verdict, "server_error"))
        assert await database.write(results.release, [alone], [ALL], NOW) == []
    assert (await stored(database)).tree == "complete"
    await staged(database, 2)
    alone = Found(without_tree(await stored(database, 2), "server_error"))
    assert len(await database.write(results.release, [alone], [ALL], NOW)) == 1
    assert await database.write(results.release, [alone], [ALL], NOW) == []
    assert (await stored(database, 2)).revision == 1


async def test_tree_after_all(database: Database) -> None:
    """A tree that comes after the verdict went out without it is a revision."""
    await staged(database, 1)
    alone = Found(without_tree(await stored(database), "server_error"))
    [first] = await database.write(results.release, [alone], [ALL], NOW)
    [second] = await finished(database, (await claimed(database)).values())
    assert [(it.verdict.tree, it.verdict.tree_reason, it.verdict.revision) for it in (first, second)] == [
        ("unavailable", "server_error", 1),
        ("complete", None, 2),
    ]
    assert await due(database) == [("all", 1), ("all", 2)]


async def children(database: Database, number: int = 1) -> dict[str, list[dict[str, Any]]]:
    """The tree of one evaluation as rows, in order."""

    def read(conn: Connection, table: Table) -> list[dict[str, Any]]:
        query = table.select().where(table.c.evaluation_id == key(number))
        ordered = query.order_by(*(column for column in table.primary_key.columns))
        return [row._asdict() for row in conn.execute(ordered)]

    return {table.name: await database.read(read, table) for table in (judges, issues, gate_failures, actions)}


def expected(verdict: Verdict) -> dict[str, list[dict[str, Any]]]:
    """The same rows out of the document."""

    def numbered(parts: list[Any]) -> list[dict[str, Any]]:
        return [
            {"evaluation_id": verdict.evaluation_id, "position": n, **part.model_dump()} for n, part in enumerate(parts)
        ]

    of_judges = numbered(verdict.judges)
    for row in of_judges:
        for name in ("evidence", "sub_point_results"):
            row[name] = None if row[name] is None else json.dumps(row[name], separators=(",", ":"), ensure_ascii=False)
    action = [] if verdict.action is None else [verdict.action.model_dump() | {"evaluation_id": verdict.evaluation_id}]
    return {
        "judges": of_judges,
        "issues": numbered(verdict.issues),
        "gate_failures": numbered(verdict.gate_failures),
        "actions": action,
    }


async def test_tree_as_rows(database: Database) -> None:
    """Judges, issues, gate failures and action are rows that say what the document says; a new tree replaces them all."""
    await released(database, 2)
    [it] = await released(
        database,
        1,
        judges=[
            Judge(id=f"j{n}", name="é", passed=n > 1, confidence=0.1, evidence=["a"], sub_point_results={"é": [n]})
            for n in range(5)
        ] + [Judge()],
        issues=[Issue(judge="é", category="c", subcategory=None, detail="d"), Issue()],
        gate_failures=[GateFailure(output_key="k", module="m", reason="r"), GateFailure()],
        action=Action(primary_action="regenerate", failure_summary="s", improved_prompt="p"),
    )  # fmt: skip
    assert await children(database) == expected(it.verdict)
    fewer: dict[str, Any] = {
        "judges": [Judge(id="other")], "issues": [], "gate_failures": [GateFailure()], "action": None,
    }  # fmt: skip
    [again] = await fetched_again(database, 1, **fewer)
    assert await children(database) == expected(again.verdict)
    assert await children(database, 2) == expected(await stored(database, 2))
    assert await database.read(rows, trees, "evaluation_id", "body") == [
        (key(n), b'{"id": "as it came"}') for n in (1, 2)
    ]


async def test_earlier_revision_is_sent_as_it_was(database: Database) -> None:
    """A delivery of an earlier revision carries that revision's document, however late it is sent."""
    await released(database, 1)
    await fetched_again(database, 1, overall_passed=True)
    await fetched_again(database, 1, overall_passed=None)
    await fetched_again(database, 1, overall_passed=None, generated_image_url="https://cdn.example/9")
    verdicts_ = [Verdict.model_validate_json(each.document) for each in await taken(database)]
    sent = {verdict.revision: verdict for verdict in verdicts_}
    assert {number: verdict.overall_passed for number, verdict in sent.items()} == {1: False, 2: True, 3: None}
    assert sent[3].generated_image_url == "https://cdn.example/9"
    assert sent[3] == await stored(database)
    assert {verdict.message_id for verdict in sent.values()} == {
        f"{key(1)}:evaluation.completed:{n}" for n in (1, 2, 3)
    }


async def test_samples(database: Database) -> None:
    """A sample goes to no sink but those that take samples, whatever matches."""
    await accepted(database, arrival(SAMPLE))
    await stage(database)
    found = await database.write(fetches.release_held, [ALL, FILE, BAD], limit=9, now=NOW)
    assert [each.sinks for each in found] == [["file"]]


async def test_several_in_one_batch(database: Database) -> None:
    """Each result of a batch gets what is its own: first, revision, the same again, older."""
    await released(database, 2, 3, 4, updated_at=LATER)
    await staged(database, 1)
    for number in (2, 3, 4):
        await database.write(staging.ask_again, key(number), NOW)
    fetched = await claimed(database)
    changes: dict[int, dict[str, Any]] = {
        1: {},
        2: {"overall_passed": True, "judges": [], "updated_at": LATER},
        3: {"updated_at": LATER},
        4: {"overall_passed": True, "updated_at": NOW},
    }
    found = [tree_of(fetched[key(number)].known, **changes[number]) for number in (3, 1, 4, 2)]
    out = await database.write(results.release, found, [ALL], LATER)
    assert [(it.verdict.evaluation_id, it.verdict.revision, it.is_new) for it in out] == [
        (key(3), 1, False),
        (key(1), 1, True),
        (key(2), 2, True),
    ]
    assert await database.read(rows, deliveries, "evaluation_id", "revision") == [
        (key(1), 1), (key(2), 1), (key(2), 2), (key(3), 1), (key(4), 1),
    ]  # fmt: skip
    assert (await children(database, 2))["judges"] == []
    assert len((await children(database, 4))["judges"]) == 1


async def test_nothing(database: Database) -> None:
    """Nothing found is nothing released."""
    assert await database.write(results.release, [], [ALL], NOW) == []


async def test_long_texts(database: Database) -> None:
    """Texts far longer than an index can hold are stored whole, found by the whole, and as rows."""
    long: dict[str, Any] = {
        name: f"{name} é" + "\U0001f600" * 100_000
        for name in ("client_ref", "run_id", "task_type", "model_id", "failure_code", "primary_action_code")
    }
    category = "c" * 100_000
    [it] = await released(
        database, 1, **long, issues=[Issue(category=category, detail="d" * 100_000)], generation_prompt="p" * 100_000
    )
    assert await stored(database) == it.verdict
    for name, value in (long | {"issue_category": category, "client_ref_prefix": long["client_ref"][:50_000]}).items():
        page = await database.read(reading.page, Filter.model_validate({name: value}), limit=5)
        assert [found.evaluation_id for found in page.items] == [key(1)], name
        page = await database.read(reading.page, Filter.model_validate({name: "x" + value}), limit=5)
        assert page.items == [], name
    assert [(row["category"], row["detail"]) for row in (await children(database))["issues"]] == [
        ("c" * 255, "d" * 100_000)
    ]


async def test_all_or_nothing(database: Database) -> None:
    """A result that cannot be written whole is not written at all: no verdict without its deliveries."""
    await staged(database, 1)
    await database.write(insert_rows, deliveries, [results.new_delivery(key(1), "all", 1, NOW)])
    [fetch] = (await claimed(database)).values()
    with pytest.raises(IntegrityError, match="deliveries"):
        await finished(database, [fetch])
    assert await database.read(rows, verdicts, "tree", "revision") == [("pending", 0)]
    assert await database.read(rows, trees, "body") == []
    assert await database.read(rows, judges, "id") == []
