"""Who may read: tokens, and the one answer to all who have none that is good."""

from pathlib import Path

import pytest
from starlette.requests import Request

from receiver.errors import PermissionDenied, Unauthorized
from receiver.settings.tokens import read_tokens
from receiver.store.tables import events
from receiver.web.access import Access
from tests.web.logged import Lines
from tests.web.receivers import FIRST, OPERATOR, READER, Receiver, callback, serving, settings_for, signed
from tests.web.seeds import key
from tests.web.wire import Header

UNAUTHORIZED = {
    "code": "UNAUTHORIZED",
    "message": "a token is needed: Authorization: Bearer TOKEN, one of RECEIVER_API_TOKENS",
    "errors": None,
}
PROTECTED = ["/v1/verdicts", "/v1/verdicts?limit=0", f"/v1/verdicts/{key(1)}", "/v1/verdicts/none?x", "/v1/deliveries",
             f"/v1/verdicts/{key(1)}/timeline"]  # fmt: skip
OPEN = {"/healthz": 200, "/readyz": 200, "/openapi.json": 200, "/schemas/verdict.v1.json": 200, "/nothing": 404}
BAD: dict[str, list[Header]] = {
    "none": [],
    "empty": [("Authorization", "")],
    "scheme alone": [("Authorization", "Bearer")],
    "scheme and space": [("Authorization", "Bearer ")],
    "wrong": [("Authorization", "Bearer a-token-that-may-do-anything")],
    "shorter": [("Authorization", f"Bearer {READER[:-1]}")],
    "longer": [("Authorization", f"Bearer {READER}x")],
    "upper case": [("Authorization", f"Bearer {READER.upper()}")],
    "its label": [("Authorization", "Bearer reader")],
    "with its label": [("Authorization", f"Bearer reader:read={READER}")],
    "no scheme": [("Authorization", READER)],
    "Basic": [("Authorization", f"Basic {READER}")],
    "two tokens": [("Authorization", f"Bearer {READER} {READER}")],
    "quoted": [("Authorization", f'Bearer "{READER}"')],
    "not ASCII": [("Authorization", f"Bearer {READER}\xe9")],
    "all bytes": [("Authorization", "Bearer " + "".join(map(chr, range(0x80, 0x100))))],
    "huge": [("Authorization", "Bearer " + "x" * 60_000)],
    "another header": [("X-Api-Key", READER), ("Cookie", f"token={READER}")],
    "a wrong one first": [("Authorization", "Bearer x"), ("Authorization", f"Bearer {READER}")],
}


@pytest.mark.parametrize("headers", BAD.values(), ids=BAD.keys())
async def test_bad_tokens(on_sqlite: Receiver, headers: list[Header]) -> None:
    """Whatever is wrong with a token, and whatever is asked for, the answer must be the same 401."""
    for target in PROTECTED:
        answer = await on_sqlite.ask("GET", target, headers)
        assert (answer.status, answer.json, answer.all("www-authenticate")) == (401, UNAUTHORIZED, ["Bearer"])


@pytest.mark.parametrize(
    "authorization", [f"{scheme} {READER}" for scheme in ("Bearer", "bearer", "BEARER", "bEARER ")]
)
async def test_the_scheme_has_no_case(on_sqlite: Receiver, authorization: str) -> None:
    """A good token is good under its scheme in any case (RFC 9110, section 11.1)."""
    assert (await on_sqlite.ask("GET", "/v1/verdicts", [("Authorization", authorization)])).status == 200


async def test_each_token_may_read(on_sqlite: Receiver) -> None:
    """Every token may read, one that may change things too."""
    assert [(await on_sqlite.get("/v1/verdicts", token)).status for token in (READER, OPERATOR)] == [200, 200]


async def test_what_is_open(on_sqlite: Receiver) -> None:
    """Health, readiness and the schema need no token, and a bad one does no harm there."""
    for target, status in OPEN.items():
        assert (await on_sqlite.get(target, token=None)).status == status
        assert (await on_sqlite.get(target, "a-bad-one")).status == status


async def test_no_tokens_at_all(sqlite: str, tmp_path: Path, lines: Lines) -> None:
    """With no token configured nobody gets in; an empty token is no way either. The hook needs none."""
    async with serving(settings_for(sqlite, tmp_path, RECEIVER_API_TOKENS=None)) as receiver:
        for token in (None, "", READER):
            answer = await receiver.get("/v1/verdicts", token)
            assert (answer.status, answer.json) == (401, UNAUTHORIZED)
        assert (await receiver.post(b"{}")).status == 202


def _request(authorization: str) -> Request:
    return Request({"type": "http", "headers": [(b"authorization", authorization.encode())]})


def test_labels() -> None:
    """Whoever comes in is told by the label of the token."""
    access = Access(read_tokens("a:read=r,b:operate=o,bare"))
    assert [access.require(_request(f"Bearer {token}"), "read") for token in ("r", "o")] == ["a", "b"]
    assert len(access.require(_request("Bearer bare"), "read")) == 8
    with pytest.raises(Unauthorized):
        access.require(_request("Bearer x"), "read")


def test_rights() -> None:
    """A token that may read may not operate, and is told so; a bad one is told the same as ever."""
    access = Access(read_tokens("a:read=r,b:operate=o,bare"))
    assert access.require(_request("Bearer o"), "operate") == "b"
    for token, error in (("r", PermissionDenied), ("bare", PermissionDenied), ("x", Unauthorized)):
        with pytest.raises(error):
            access.require(_request(f"Bearer {token}"), "operate")


async def test_tokens_exchanged_while_it_runs(sqlite: str, tmp_path: Path, lines: Lines) -> None:
    """After new settings were taken the new token must be good and the old one no more."""
    async with serving(settings_for(sqlite, tmp_path)) as receiver:
        await receiver.service.reload(settings_for(sqlite, tmp_path, RECEIVER_API_TOKENS="another-token"))
        assert [(await receiver.get("/v1/verdicts", token)).status for token in (READER, "another-token")] == [401, 200]


async def test_secrets_exchanged_while_it_runs(sqlite: str, tmp_path: Path, lines: Lines) -> None:
    """After new settings were taken a callback must be signed with the new secret; the old one is good no more."""
    async with serving(settings_for(sqlite, tmp_path)) as receiver:
        _, body = callback()
        new = "whsec_after_the_rotation"
        assert (await receiver.post(body, signed(body, new))).status == 401
        await receiver.service.reload(settings_for(sqlite, tmp_path, RUNFLOW_WEBHOOK_SECRET=f"new={new}"))
        assert (await receiver.post(body, signed(body, FIRST))).status == 401
        assert (await receiver.post(body, signed(body, new))).status == 202
        assert [row.secret_label for row in await receiver.rows(events)] == ["new"]


async def test_settings_that_need_a_restart(sqlite: str, tmp_path: Path, lines: Lines) -> None:
    """What cannot be exchanged while it runs must stay, and be named in the log."""
    async with serving(settings_for(sqlite, tmp_path)) as receiver:
        moved = settings_for(f"{sqlite}.other", tmp_path, "[limits]\nbody_bytes = 1024\n", RECEIVER_PORT="1")
        await receiver.service.reload(moved)
        assert [line["settings"] for line in lines.of("settings.need_a_restart")] == [
            ["database_url", "port", "limits"]
        ]
        assert (await receiver.post(callback()[1].ljust(2000))).status == 202
        assert await receiver.count(events) == 1
