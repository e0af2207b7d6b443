"""Runflow's endpoints: health, who the key is, and submit, read, list and comment on evaluations; comment on runs.

(docs.runflow.io/concepts/evaluations; the list follows the API's common list contract)
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final
from uuid import UUID

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.core.evaluation import NARROW_EMBEDS, WIDE_EMBEDS
from receiver.errors import FieldProblem, Invalid, NotFound, PermissionDenied, RequestError, Unauthorized
from receiver.offline import answers, steering
from receiver.offline.access import CREATE, EDIT, READ, Access
from receiver.offline.evaluations import Evaluation
from receiver.offline.evaluator import Evaluator
from receiver.offline.faults import EmbedsRefused, take
from receiver.offline.journal import ServedRequest
from receiver.offline.related import run_and_target
from receiver.offline.submission import Feedback, Submission, read_model
from receiver.offline.trees import ORGANIZATION_ID, tree
from receiver.offline.trouble import trouble

_NOTED_BYTES: Final = 64 * 1024
PERSON: Final = "a person"
"""In the place of a scope: no API key may."""

Handler = Callable[[Request], Awaitable[Response]]


def create_app(evaluator: Evaluator, access: Access) -> Starlette:
    """The API of this evaluator, and the addresses by which another process steers and watches it."""
    api = _Api(evaluator, access)
    return Starlette(
        routes=[
            Route("/v1/health", _health),
            Route("/v1/auth/me", api.endpoint(api.who, None)),
            Route("/v1/evaluations", api.endpoint(api.search, READ)),
            Route("/v1/evaluations", api.endpoint(api.submit, CREATE), methods=["POST"]),
            Route("/v1/evaluations/{evaluation_id}", api.endpoint(api.get, READ)),
            Route("/v1/evaluations/{evaluation_id}/feedback", api.endpoint(api.feedback, EDIT), methods=["PATCH"]),
            Route("/v1/runs/{run_id}/feedback", api.endpoint(api.run_feedback, PERSON), methods=["PATCH"]),
            *steering.routes(evaluator),
        ],
        exception_handlers={RequestError: answers.on_request_error, HTTPException: answers.on_http_exception},
    )


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


class _Api:
    def __init__(self, evaluator: Evaluator, access: Access) -> None:
        self._evaluator = evaluator
        self._access = access

    def endpoint(self, handle: Handler, scope: str | None) -> Handler:
        """The handler behind the key, the faults and the journal."""

        async def served(request: Request) -> Response:
            body = await request.body()
            self._evaluator.journal.wake()
            try:
                self._check_key(request, scope)
                response = await trouble(self._evaluator.faults, request, _noted_id(request)) or await handle(request)
            except RequestError as error:
                response = answers.refusal_of(error)
            self._note(request, body, response)
            return response

        return served

    async def who(self, _: Request) -> Response:
        return JSONResponse({"org_id": str(ORGANIZATION_ID), "scopes": sorted(self._access.scopes)})

    async def submit(self, request: Request) -> Response:
        body = await request.body()
        submission = read_model(Submission, body)
        key = request.headers.get("idempotency-key")
        evaluation = self._evaluator.evaluations.once(key, body, lambda: self._evaluator.take(submission))
        request.path_params["evaluation_id"] = str(evaluation.id)  # the path has none, and the journal wants it
        answer = tree(evaluation)
        return JSONResponse(answer | {"status_code": "pending"} if evaluation.completed_at is None else answer, 202)

    async def get(self, request: Request) -> Response:
        embeds = _embeds(request)
        evaluation_id = _evaluation_id(request)
        faults = self._evaluator.faults
        _check_embeds(faults.embeds_refused, embeds, evaluation_id)
        if take(faults.not_found_first, evaluation_id):
            raise NotFound("no evaluation with this id")
        evaluation = self._evaluator.evaluations.get(evaluation_id)
        if take(faults.pending_first, evaluation_id):
            return JSONResponse(tree(_undecided(evaluation), embeds))
        answer = JSONResponse(tree(evaluation, embeds))
        if evaluation.completed_at is not None and take(faults.changed_verdict, evaluation_id):
            self._evaluator.change(evaluation_id)
        return answer

    async def search(self, request: Request) -> Response:
        page = self._evaluator.evaluations.page(request.query_params)
        cursors = {"first": page.first, "next": page.next, "previous": page.previous}
        return JSONResponse({"items": [tree(evaluation) for evaluation in page.items], **cursors})

    async def feedback(self, request: Request) -> Response:
        evaluation_id = _evaluation_id(request)
        self._evaluator.comment(evaluation_id, read_model(Feedback, await request.body()))
        return JSONResponse(tree(self._evaluator.evaluations.get(evaluation_id)))

    async def run_feedback(self, request: Request) -> Response:
        try:
            run_id = UUID(request.path_params["run_id"])
        except ValueError:
            raise _no_uuid("run_id") from None
        evaluation = self._evaluator.comment_on_run(run_id, read_model(Feedback, await request.body()))
        if evaluation is None:
            raise answers.RunNotFound("no run with this id")
        return JSONResponse(run_and_target(evaluation, ORGANIZATION_ID)[0])

    def _check_key(self, request: Request, scope: str | None) -> None:
        if take(self._evaluator.faults.key_revoked, _noted_id(request)):
            raise Unauthorized("the API key is revoked")
        authorization = request.headers.get("authorization", "")
        if scope == PERSON:
            self._access.check_person(authorization)
        else:
            self._access.check(authorization, scope)

    def _note(self, request: Request, body: bytes, response: Response) -> None:
        self._evaluator.journal.served(
            ServedRequest(
                method=request.method,
                path=request.url.path,
                query=dict(request.query_params),
                headers={name: value for name, value in request.headers.items() if name != "authorization"},
                body=body[:_NOTED_BYTES],
                evaluation_id=_noted_id(request),
                status=None if isinstance(response, answers.NoAnswer) else response.status_code,
            )
        )


def _evaluation_id(request: Request) -> UUID:
    evaluation_id = _noted_id(request)
    if evaluation_id is None:
        raise _no_uuid("evaluation_id")
    return evaluation_id


def _no_uuid(name: str) -> Invalid:
    return Invalid([FieldProblem(name, "must be a UUID")])


def _noted_id(request: Request) -> UUID | None:
    try:
        return UUID(request.path_params["evaluation_id"])
    except (KeyError, ValueError):
        return None


def _embeds(request: Request) -> list[str]:
    names = [name for name in request.query_params.get("embed", "").split(",") if name]
    unknown = [name for name in names if name not in WIDE_EMBEDS]
    if unknown:
        raise Invalid([FieldProblem("embed", f"no such embed: {name}") for name in unknown])
    return names


def _check_embeds(refused: EmbedsRefused | None, embeds: list[str], evaluation_id: UUID) -> None:
    if refused is None or not embeds:
        return
    if not refused.narrow and set(embeds) <= set(NARROW_EMBEDS):
        return
    if refused.take(evaluation_id):
        if refused.status == 403:
            raise PermissionDenied("the API key may not embed this")
        raise Invalid([FieldProblem("embed", "cannot be embedded")])


def _undecided(evaluation: Evaluation) -> Evaluation:
    return replace(evaluation, completed_at=None, updated_at=evaluation.submitted_at)
