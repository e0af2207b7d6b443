"""Runflow's API: one evaluation with its embeds, what a person thinks of one, and whether the key is good.

An answer is read into one of a few meanings here, so that the fetch lane decides on meanings and not on statuses.
(docs.runflow.io/api-reference/evaluations/get-evaluation, docs.runflow.io/concepts/errors)
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from receiver.core.evaluation import Evaluation
from receiver.core.feedback import Feedback
from receiver.core.fetching import LONGEST, Trouble
from receiver.core.retry import retry_after
from receiver.errors import FieldProblem, RunflowRefused
from receiver.httpclient import Client, HTTPError, Response, why

TIMEOUT = 20.0
"""Seconds for one whole request."""
LARGEST_ANSWER = 32 * 1024 * 1024
"""An image may stand in the tree as a data: URI of 12 million characters, more than once."""
MOST_PROBLEMS = 20
LONGEST_PROBLEM = 200


class TreeRead(NamedTuple):
    """A terminal evaluation, read and as it came."""

    evaluation: Evaluation
    body: bytes
    oddities: list[str]


class NoTree(NamedTuple):
    """No tree this time. `after` is the wait that the API asked for, `detail` is for people, `status` that of the answer."""

    trouble: Trouble
    detail: str
    after: timedelta | None = None
    status: int | None = None


class EmbedsRefused(NamedTuple):
    """403 or 422: the key may lack a scope for one of the embeds, or Runflow does not know it."""

    status: int
    detail: str


FetchAnswer = TreeRead | NoTree | EmbedsRefused


class RunflowClient:
    """Calls to Runflow's API under one key."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        organization_id: str | None = None,
        connections: int = 10,
        timeout: float = TIMEOUT,
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._headers = {"authorization": f"Bearer {api_key}", "accept": "application/json"}
        if organization_id:
            self._headers["x-organization-id"] = organization_id
        self._client = Client(timeout=timeout, connections=connections)

    async def close(self) -> None:
        """Ends all connections."""
        await self._client.aclose()

    async def evaluation(self, evaluation_id: UUID, embeds: Sequence[str]) -> FetchAnswer:
        """What Runflow says of one evaluation. Raises nothing that a network can cause."""
        try:
            status, headers, body = await self._request(
                "GET", f"/v1/evaluations/{evaluation_id}?embed={','.join(embeds)}"
            )
        except _NoAnswer as error:
            return NoTree(error.trouble, str(error))
        if status == 200:
            return _read(body)
        return _refusal(status, headers, body)

    async def who_am_i(self) -> None:
        """Whether Runflow takes the key. Raises `RunflowRefused`."""
        await self._ask("GET", "/v1/auth/me")

    async def give_feedback(self, evaluation_id: UUID, feedback: Feedback) -> dict[str, Any]:
        """Says what a person thinks of an evaluation, or takes it back; returns the evaluation as Runflow answers it.

        The key needs `evaluations:edit`. To say it twice does no harm. Raises `RunflowRefused`.
        """
        return _object(await self._ask("PATCH", f"/v1/evaluations/{evaluation_id}/feedback", feedback.content()))

    async def give_run_feedback(self, run_id: UUID, feedback: Feedback) -> dict[str, Any]:
        """The same for a run, and returns the run. Only a person's token may, no API key. Raises `RunflowRefused`."""
        return _object(await self._ask("PATCH", f"/v1/runs/{run_id}/feedback", feedback.content()))

    async def _ask(self, method: str, path: str, content: object = None) -> bytes:
        """The body of a good answer. Raises `RunflowRefused`."""
        try:
            status, headers, body = await self._request(method, path, content)
        except _NoAnswer as error:
            raise RunflowRefused(str(error)) from None
        if not 200 <= status < 300:
            raise _refused(status, headers, body)
        return body

    async def _request(self, method: str, path: str, content: object = None) -> tuple[int, Mapping[str, str], bytes]:
        """The status, the headers and the whole body. Raises `_NoAnswer`."""
        sent = None if content is None else orjson.dumps(content)
        headers = self._headers if sent is None else {**self._headers, "content-type": "application/json"}
        try:
            async with asyncio.timeout(self._timeout):
                async with aclosing(await self._client.send(method, self._url + path, headers, sent)) as answer:
                    return answer.status_code, answer.headers, await _bounded(answer)
        except (HTTPError, TimeoutError) as error:
            raise _NoAnswer(Trouble.UNREACHABLE, why(error)) from error


class _NoAnswer(Exception):
    """None came, or none that could be taken in; the message is for people."""

    def __init__(self, trouble: Trouble, message: str) -> None:
        super().__init__(message)
        self.trouble = trouble


async def _bounded(answer: Response) -> bytes:
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raise _NoAnswer(Trouble.UNREADABLE, f"the answer is over {LARGEST_ANSWER} bytes")
    return bytes(body)


def _read(body: bytes) -> FetchAnswer:
    try:
        evaluation, oddities = Evaluation.read(body)
    except ValueError:
        return NoTree(Trouble.UNREADABLE, "200, but no JSON object", status=200)
    if not evaluation.is_terminal:
        return NoTree(Trouble.NOT_TERMINAL, f"status_code is {str(evaluation.status_code)[:40]}", status=200)
    return TreeRead(evaluation, body, oddities)


_TROUBLES: Mapping[int, Trouble] = {
    401: Trouble.KEY_REFUSED,
    404: Trouble.NOT_FOUND,
    408: Trouble.SERVER_ERROR,
    429: Trouble.RATE_LIMITED,
}


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> FetchAnswer:
    detail = f"{status}{_code(body)}"
    if status in (403, 422):
        return EmbedsRefused(status, detail)
    trouble = _TROUBLES.get(status, Trouble.SERVER_ERROR if status >= 500 else Trouble.REFUSED)
    return NoTree(trouble, detail, retry_after(headers.get("retry-after"), LONGEST), status)


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise RunflowRefused("answered, but with no JSON object")
    return content


def _refused(status: int, headers: Mapping[str, str], body: bytes) -> RunflowRefused:
    after = retry_after(headers.get("retry-after"), LONGEST)
    return RunflowRefused(
        f"answered {status}{_code(body)}",
        status,
        after=None if after is None else after.total_seconds(),
        problems=_problems(_error(body).get("errors")),
    )


def _problems(errors: Any) -> list[FieldProblem]:
    """The fields that Runflow names, as far as they are named in the way that is known, on one line each."""
    return [
        FieldProblem(_plain(each["field"]), _plain(each["message"]))
        for each in (errors if isinstance(errors, list) else ())[:MOST_PROBLEMS]
        if isinstance(each, dict) and isinstance(each.get("field"), str) and isinstance(each.get("message"), str)
    ]


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text[:LONGEST_PROBLEM])


def _error(body: bytes) -> dict[str, Any]:
    """The error in either of the two shapes that are known; empty where it is in another."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(content, dict) and isinstance(content.get("error"), dict):
        content = content["error"]
    return content if isinstance(content, dict) else {}


def _code(body: bytes) -> str:
    """Runflow's word for the error, as ` CODE`."""
    code = _error(body).get("code")
    return f" {code[:64]}" if isinstance(code, str) and code.isascii() and code.isprintable() else ""
