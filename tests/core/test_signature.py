"""Which callbacks are genuine: vectors, a table of bad signatures, and that no change is ever accepted."""

import hashlib
import json
import string
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from receiver.core.signature import HEADER, Keyring, Secret, read_secrets

VECTORS_SECRET = "whsec_test_0123456789abcdef0123456789abcdef"
COMPLETED = "aff6479fc8b26c3e368ecdeca78eedd1cb6b8931a68234b8c6f40f0bf95a6886"
FAILED = "4aa93634b8745130df44f330bf9a54e26d0ec02c889874aea0a9ab86c97a688c"
PRINTABLE = string.digits + string.ascii_letters + string.punctuation + " "

secrets = st.text(PRINTABLE, min_size=1, max_size=64).filter(lambda text: text != "whsec_")
bodies = st.binary(max_size=300)


def test_fixture_vectors(completed: bytes, failed: bytes) -> None:
    """The vectors that were computed independently hold, for signing and for verifying."""
    secret = Secret(VECTORS_SECRET)
    for body, signature in ((completed, COMPLETED), (failed, FAILED)):
        assert secret.sign(body) == signature
        assert Keyring([secret]).label_of_signer(body, [signature.encode()]) == secret.label


@pytest.mark.parametrize(
    "signatures",
    [
        pytest.param([], id="missing"),
        pytest.param([b""], id="empty"),
        pytest.param([COMPLETED.encode()] * 2, id="twice the right one"),
        pytest.param([COMPLETED.encode(), FAILED.encode()], id="right and another"),
        pytest.param([FAILED.encode(), COMPLETED.encode()], id="another and right"),
        pytest.param([COMPLETED.encode() + b"," + COMPLETED.encode()], id="two in one header"),
        pytest.param([COMPLETED.upper().encode()], id="upper case"),
        pytest.param([b"A" + COMPLETED[1:].encode()], id="one letter in upper case"),
        pytest.param([b"sha256=" + COMPLETED.encode()], id="prefix sha256="),
        pytest.param([b"v1=" + COMPLETED.encode()], id="prefix v1="),
        pytest.param([COMPLETED[:63].encode()], id="63 digits"),
        pytest.param([COMPLETED.encode() + b"0"], id="65 digits"),
        pytest.param([b" " + COMPLETED.encode()], id="space before"),
        pytest.param([COMPLETED.encode() + b" "], id="space after"),
        pytest.param([COMPLETED.encode() + b"\n"], id="line end after"),
        pytest.param([b'"' + COMPLETED.encode() + b'"'], id="quotes"),
        pytest.param([b"\xe9" + COMPLETED[1:].encode()], id="Latin-1 byte"),
        pytest.param(["\u0660".encode() + COMPLETED[2:].encode()], id="digit that is not ASCII"),
        pytest.param([b"\x00" + COMPLETED[1:].encode()], id="NUL"),
        pytest.param([b"g" + COMPLETED[1:].encode()], id="not hex"),
        pytest.param([b"0" * 64], id="zeros"),
        pytest.param([FAILED.encode()], id="of another body"),
        pytest.param([Secret("whsec_other").sign(b"").encode()], id="of another secret"),
        pytest.param([hashlib.sha256(b"").hexdigest().encode()], id="plain digest"),
    ],
)
def test_bad_signatures(completed: bytes, signatures: list[bytes]) -> None:
    """Anything but exactly one right value in exactly the right form is refused."""
    assert Keyring([Secret(VECTORS_SECRET)]).label_of_signer(completed, signatures) is None


def test_key_is_the_whole_secret(completed: bytes) -> None:
    """The key is the text as issued: not without `whsec_`, not base64-decoded, not an empty one."""
    keyring = Keyring([Secret("whsec_YWJj")])
    for wrong in ("YWJj", "abc", "whsec_YWJj ", "whsec_YWJ"):
        assert keyring.label_of_signer(completed, [Secret(wrong).sign(completed).encode()]) is None


