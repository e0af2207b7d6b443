"""Messages for the sinks' tests, made of the sample tree as the service makes them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from receiver.core.callback import read_callback
from receiver.core.envelope import Message
from receiver.core.evaluation import Evaluation
from receiver.core.verdict import Verdict, from_callback, from_tree, without_tree

SAMPLES = Path(__file__).parent.parent / "samples"
SOURCE = "https://api.runflow.io/v1/evaluations"
RECEIVED = datetime(2026, 11, 18, 14, 13, 23, tzinfo=UTC)


def evaluation_id(number: int) -> UUID:
    """A different one for each number."""
    return UUID(int=0x01A1EF00_87BE_711D_AB0D_000000000000 + number)


def pending(sample: str = "callback_completed.json", number: int = 1) -> Verdict:
    """What the sample callback says by itself."""
    event = "evaluation." + sample.removeprefix("callback_").removesuffix(".json")
    callback, _ = read_callback((SAMPLES / sample).read_bytes(), event)
    return from_callback(
        callback, evaluation_id=evaluation_id(number), event=event, received_at=RECEIVED, origin="callback"
    )


def full_verdict(number: int = 1, **changes: Any) -> Verdict:
    """The verdict of the full sample tree, first revision, with some fields changed."""
    tree, _ = Evaluation.read((SAMPLES / "evaluation_full.json").read_bytes())
    return from_tree(tree, pending(number=number)).model_copy(update={"revision": 1, **changes})


def failed_verdict(**changes: Any) -> Verdict:
    """The verdict of the sample failure, from the callback alone."""
    verdict = without_tree(pending("callback_failed.json"), "no_api_key")
    return verdict.model_copy(update={"revision": 1, **changes})


def message(number: int = 1, *, replay_id: str | None = None, **changes: Any) -> Message:
    """A message about the evaluation of that number."""
    return Message(full_verdict(number, **changes), SOURCE, replay_id)


def read_back_as(event: Any, sent: Message) -> None:
    """What a library of CloudEvents read is what was sent: all attributes, and the verdict as data."""
    texts = {name: str(value) for name, value in event.get_attributes().items()}
    assert texts.pop("time") == str(sent.verdict.completed_at)
    assert texts == {name: text for name, text in sent.attributes.items() if name != "time"}
    assert event.get_data() == sent.verdict.model_dump(mode="json")
