"""`receiver feedback`: thumbs for evaluations by key, for runs by a person's token."""

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from receiver.offline import OfflineRunflow
from receiver.offline.access import READ
from receiver.offline.faults import RateLimited, RequestFault
from tests.cli.installation import API_KEY, Installation, Result, beside

PERSON = "rf_user_of_the_command_line"


@pytest.fixture
def runflow() -> Iterator[OfflineRunflow]:
    """Runs beside the command."""
    running = OfflineRunflow(secret="whsec_of_feedback", api_key=API_KEY, user_token=PERSON)
    with beside(running):
        yield running


def say(here: Installation, runflow: OfflineRunflow, *arguments: object, **environ: str) -> Result:
    credentials = {"RUNFLOW_API_KEY": API_KEY, "RUNFLOW_USER_TOKEN": PERSON} | environ
    said = here.run("feedback", *arguments, RUNFLOW_API_URL=runflow.url, **credentials)
    assert PERSON not in said.out + said.err
    return said


def test_an_evaluation(here: Installation, runflow: OfflineRunflow) -> None:
    """Up, down with a reason, and cleared; a line each, by the API key."""
    key = runflow.add()
    assert say(here, runflow, "evaluation", key, "--up") == (0, f"evaluation {key}: thumb up\n", "")
    said = say(here, runflow, "evaluation", key, "--down", "--reason", "six\x1b[2J fingers")
    assert said == (0, f"evaluation {key}: thumb down: six [2J fingers\n", "")
    assert json.loads(runflow.requests[-1].body) == {"is_positive": False, "reason": "six\x1b[2J fingers"}
    assert say(here, runflow, "evaluation", key, "--clear") == (0, f"evaluation {key}: cleared\n", "")
    assert json.loads(runflow.requests[-1].body) == {"is_positive": None}


def test_a_run(here: Installation, runflow: OfflineRunflow) -> None:
    """By the person's token; `--json` is Runflow's answer, the whole run."""
    run_id = uuid4()
    runflow.add(run_id=run_id)
    said = say(here, runflow, "run", run_id, "--up", "--reason", "good light", "--json")
    assert (said.status, said.err) == (0, "")
    assert (said.json["id"], said.json["feedback_is_positive"]) == (str(run_id), True)
    said = say(here, runflow, "run", run_id, "--up", RUNFLOW_USER_TOKEN=API_KEY)
    assert (said.status, said.out) == (1, "")
    assert "403 PERMISSION_DENIED: RUNFLOW_USER_TOKEN must be a person's token" in said.err
    said = say(here, runflow, "run", uuid4(), "--up")
    assert (said.status, said.err) == (
        1, "Runflow answered 404 RUN_NOT_FOUND: there is no such run, or it is another organisation's\n",
    )  # fmt: skip


def test_refused(here: Installation, runflow: OfflineRunflow) -> None:
    """Each refusal is a line that says what to do, and exit status 1."""
    key = runflow.add()
    said = say(here, runflow, "evaluation", key, "--up", RUNFLOW_API_KEY="rf_live_other")
    assert said == (1, "", "Runflow answered 401 UNAUTHORIZED: RUNFLOW_API_KEY is not taken\n")
    runflow.faults.rate_limited = RateLimited(method="PATCH", count=1)
    assert "429 RATE_LIMITED: too many requests" in say(here, runflow, "evaluation", key, "--up").err
    runflow.faults.reset = RequestFault(method="PATCH", count=1)
    said = say(here, runflow, "evaluation", key, "--up")
    assert said.status == 1
    assert "whether it was taken is not known, and to say it again does no harm" in said.err
    runflow.access.scopes = frozenset({READ})
    said = say(here, runflow, "evaluation", key, "--up")
    assert (said.status, "RUNFLOW_API_KEY needs the scope evaluations:edit" in said.err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["evaluation", str(uuid4())], "say one of --up, --down and --clear"),
        (["evaluation", str(uuid4()), "--up", "--clear"], "say one of --up, --down and --clear"),
        (["evaluation", str(uuid4()), "--clear", "--reason", "x"], "--clear takes back the reason too"),
        (["evaluation", str(uuid4()), "--up", "--reason", ""], "--reason: must have 1 to 2000 characters"),
        (["evaluation", str(uuid4()), "--up", "--reason", "x" * 2001], "--reason: must have 1 to 2000 characters"),
        (["evaluation", "one", "--up"], "not a valid UUID"),
        (["verdict", str(uuid4()), "--up"], "'evaluation', 'run'"),
    ],
    ids=["no thumb", "two thumbs", "clear and reason", "empty", "long", "no id", "no such thing"],
)
def test_wrong_use(here: Installation, arguments: list[str], told: str) -> None:
    """Is told before anything is asked of Runflow."""
    said = here.run("feedback", *arguments)
    assert (said.status, said.out) == (2, "")
    assert told in said.err


@pytest.mark.parametrize(("subject", "name"), [("evaluation", "RUNFLOW_API_KEY"), ("run", "RUNFLOW_USER_TOKEN")])
def test_without_a_credential(here: Installation, subject: str, name: str) -> None:
    """The setting that is missing is named, with what it must be."""
    said = here.run("feedback", subject, uuid4(), "--up")
    assert (said.status, said.err.startswith(f"{name}: is missing; ")) == (2, True)
