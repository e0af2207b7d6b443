"""The CloudEvents envelope: read back by the library's own reader, with the attributes that are promised."""

import json
from datetime import UTC, datetime

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from receiver.core.envelope import CONTENT_TYPE, Message
from receiver.core.verdict import Verdict

SOURCE = "https://api.runflow.io/v1/evaluations"
ID = "01a1ef00-87be-711d-ab0d-549b6f03675a"


def test_attributes(complete: Verdict) -> None:
    """Every promised attribute is there with its promised value, and nothing else."""
    sent = json.loads(Message(complete, SOURCE).cloud_event)
    assert sent.pop("data") == json.loads(complete.model_dump_json())
    assert sent == {
        "specversion": "1.0",
        "id": f"{ID}:evaluation.completed:1",
        "source": SOURCE,
        "type": "io.runflow.evaluation.completed",
        "subject": ID,
        "time": "2026-11-18T14:13:22.547913Z",
        "dataschema": "urn:runflow-receiver:verdict.v1",
        "datacontenttype": "application/json",
    }


def test_library_reads_it(complete: Verdict) -> None:
    """The library's own reader takes the envelope and finds the verdict in it."""
    message = Message(complete, SOURCE, replay_id="r1")
    event = JSONFormat().read(CloudEvent, message.cloud_event)
    assert (event.get_id(), event.get_source(), event.get_type()) == (message.id, SOURCE, message.type)
    assert (event.get_subject(), event.get_time()) == (ID, complete.completed_at)
    assert (event.get_specversion(), event.get_dataschema()) == ("1.0", "urn:runflow-receiver:verdict.v1")
    assert event.get_extension("replayid") == "r1"
    data = event.get_data()
    assert isinstance(data, dict)
    assert Verdict.model_validate_json(json.dumps(data)) == complete
    assert CONTENT_TYPE.startswith(JSONFormat.CONTENT_TYPE)


@pytest.mark.parametrize(
    ("event", "revision", "kind"),
    [
        ("evaluation.completed", 1, "io.runflow.evaluation.completed"),
        ("evaluation.failed", 1, "io.runflow.evaluation.failed"),
        ("evaluation.completed", 2, "io.runflow.evaluation.revised"),
        ("evaluation.failed", 17, "io.runflow.evaluation.revised"),
    ],
)
@pytest.mark.parametrize("replay_id", [None, "r1"])
def test_identity(complete: Verdict, event: str, revision: int, kind: str, replay_id: str | None) -> None:
    """The id names evaluation, event and revision; a replay keeps id and type, and has a key and an extension of its own."""
    message = Message(complete.model_copy(update={"event": event, "revision": revision}), SOURCE, replay_id)
    assert message.id == f"{ID}:{event}:{revision}"
    assert message.type == kind
    assert message.key == (message.id if replay_id is None else f"{message.id}:r1")
    sent = json.loads(message.cloud_event)
    assert (sent["id"], sent["type"], sent.get("replayid")) == (message.id, kind, replay_id)
    assert ("replayid" in sent) == (replay_id is not None)


def test_time_without_completion(complete: Verdict) -> None:
    """Where Runflow gave no completion, the time is that of the arrival, also in UTC with Z."""
    received = datetime(2026, 11, 18, 15, 0, tzinfo=UTC)
    verdict = complete.model_copy(update={"completed_at": None, "received_at": received})
    assert json.loads(Message(verdict, SOURCE).cloud_event)["time"] == "2026-11-18T15:00:00Z"


@pytest.mark.parametrize("event", ["evaluation.completed", "evaluation.failed"])
@pytest.mark.parametrize("changes", [{}, {"completed_at": None}, {"revision": 3}, {"generation_prompt": "Zürich “é”"}])
def test_what_is_stored_makes_the_same_message(complete: Verdict, event: str, changes: dict[str, object]) -> None:
    """A message is the same bytes each time, whether it is made of a verdict or of the text that is stored of it."""
    verdict = complete.model_copy(update={"event": event, **changes})
    made, stored = (Message(given, SOURCE, "r1") for given in (verdict, verdict.model_dump_json()))
    assert made.cloud_event == stored.cloud_event
    assert (made.id, made.key, made.type) == (stored.id, stored.key, stored.type)
    assert (made.attributes, made.data) == (stored.attributes, stored.data)
    assert stored.verdict == made.verdict == verdict


@pytest.mark.parametrize("replay_id", [None, "r1"])
def test_in_parts_it_says_what_the_whole_says(complete: Verdict, replay_id: str | None) -> None:
    """A broker's binary mode carries the same attributes, as text, and the same data."""
    message = Message(complete, SOURCE, replay_id)
    whole = json.loads(message.cloud_event)
    assert json.loads(message.data) == whole.pop("data")
    assert message.attributes == whole