@pytest.mark.parametrize("count", [2, 3])
def test_rotation(completed: bytes, count: int) -> None:
    """With several secrets a signature made with any is good, and the label tells which; a withdrawn one is refused."""
    held = [Secret(f"whsec_{number}", f"label {number}") for number in range(count)]
    keyring = Keyring(held)
    assert len(keyring) == count
    for secret in held:
        signature = [secret.sign(completed).encode()]
        assert keyring.label_of_signer(completed, signature) == secret.label
        assert Keyring([other for other in held if other is not secret]).label_of_signer(completed, signature) is None


def test_no_secret_verifies_nothing(completed: bytes) -> None:
    """Without secrets nothing is genuine."""
    assert Keyring([]).label_of_signer(completed, [COMPLETED.encode()]) is None


@pytest.mark.parametrize(
    "rewritten",
    [
        lambda body: json.dumps(json.loads(body)).encode(),
        lambda body: json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode(),
        lambda body: body + b"\n",
        lambda body: b" " + body,
        lambda body: b"\xef\xbb\xbf" + body,
        lambda body: body.replace(b"+00:00", b"Z"),
        lambda body: body.replace(b"/", rb"\/"),
        lambda body: body.replace(b"order", rb"\u006frder"),
    ],
    ids=["spaces", "key order", "line end", "space before", "byte order mark", "Z", "escaped slash", "escaped letter"],
)
def test_raw_bytes_are_signed(completed: bytes, rewritten: Callable[[bytes], bytes]) -> None:
    """The same JSON in other bytes needs another signature, and is good with it."""
    other = rewritten(completed)
    keyring, secret = Keyring([Secret(VECTORS_SECRET)]), Secret(VECTORS_SECRET)
    assert json.loads(other.decode("utf-8-sig")).keys() == json.loads(completed).keys()
    assert keyring.label_of_signer(other, [COMPLETED.encode()]) is None
    assert keyring.label_of_signer(other, [secret.sign(other).encode()]) == secret.label


@given(secret=secrets, body=bodies)
def test_signed_is_verified(secret: str, body: bytes) -> None:
    """Whatever was signed with a secret is verified with it, beside others too."""
    signature = Secret(secret).sign(body).encode()
    assert Keyring([Secret(secret, "it")]).label_of_signer(body, [signature]) == "it"
    assert Keyring([Secret("whsec_other!"), Secret(secret, "it")]).label_of_signer(body, [signature]) == "it"


@given(secret=secrets, body=bodies, other=bodies)
def test_no_other_body(secret: str, body: bytes, other: bytes) -> None:
    """A signature is good for no other body."""
    assume(other != body)
    assert Keyring([Secret(secret)]).label_of_signer(other, [Secret(secret).sign(body).encode()]) is None


@given(secret=secrets, body=bodies.filter(bool), position=st.integers(0), bit=st.integers(0, 7))
def test_no_single_change_of_body(secret: str, body: bytes, position: int, bit: int) -> None:
    """One changed bit, one byte less or one more: the signature is not good any more."""
    signature, keyring, at = Secret(secret).sign(body).encode(), Keyring([Secret(secret)]), position % len(body)
    flipped = body[:at] + bytes([body[at] ^ 1 << bit]) + body[at + 1 :]
    for changed in (flipped, body[:at] + body[at + 1 :], body[:at] + b"\0" + body[at:], body + b"\0"):
        assert keyring.label_of_signer(changed, [signature]) is None


@given(
    secret=secrets, body=bodies, header=st.binary(max_size=70) | st.text("0123456789abcdef", min_size=64, max_size=64)
)
def test_no_other_header(secret: str, body: bytes, header: bytes | str) -> None:
    """No other value of the header is good."""
    value = header.encode() if isinstance(header, str) else header
    assume(value != Secret(secret).sign(body).encode())
    assert Keyring([Secret(secret)]).label_of_signer(body, [value]) is None


