"""Text from Runflow on its way into Slack: it can be anything, and there it must be nothing but text.

Slack reads `&`, `<` and `>` in every text as markup: entities, mentions, links.
(docs.slack.dev/messaging/formatting-message-text)
"""

import re

from receiver.sinks import summary

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def plain(text: str | None, limit: int) -> str:
    """The text cleaned, cut and escaped to at most `limit` characters as Slack counts them; empty if nothing is to be seen."""
    return summary.plain(text, limit, _ESCAPES)


_LINKABLE = re.compile(r"https://[\x21\x23-\x3b\x3d\x3f-\x7b\x7d\x7e]+")
"""Printable ASCII without quotes, angle brackets and the bar that would end the address."""


def linked(address: str | None, label: str, limit: int) -> str:
    """A link in Slack's markup, of at most `limit` characters; empty if the address is none that may stand there."""
    if address is None or not _LINKABLE.fullmatch(address):
        return ""
    link = f"<{address.replace('&', '&amp;')}|{label}>"
    return link if len(link) <= limit else ""
