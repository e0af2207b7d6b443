"""What a refusal of Runflow's means for whoever gave feedback, and what they can do."""

from typing import Literal

from receiver.errors import RunflowRefused

Subject = Literal["evaluation", "run"]

_CREDENTIALS = {"evaluation": "RUNFLOW_API_KEY", "run": "RUNFLOW_USER_TOKEN"}
_NOT_ALLOWED = {
    "evaluation": "needs the scope evaluations:edit, which a key does not get by itself",
    "run": "must be a person's token of this organisation; an API key may not say what it thinks of a run",
}


def is_passing(error: RunflowRefused) -> bool:
    """Whether Runflow gave no answer or is in trouble, so that the same may go well later."""
    return error.status is None or error.status in (408, 425) or error.status >= 500


def explained(error: RunflowRefused, subject: Subject) -> str:
    """The refusal and its remedy. It shows no secret."""
    if is_passing(error):
        return f"Runflow: {error}; whether it was taken is not known, and to say it again does no harm"
    return f"Runflow {error}: {_remedy(error, subject)}"


def _remedy(error: RunflowRefused, subject: Subject) -> str:
    match error.status:
        case 401:
            return f"{_CREDENTIALS[subject]} is not taken"
        case 403:
            return f"{_CREDENTIALS[subject]} {_NOT_ALLOWED[subject]}"
        case 404:
            return f"there is no such {subject}, or it is another organisation's"
        case 409:
            return "something else changed it at the same time; say it again"
        case 429:
            return "too many requests; say it again later"
        case 400 | 422 if error.problems:
            return "; ".join(f"{field}: {message}" for field, message in error.problems)
    return "it is not taken as it is"
