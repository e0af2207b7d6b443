"""Signed callbacks, made ready for a socket before anything is measured."""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Literal
from uuid import UUID

import orjson

from receiver.core.signature import Secret

PATH = "/webhook/runflow"
SECRET = "whsec_only_for_measurements_0123456789abcdef"
REPEATED_AFTER = 1_000
"""Requests between a callback and its repeat: far enough that the first one is stored by then."""

ID = "11111111-1111-7111-8111-111111111111"
_CONTENT = {
    "event": "evaluation.completed",
    "evaluation_id": ID,
    "status": "completed",
    "client_ref": "order-88213/headshot-03",
    "run_id": "01a1eef7-00b4-781f-a8e2-5d940ed90475",
    "overall_passed": False,
    "weighted_pass_rate": 0.7,
    "top_issues": [
        "Facial identity drifts from the reference: the jawline is narrower and the eyes are set wider",
        "The left collar of the shirt merges into the lapel of the jacket",
        "The texture of the skin is smoothed until pores are gone, most on the forehead and on both cheeks",
    ],
    "top_strengths": [
        "Even, flattering studio light with a soft falloff into the shadows",
        "The neutral background is clean, without a halo around the hair",
        "The gaze meets the camera, and the catchlights in both eyes agree with the key light",
    ],
    "primary_action_code": "regenerate",
    "failure_code": None,
    "completed_at": "2026-11-18T14:13:22.547913+00:00",
}
BODY = orjson.dumps(_CONTENT)
"""One body; the others differ in their id."""


IdKind = Literal["v7", "v4"]
"""Version 7 grows with time, as Runflow's do; version 4 is random, and each falls on another page of an index."""


def requests(count: int, *, half_repeated: bool = False, ids: IdKind = "v7") -> Iterator[bytes]:
    """`count` whole requests, each callback with an id of its own; or half of them a second time, a while after the first."""
    if not half_repeated:
        new = NEW_ID[ids]
        yield from (_request(UUID(bytes=new())) for _ in range(count))
        return
    recent: list[bytes] = []
    for _ in range(count // 2):
        recent.append(_request(uuid7()))
        yield recent[-1]
        if len(recent) >= REPEATED_AFTER // 2:
            yield recent.pop(0)
    yield from recent


def uuid7() -> UUID:
    """An id like Runflow's: the time in milliseconds first, the rest random. (RFC 9562, section 5.7)"""
    return UUID(bytes=uuid7_bytes())


def uuid7_bytes() -> bytes:
    """The same as 16 bytes."""
    return _with_version(7, time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10)))


def uuid4_bytes() -> bytes:
    """A random id."""
    return _with_version(4, int.from_bytes(os.urandom(16)))


def _with_version(version: int, value: int) -> bytes:
    value = value & ~(0xF << 76) | version << 76
    return (value & ~(0b11 << 62) | 0b10 << 62).to_bytes(16)


NEW_ID: Mapping[IdKind, Callable[[], bytes]] = {"v7": uuid7_bytes, "v4": uuid4_bytes}
"""What makes the 16 bytes of a new id of each kind."""


def id_of(request: bytes) -> bytes:
    """The 16 bytes of the evaluation id of a request that was made here."""
    at = request.index(_BEFORE_ID) + len(_BEFORE_ID)
    return bytes.fromhex(request[at : at + 36].replace(b"-", b"").decode())


_BEFORE_ID = b'"evaluation_id":"'
_SECRET = Secret(SECRET)
_HEAD = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def _request(evaluation_id: UUID) -> bytes:
    body = BODY.replace(ID.encode(), str(evaluation_id).encode())
    head = (
        f"{_HEAD}Content-Length: {len(body)}\r\nRunflow-Request-Id: req_{secrets.token_hex(8)}\r\n"
        f"Runflow-Signature: {_SECRET.sign(body)}\r\n\r\n"
    )
    return head.encode() + body
