"""👍 and 👎 below a Slack message, and who clicked them. Pure: a verdict and its ratings in, blocks out.

What a click says comes back in the button's value, by which it is known without looking it up.
"""

import re
from collections.abc import Iterator, Sequence

from slack_sdk.models.blocks import (
    ActionsBlock,
    Block,
    ButtonElement,
    ContextBlock,
    MarkdownTextObject,
    PlainTextObject,
)

from receiver.core.rating import BACK, DOWN, UP, Rating
from receiver.core.verdict import Verdict

MOST_NAMED = 20
"""How many people are named on each side; the rest is counted."""
_PERSON = re.compile(r"[UW][A-Z0-9]{1,30}")
"""A person's id in Slack: nothing else may stand in a mention."""


def rating_blocks(verdict: Verdict, sink: str, ratings: Sequence[Rating]) -> Iterator[Block]:
    """The buttons, with one to take it back where somebody rated, and below them who did."""
    value = f"{verdict.evaluation_id}:{verdict.revision}:{sink}"
    buttons = [_button("👍", UP, value, "This verdict is right"), _button("👎", DOWN, value, "It is wrong")]
    if ratings:
        buttons.append(_button("Take back", BACK, value, "Take my rating back"))
    yield ActionsBlock(block_id="rating", elements=buttons)
    if ratings:
        yield ContextBlock(block_id="raters", elements=[MarkdownTextObject(text=_raters(ratings), verbatim=True)])


def _button(label: str, action: str, value: str, explained: str) -> ButtonElement:
    text = PlainTextObject(text=label, emoji=True)
    return ButtonElement(text=text, action_id=action, value=value, accessibility_label=explained)


def _raters(ratings: Sequence[Rating]) -> str:
    """As mentions: Slack shows the name, and notifies nobody of a message that is edited."""
    sides = [
        (thumb, [each.person for each in ratings if each.is_positive is is_positive])
        for thumb, is_positive in (("👍", True), ("👎", False))
    ]
    return "   ".join(f"{thumb} {_named(people)}" for thumb, people in sides if people)


def _named(people: Sequence[str]) -> str:
    named = [f"<@{person}>" for person in people if _PERSON.fullmatch(person)][:MOST_NAMED]
    others = len(people) - len(named)
    return ", ".join([*named, *([f"{others} more"] if others else [])])
