"""Text from Runflow on its way into Slack: it can be anything, and there it must be nothing but text.

Slack reads `&`, `<` and `>` in every text as markup: entities, mentions, links.
(docs.slack.dev/messaging/formatting-message-text)
"""

from receiver.sinks import summary

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def plain(text: str | None, limit: int) -> str:
    """The text cleaned, cut and escaped to at most `limit` characters as Slack counts them; empty if nothing is to be seen."""
    return summary.plain(text, limit, _ESCAPES)
