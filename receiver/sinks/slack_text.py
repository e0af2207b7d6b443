"""Text from Runflow on its way into Slack: it can be anything, and there it must be nothing but text.

Slack reads `&`, `<` and `>` in every text as markup: entities, mentions, links.
(docs.slack.dev/messaging/formatting-message-text)
"""

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MORE = "…"
_NOT_SHOWN = [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF]
"""Controls, but for tab and newline, and what turns the direction of writing: text must not look like other text."""
_CLEANED = dict.fromkeys(_NOT_SHOWN) | {0x2028: "\n", 0x2029: "\n"}


def plain(text: str | None, limit: int) -> str:
    """The text cleaned, cut and escaped to at most `limit` characters as Slack counts them; empty if nothing is to be seen.

    A cut ends with `…`, and is never inside an escape. Slack does not say what a character is, so one beyond U+FFFF
    counts as two, the larger way.
    """
    pieces: list[str] = []
    ends = [0]  # how long the text is after each piece
    for character in (text or "").translate(_CLEANED).strip():
        piece = _ESCAPES.get(character, character)
        ends.append(ends[-1] + len(piece) + (character > "\uffff"))
        if ends[-1] > limit:
            return _cut(pieces, ends, limit)
        pieces.append(piece)
    return "".join(pieces)


def _cut(pieces: list[str], ends: list[int], limit: int) -> str:
    while pieces and ends[len(pieces)] > limit - len(_MORE):
        pieces.pop()
    return "".join(pieces).rstrip() + _MORE


def lines(*texts: str) -> str:
    """The texts that are not empty, each on a line of its own."""
    return "\n".join(text for text in texts if text)


def percent(share: float | None) -> str:
    """A share from 0 to 1 as people read it, to a tenth: `70%`. Empty if there is none."""
    return "" if share is None else f"{round(share * 100, 1):g}%"
