"""Tokens of the API: `label:read=TOKEN`, `label:operate=TOKEN`, or a bare token, which may read. Only digests are kept."""

import hashlib
import re
from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from receiver.settings.texts import VISIBLE

Scope = Literal["read", "operate"]
"""`operate` may do all that `read` may, and retry, discard, replay and give feedback."""

_SCOPES: Final = get_args(Scope)
_LABELLED = re.compile(r"([^:=]*):([^:=]*)=(.*)")
_BARE = re.compile(r"[^:=]+=*")  # as RFC 6750 has it: `=` only at the end, no `:`
_RIGHT = "write label:read=TOKEN, label:operate=TOKEN or TOKEN"


class Token(BaseModel):
    """One token under the label that logs show in its place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    scope: Scope
    sha256: bytes = Field(repr=False, exclude=True, description="The digest of the token, which itself is not kept.")


def read_tokens(text: str) -> tuple[Token, ...]:
    """The tokens of `RECEIVER_API_TOKENS`, separated by commas. Raises ValueError, whose message shows no token."""
    tokens = tuple(_read_token(number, item.strip()) for number, item in enumerate(text.split(","), start=1))
    for what in ("label", "sha256"):
        if len({getattr(token, what) for token in tokens}) < len(tokens):
            raise ValueError(f"holds the same {'label' if what == 'label' else 'token'} twice; give each once")
    return tokens


def _read_token(number: int, item: str) -> Token:
    if labelled := _LABELLED.fullmatch(item):
        label, scope, value = labelled.groups()
    elif _BARE.fullmatch(item):
        label, scope, value = None, _SCOPES[0], item
    else:
        raise ValueError(f"item {number} is {'no token' if item else 'empty'}; {_RIGHT}, with commas between")
    if not value or label == "":
        raise ValueError(f"item {number} has an empty {'label' if value else 'token'}; {_RIGHT}")
    if scope not in _SCOPES:
        raise ValueError(f"item {number} has a scope that is neither read nor operate; {_RIGHT}")
    if not VISIBLE.fullmatch(item):
        raise ValueError(
            f"item {number} has white space or characters outside ASCII, which a header cannot carry; {_RIGHT}"
        )
    digest = hashlib.sha256(value.encode()).digest()
    return Token(label=label or digest.hex()[:8], scope=scope, sha256=digest)
