"""`receiver send`: a sample callback, signed as Runflow signs."""

import os
import secrets
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import UUID

import click
import orjson
from pydantic import SecretStr

from receiver.cli.common import NO_SUCCESS, fail, json_option, quiet_logs, read_settings, run
from receiver.cli.output import print_json, shown
from receiver.core.callback import SAMPLE_PREFIX
from receiver.core.signature import Secret
from receiver.httpclient import Client, HTTPError, why
from receiver.sinks.posting import web_address
from receiver.web.hook import PATH

TIMEOUT = 15.0
SHOWN = 1000
"""Characters of an answer."""


class Posted(NamedTuple):
    """What came of one post; without a status there was no answer, and `answer` says why."""

    status: int | None
    answer: str

    @property
    def was_taken(self) -> bool:
        """Whether the answer was 2xx."""
        return self.status is not None and 200 <= self.status < 300


def _address(_context: click.Context, _parameter: click.Parameter, url: str) -> str:
    try:
        web_address(SecretStr(url))
    except ValueError as error:
        raise click.BadParameter(f"{error}, such as http://127.0.0.1:8000{PATH}") from None
    return url


@click.command()
@click.argument("status", type=click.Choice(["completed", "failed"]), default="completed")
@click.option(
    "--to", "url", required=True, metavar="URL", callback=_address, help=f"Where to post it, {PATH} included."
)
@click.option("--evaluation-id", type=click.UUID, help="In place of a fresh sample id.")
@click.option(
    "--count",
    type=click.IntRange(1, 100_000),
    default=1,
    show_default=True,
    help="So many, each with an id of its own.",
)
@click.option(
    "--body", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Post this file's bytes instead."
)
@json_option
def send(
    status: Literal["completed", "failed"],
    url: str,
    evaluation_id: UUID | None,
    count: int,
    body: Path | None,
    as_json: bool,
) -> None:
    """Sign a sample callback with the first of RUNFLOW_WEBHOOK_SECRET, post it, print the answer.

    Exit status 1 if an answer is not 2xx. The verdicts of samples go to no sink but `file`.
    """
    if evaluation_id is not None and (count > 1 or body is not None):
        raise click.UsageError("--evaluation-id names one evaluation; leave out --count and --body")
    posted = run(_send(url, lambda: _content(status, evaluation_id, body), count, tell=not as_json))
    if as_json:
        print_json([each._asdict() for each in posted])
    refused = sum(not each.was_taken for each in posted)
    if refused:
        fail(f"{refused} of {count} not taken", NO_SUCCESS)


def _content(status: str, evaluation_id: UUID | None, body: Path | None) -> bytes:
    return body.read_bytes() if body is not None else sample(status, evaluation_id or sample_id())


async def _send(url: str, next_body: Callable[[], bytes], count: int, *, tell: bool) -> list[Posted]:
    settings = read_settings()
    quiet_logs(settings)
    settings.require_webhook_secret()
    secret = settings.webhook_secrets[0]
    posted = []
    async with aclosing(Client(timeout=TIMEOUT)) as client:
        for _ in range(count):
            posted.append(await _post(client, url, next_body(), secret))
            if tell:
                click.echo(f"{posted[-1].status or 'no answer:'} {shown(posted[-1].answer)}")
    return posted


async def _post(client: Client, url: str, body: bytes, secret: Secret) -> Posted:
    headers = {
        "content-type": "application/json",
        "runflow-signature": secret.sign(body),
        "runflow-request-id": f"req_{secrets.token_hex(8)}",
    }
    try:
        answer = await client.post(url, headers, body)
    except HTTPError as error:
        return Posted(None, why(error))
    return Posted(answer.status_code, answer.text[:SHOWN])


def sample_id() -> UUID:
    """A fresh id that marks a sample: it starts with `00000000-`."""
    return UUID(SAMPLE_PREFIX.strip("-") + os.urandom(12).hex())


def sample(status: str, evaluation_id: UUID) -> bytes:
    """The body of a sample callback, with the fields that Runflow sends."""
    failed = status == "failed"
    content: dict[str, Any] = {
        "event": f"evaluation.{status}",
        "evaluation_id": str(evaluation_id),
        "status": status,
        "client_ref": "sample",
        "run_id": None,
        "overall_passed": None if failed else False,
        "weighted_pass_rate": None if failed else 0.7,
        "top_issues": None if failed else ["This is a sample: the left hand has six fingers"],
        "top_strengths": None if failed else ["This is a sample: the light is even"],
        "primary_action_code": None if failed else "regenerate",
        "failure_code": "timed_out" if failed else None,
        "completed_at": datetime.now(UTC).isoformat(timespec="microseconds"),
    }
    return orjson.dumps(content)
