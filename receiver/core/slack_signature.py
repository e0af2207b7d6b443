"""Whether a request is Slack's: HMAC-SHA256 over the time and the raw body, made with the app's signing secret.

(docs.slack.dev/authentication/verifying-requests-from-slack)
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime

LONGEST_AGE = 300
"""Seconds by which the time of a request may differ from ours: an old one could be somebody's who has kept it."""

_TIME = re.compile(rb"[0-9]{1,12}")


def sign(secret: str, timestamp: bytes, body: bytes) -> bytes:
    """The value of `X-Slack-Signature`."""
    digest = hmac.new(secret.encode(), b"v0:" + timestamp + b":" + body, hashlib.sha256)
    return b"v0=" + digest.hexdigest().encode()


def is_signed(
    secret: str, timestamps: Sequence[bytes], signatures: Sequence[bytes], body: bytes, now: datetime
) -> bool:
    """Whether there is one time of these last minutes, and one signature, made of it and of the body with this secret."""
    if len(timestamps) != 1 or len(signatures) != 1 or not _TIME.fullmatch(timestamps[0]):
        return False
    if abs(now.timestamp() - int(timestamps[0])) > LONGEST_AGE:
        return False
    return hmac.compare_digest(sign(secret, timestamps[0], body), signatures[0])
