"""Slack's signature: theirs is taken, and nothing that is wrong in any way."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.signature import SignatureVerifier

from receiver.core.slack_signature import is_signed, sign

# The example of Slack's own documentation.
SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
TIME = b"1531420618"
BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
    b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121"
    b".803a0bc887a14d10d2c447fce8b6703c"
)
SIGNATURE = b"v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
NOW = datetime.fromtimestamp(1531420618, UTC)


def test_slacks_own_example() -> None:
    """As it is documented."""
    assert sign(SECRET, TIME, BODY) == SIGNATURE
    assert is_signed(SECRET, [TIME], [SIGNATURE], BODY, NOW)


@given(st.text(min_size=1).filter(str.strip), st.integers(0, 10**11), st.text())
def test_what_slacks_library_signs_is_taken(secret: str, seconds: int, text: str) -> None:
    """Any secret, time and body."""
    body = text.encode("utf-8", "surrogatepass")
    try:
        signature = SignatureVerifier(secret).generate_signature(timestamp=str(seconds), body=body)
        secret.encode()
    except UnicodeError:
        return
    assert signature is not None
    now = datetime.fromtimestamp(seconds, UTC)
    assert is_signed(secret, [str(seconds).encode()], [signature.encode()], body, now)


@pytest.mark.parametrize("seconds", [-300, 300])
def test_five_minutes_are_allowed(seconds: int) -> None:
    """Either way: clocks differ."""
    now = datetime.fromtimestamp(int(TIME) + seconds, UTC)
    assert is_signed(SECRET, [TIME], [SIGNATURE], BODY, now)


@pytest.mark.parametrize(
    ("times", "signatures", "body", "late"),
    [
        ([TIME], [SIGNATURE], BODY, 301),
        ([TIME], [SIGNATURE], BODY, -301),
        ([TIME], [SIGNATURE], BODY + b" ", 0),
        ([TIME], [SIGNATURE[:-1] + b"4"], BODY, 0),
        ([TIME], [SIGNATURE.upper()], BODY, 0),
        ([TIME], [SIGNATURE.replace(b"v0", b"v1")], BODY, 0),
        ([TIME], [b"\xff"], BODY, 0),
        ([TIME], [b""], BODY, 0),
        ([TIME], [], BODY, 0),
        ([TIME], [SIGNATURE, SIGNATURE], BODY, 0),
        ([], [SIGNATURE], BODY, 0),
        ([TIME, TIME], [SIGNATURE], BODY, 0),
        ([b"1531420619"], [SIGNATURE], BODY, 0),
        ([b"-1531420618"], [SIGNATURE], BODY, 0),
        ([b"+1531420618"], [SIGNATURE], BODY, 0),
        ([b" 1531420618"], [SIGNATURE], BODY, 0),
        ([b"1531420618.0"], [SIGNATURE], BODY, 0),
        ([b"nan"], [SIGNATURE], BODY, 0),
        ([b"9" * 400], [SIGNATURE], BODY, 0),
        ([b""], [SIGNATURE], BODY, 0),
    ],
)
def test_nothing_else_is(times: list[bytes], signatures: list[bytes], body: bytes, late: int) -> None:
    """Old, early, other bytes, another signature, none, two, or a time that is none."""
    assert not is_signed(SECRET, times, signatures, body, datetime.fromtimestamp(int(TIME) + late, UTC))


def test_another_secret_is_no_secret() -> None:
    """Of another app, say."""
    assert not is_signed("other", [TIME], [SIGNATURE], BODY, NOW)
