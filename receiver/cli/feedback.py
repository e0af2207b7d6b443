"""`receiver feedback`: what a person thinks of an evaluation or of a run, told to Runflow."""

from collections.abc import Callable
from typing import Any, get_args
from uuid import UUID

import click
from pydantic import ValidationError

from receiver.cli.common import UTF8, WRONG_USE, fail, json_option, quiet_logs, read_settings, run
from receiver.cli.output import print_json, shown
from receiver.core.feedback import LONGEST_REASON, Feedback
from receiver.errors import RunflowRefused, SettingsError
from receiver.runflow.client import RunflowClient
from receiver.runflow.refusals import Subject, explained
from receiver.settings import Settings
from receiver.wiring import runflow_of, runflow_of_a_person

THUMBS = {"up": True, "down": False, "clear": None}
_MISSING = {
    "evaluation": "RUNFLOW_API_KEY: is missing; give a key with the scope evaluations:edit",
    "run": "RUNFLOW_USER_TOKEN: is missing; only a person's token may say what it thinks of a run, an API key may not",
}


def thumb_options(command: Callable[..., None]) -> Callable[..., None]:
    """One of them must be given."""
    for name, told in (("clear", "Take back what was said."), ("down", "It is bad."), ("up", "It is good.")):
        command = click.option(f"--{name}", is_flag=True, help=told)(command)
    return command


@click.command()
@click.argument("subject", type=click.Choice(get_args(Subject)))
@click.argument("id_", metavar="ID", type=click.UUID)
@thumb_options
@click.option("--reason", type=UTF8, metavar="TEXT", help=f"Why, in at most {LONGEST_REASON} characters.")
@json_option
def feedback(subject: Subject, id_: UUID, reason: str | None, as_json: bool, **thumbs: bool) -> None:
    """Tell Runflow what you think of an evaluation, or of the run that made the image.

    An evaluation by RUNFLOW_API_KEY, which needs the scope evaluations:edit; a run by RUNFLOW_USER_TOKEN, a person's token. To
    say it twice does no harm.
    """
    thought = _read(thumbs, reason)
    answer = run(_give(subject, id_, thought))
    if as_json:
        print_json(answer)
        return
    said = next(name for name in THUMBS if thumbs[name])
    because = f": {shown(answer.get('feedback_reason'))}" if answer.get("feedback_reason") else ""
    click.echo(f"{subject} {id_}: {'cleared' if said == 'clear' else f'thumb {said}'}{because}")


def _read(thumbs: dict[str, bool], reason: str | None) -> Feedback:
    given = [name for name in THUMBS if thumbs[name]]
    if len(given) != 1:
        fail("say one of --up, --down and --clear", WRONG_USE)
    if given == ["clear"] and reason is not None:
        fail("--reason: goes with --up or --down; --clear takes back the reason too", WRONG_USE)
    try:
        return Feedback(is_positive=THUMBS[given[0]], reason=reason)
    except ValidationError:
        fail(f"--reason: must have 1 to {LONGEST_REASON} characters; leave it out where there is none", WRONG_USE)


async def _give(subject: Subject, id_: UUID, thought: Feedback) -> dict[str, Any]:
    settings = read_settings()
    quiet_logs(settings)
    client = _client(subject, settings)
    try:
        give = client.give_feedback if subject == "evaluation" else client.give_run_feedback
        return await give(id_, thought)
    except RunflowRefused as error:
        raise RunflowRefused(explained(error, subject), error.status) from None
    finally:
        await client.close()


def _client(subject: Subject, settings: Settings) -> RunflowClient:
    client = runflow_of(settings) if subject == "evaluation" else runflow_of_a_person(settings)
    if client is None:
        raise SettingsError(_MISSING[subject])
    return client