@given(secret=secrets, body=bodies, at=st.integers(0, 63), byte=st.integers(0, 255))
def test_no_single_change_of_header(secret: str, body: bytes, at: int, byte: int) -> None:
    """A header in which one byte is another, missing, or one too many is not good."""
    keyring, signature, one = Keyring([Secret(secret)]), Secret(secret).sign(body).encode(), bytes([byte])
    for changed in (signature[:at] + one + signature[at + 1 :], signature[:at] + one + signature[at:], signature + one):
        assert changed == signature or keyring.label_of_signer(body, [changed]) is None
    assert keyring.label_of_signer(body, [signature[:at] + signature[at + 1 :]]) is None


@given(secret=secrets, other=secrets, body=bodies)
def test_no_other_secret(secret: str, other: str, body: bytes) -> None:
    """A signature made with one secret is not good under any other."""
    assume(secret != other)
    assert Keyring([Secret(other)]).label_of_signer(body, [Secret(secret).sign(body).encode()]) is None


@given(secret=secrets, body=bodies, at=st.integers(0), letter=st.sampled_from(PRINTABLE))
def test_no_single_change_of_secret(secret: str, body: bytes, at: int, letter: str) -> None:
    """A secret in which one character is another, missing, or one too many signs nothing that is good."""
    at, signature = at % len(secret), Secret(secret).sign(body).encode()
    for changed in (secret[:at] + letter + secret[at + 1 :], (secret[:at] + letter + secret[at:])[:64], secret[1:]):
        if changed not in (secret, "", "whsec_"):
            assert Keyring([Secret(changed)]).label_of_signer(body, [signature]) is None


@given(secret=st.text(PRINTABLE, min_size=9, max_size=64))
def test_repr_shows_no_secret(secret: str) -> None:
    """Neither a secret's repr nor a keyring's shows a value, only the label."""
    held = Secret(secret, "old")
    for shown in (repr(held), str(held), f"{held!r}", repr(Keyring([held])), repr(vars(Keyring([held])))):
        assert secret not in shown
    assert repr(held) == "Secret('old')"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("whsec_a", [(None, "whsec_a")]),
        ("  whsec_a\n", [(None, "whsec_a")]),
        ("whsec_a,whsec_b", [(None, "whsec_a"), (None, "whsec_b")]),
        ("whsec_a, whsec_b\n\twhsec_c,", [(None, "whsec_a"), (None, "whsec_b"), (None, "whsec_c")]),
        ("new=whsec_a old=whsec_b", [("new", "whsec_a"), ("old", "whsec_b")]),
        ("whsec_a=b=", [(None, "whsec_a=b=")]),
        ("new=whsec_a=b=", [("new", "whsec_a=b=")]),
        ("new==x", [("new", "=x")]),
        ("plain", [(None, "plain")]),
        ("one=same two=same", [("one", "same"), ("two", "same")]),
        ("sécret", [(None, "sécret")]),
    ],
)
def test_read_secrets(text: str, expected: list[tuple[str | None, str]]) -> None:
    """One or several secrets, with labels or the first 8 hex digits of their SHA-256, are read as written."""
    read = read_secrets(text)
    labels = [label or hashlib.sha256(value.encode()).hexdigest()[:8] for label, value in expected]
    assert [secret.label for secret in read] == labels
    assert [secret.sign(b"{}") for secret in read] == [Secret(value).sign(b"{}") for _, value in expected]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        ",",
        " , ,",
        "label=",
        "good=whsec_Q,label=",
        "whsec_",
        "label=whsec_",
        "=Q",
        "a=Q a=R",
        "whsec_Q whsec_Q",
        "\udcffQ",
    ],
)
def test_bad_secrets(text: str) -> None:
    """An empty secret or label, one given twice, and bytes that are no UTF-8 are refused; the error shows no secret."""
    with pytest.raises(ValueError, match=r"empty|twice|UTF-8") as caught:
        read_secrets(text)
    assert "Q" not in repr(caught.value)


@pytest.mark.parametrize("value", ["", "whsec_"])
def test_empty_secret(value: str) -> None:
    """An empty secret cannot even be made, for anyone could sign with it."""
    with pytest.raises(ValueError, match="empty"):
        Secret(value)


def test_header_name() -> None:
    """The header is named as ASGI gives names: lower-case bytes."""
    assert HEADER == b"runflow-signature"
