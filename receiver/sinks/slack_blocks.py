"""A verdict as a Slack message: Block Kit blocks within Slack's limits. Pure: a verdict in, a payload out.

All that comes from Runflow stands in `plain_text` objects, where Slack makes neither links nor mentions nor markup of it. The
one exception is the address of the image, in a link whose label is ours.
(docs.slack.dev/reference/block-kit/blocks)
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from slack_sdk.models.blocks import (
    Block,
    ContextBlock,
    HeaderBlock,
    ImageBlock,
    MarkdownTextObject,
    PlainTextObject,
    SectionBlock,
)

from receiver.core.verdict import Verdict
from receiver.sinks.slack_text import linked, plain
from receiver.sinks.summary import Summary, address_of, lines, summarise

_IN_THE_TITLE = ("Verdict", "Score")
_ADDRESS = 700
_IMAGE_URL = 3000
_LINK = 1500
_FETCHABLE = re.compile(r"https://[\x21\x23-\x3b\x3d\x3f-\x7e]+")
"""Printable ASCII without quotes and angle brackets: what Slack takes as an image's address."""


def payload(
    verdict: Verdict, *, public_url: str | None, with_image: bool = True, more: Iterable[Block] = ()
) -> dict[str, Any]:
    """What is posted for one verdict, with `more` at its end. `public_url` is where the link to the whole verdict leads."""
    summary = summarise(verdict, plain)
    image = verdict.generated_image_url if with_image else None
    blocks = [*_blocks(summary, image, links(verdict, public_url, _LINK)), *more]
    return message(lines(summary.title, summary.name), blocks)


def message(text: str, blocks: Iterable[Block]) -> dict[str, Any]:
    """A payload. `text` is for notifications, and for screens that show no blocks."""
    return {
        "text": text,
        "blocks": [block.to_dict() for block in blocks],
        "mrkdwn": False,
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def has_image(content: dict[str, Any]) -> bool:
    """Whether the payload makes Slack fetch an image."""
    return any(block["type"] == "image" for block in content["blocks"])


def links(verdict: Verdict, public_url: str | None, limit: int) -> Iterator[MarkdownTextObject]:
    """Links to the image and to the whole verdict, as far as there are any; each of at most `limit` characters."""
    if image := linked(verdict.generated_image_url, "The image", limit):
        yield MarkdownTextObject(text=image, verbatim=True)
    if public_url is not None:
        address = plain(address_of(verdict, public_url), _ADDRESS)
        yield MarkdownTextObject(text=f"<{address}|The whole verdict (asks for a token)>", verbatim=True)


def _blocks(summary: Summary, image: str | None, ends: Iterable[MarkdownTextObject]) -> Iterable[Block]:
    yield HeaderBlock(text=text_object(summary.title))
    fields = {label: value for label, value in summary.fields.items() if label not in _IN_THE_TITLE}
    yield SectionBlock(fields=[text_object(f"{label}\n{value}") for label, value in fields.items()])
    for section in summary.sections:
        yield SectionBlock(text=text_object(section))
    if _can_be_shown(image):
        yield ImageBlock(image_url=image, alt_text="The image that was evaluated")
    yield ContextBlock(elements=[*map(text_object, summary.notes), *ends])


def _can_be_shown(url: str | None) -> bool:
    """Any other address would make Slack refuse the whole message."""
    return url is not None and len(url) <= _IMAGE_URL and _FETCHABLE.fullmatch(url) is not None


def text_object(text: str) -> PlainTextObject:
    """`emoji` off: an emoji would otherwise be written out as its name, and be longer than counted."""
    return PlainTextObject(text=text, emoji=False)
