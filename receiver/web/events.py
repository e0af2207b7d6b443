"""The text of the stream: server-sent events as the HTML standard has them (https://html.spec.whatwg.org/#server-sent-events)."""

from typing import Final

MEDIA_TYPE: Final = "text/event-stream"
RETRY_MILLISECONDS: Final = 2000
"""When a client comes back after the stream ended."""
BEAT: Final = b":\n\n"
"""A comment: nothing for the client, and a sign of life for all on the way."""
_BEFORE_DOCUMENT: Final = b"\nevent: verdict\ndata: "
_END: Final = b"\n\n"


def verdict_event(position: int, document: str) -> bytes:
    """The event of a released revision. A document is one line: JSON escapes what would end it."""
    return b"id: %d%b%b%b" % (position, _BEFORE_DOCUMENT, document.encode(), _END)


def document_of(event: bytes) -> bytes:
    """The document in an event."""
    return event[event.index(_BEFORE_DOCUMENT) + len(_BEFORE_DOCUMENT) : -len(_END)]


def opening(position: int) -> bytes:
    """What comes first: a client that is cut off before its first event comes back to where it began."""
    return b"retry: %d\nid: %d\n\n" % (RETRY_MILLISECONDS, position)


def beat(position: int) -> bytes:
    """A sign of life that moves the client's place on past what did not match; an `id` without data is no event to it."""
    return b":\nid: %d\n\n" % position
