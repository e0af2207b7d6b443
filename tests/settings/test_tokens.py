"""Tokens of the API: forms, scopes, and that a mistake in a label is not taken for a token."""

import hashlib
from collections.abc import Callable

import pytest

from receiver.settings import Settings, Token

Load = Callable[..., Settings]
Lines = Callable[..., list[str]]


def _token(label: str, scope: str, value: str) -> Token:
    return Token(
        label=label, scope="operate" if scope == "operate" else "read", sha256=hashlib.sha256(value.encode()).digest()
    )


def test_forms(load: Load) -> None:
    """A token has a label and a scope; a bare one may read, under the beginning of its digest."""
    settings = load({"RECEIVER_API_TOKENS": "grafana:read=abc==, ops:operate=d:e=f ,bare+/==,ö".rpartition(",")[0]})
    bare = hashlib.sha256(b"bare+/==").hexdigest()[:8]
    assert settings.api_tokens == (
        _token("grafana", "read", "abc=="),
        _token("ops", "operate", "d:e=f"),
        _token(bare, "read", "bare+/=="),
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a,", "item 2 is empty"),
        (",", "item 1 is empty"),
        ("a,,b", "item 2 is empty"),
        ("x:read=", "item 1 has an empty token"),
        (":read=abc", "item 1 has an empty label"),
        ("x:write=abc", "item 1 has a scope that is neither read nor operate"),
        ("x:READ=abc", "item 1 has a scope that is neither read nor operate"),
        ("x:=abc", "item 1 has a scope that is neither read nor operate"),
        ("x=abc", "item 1 is no token"),
        ("x:read:abc", "item 1 is no token"),
        ("=", "item 1 is no token"),
        ("x:read=a b", "item 1 has white space or characters outside ASCII"),
        ("schlüssel", "item 1 has white space or characters outside ASCII"),
        ("x:read=abc,x:operate=def", "holds the same label twice"),
        ("x:read=abc,y:operate=abc", "holds the same token twice"),
        ("abc,abc", "holds the same label twice"),
    ],
)
def test_bad_tokens(text: str, what: str, lines: Lines) -> None:
    """What is no token, and what could not be told apart, is refused by its number."""
    (line,) = lines({"RECEIVER_API_TOKENS": text})
    assert line.startswith(f"RECEIVER_API_TOKENS: {what}")
    assert "; " in line
    assert "abc" not in line


def test_digest_is_not_shown() -> None:
    """A token's repr and dump have its label and scope only."""
    token = _token("ops", "operate", "abc")
    assert repr(token) == "Token(label='ops', scope='operate')"
    assert token.model_dump() == {"label": "ops", "scope": "operate"}
