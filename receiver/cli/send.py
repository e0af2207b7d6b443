"""`receiver send`: a sample callback, signed as Runflow signs."""

import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import click
import orjson

from receiver.cli.common import NO_SUCCESS, fail, quiet_logs, read_settings, run
from receiver.core.callback import SAMPLE_PREFIX
from receiver.core.signature import Secret
from receiver.errors import SettingsError
from receiver.httpclient import AsyncClient, HTTPError, InvalidURL, open_client, why

TIMEOUT = 15.0


@click.command()
@click.argument("status", type=click.Choice(["completed", "failed"]), default="completed")
@click.option("--to", "url", required=True, metavar="URL", help="Where to post it, /webhook/runflow included.")
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
def send(
    status: Literal["completed", "failed"], url: str, evaluation_id: UUID | None, count: int, body: Path | None
) -> None:
    """Sign a sample callback with the first of RUNFLOW_WEBHOOK_SECRET, post it, print the answer.

    Exit status 1 if an answer is not 2xx. The verdicts of samples go to no sink but `file`.
    """
    if evaluation_id is not None and count > 1:
        raise click.UsageError("--evaluation-id names one evaluation; leave out --count")
    run(_send(url, lambda: _content(status, evaluation_id, body), count))


def _content(status: str, evaluation_id: UUID | None, body: Path | None) -> bytes:
    return body.read_bytes() if body is not None else sample(status, evaluation_id or sample_id())


async def _send(url: str, next_body: Callable[[], bytes], count: int) -> None:
    settings = read_settings()
    quiet_logs(settings)
    settings.require_webhook_secret()
    secret = settings.webhook_secrets[0]
    refused = 0
    async with open_client(timeout=TIMEOUT) as client:
        for _ in range(count):
            refused += not await _post(client, url, next_body(), secret)
    if refused:
        fail(f"{refused} of {count} not taken", NO_SUCCESS)


async def _post(client: AsyncClient, url: str, body: bytes, secret: Secret) -> bool:
    """Whether the answer was 2xx."""
    headers = {
        "Content-Type": "application/json",
        "Runflow-Signature": secret.sign(body),
        "Runflow-Request-Id": f"req_{secrets.token_hex(8)}",
    }
    try:
        answer = await client.post(url, content=body, headers=headers)
    except InvalidURL:
        raise SettingsError(f"--to: {url} is no address; write http://HOST:PORT/webhook/runflow") from None
    except HTTPError as error:
        click.echo(f"no answer: {why(error)}")
        return False
    click.echo(f"{answer.status_code} {answer.text[:1000]}")
    return answer.is_success


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
