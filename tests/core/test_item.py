"""A page of the API's list is what the verdicts themselves would have written, field by field."""

import json

import orjson

from receiver.core.item import page_of
from receiver.core.verdict import NOT_IN_LISTS, Judge, Verdict
from tests.web.seeds import verdict

ODD = verdict(
    1, client_ref='"\\\u2028é\u0000\U0001f4a9', weighted_pass_rate=0.1 + 0.2, top_issues=["a", ""], cost="0.10",
    eval_duration_ms=2**63 - 1,
    judges=[Judge(name="x", sub_point_results={"deep": [1, {"a": None}]})], check_summary={"b": 1.0},
)  # fmt: skip


def test_a_page() -> None:
    """The same bytes as by way of the models, in the same order."""
    verdicts = [ODD, verdict(2), verdict(3, overall_passed=True, weighted_pass_rate=1)]
    items = [each.model_dump(mode="json", exclude=set(NOT_IN_LISTS)) for each in verdicts]
    for following in (None, "AAAA"):
        written = page_of((each.model_dump_json() for each in verdicts), following)
        assert written == orjson.dumps({"items": items, "next": following})
    assert json.loads(page_of([], None)) == {"items": [], "next": None}


def test_a_document_of_an_older_program() -> None:
    """A field that is younger than what is stored has its default; one that is not known is left out."""
    document = json.loads(verdict(1).model_dump_json())
    for name in ("origin", "revision", "top_issues", "cost"):
        del document[name]
    [item] = json.loads(page_of([json.dumps(document | {"unheard_of": 1})], None))["items"]
    assert (item["origin"], item["revision"], item["top_issues"], item["cost"]) == ("callback", 0, [], None)
    assert set(item) == set(Verdict.model_fields) - NOT_IN_LISTS
