"""What `POST /v1/evaluations` and the feedback call take, with Runflow's limits; and made-up submissions.

(docs.runflow.io/api-reference/evaluations/submit-an-image-for-quality-evaluation)
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from receiver.errors import FieldProblem, Invalid, RequestError
from receiver.offline.catalogue import TASKS
from receiver.offline.luck import Luck

JOB_CLASSES = frozenset({"standard"})
"""The active ones. `quick` exists as a word and is refused."""

_LOOPBACK_NAMES = frozenset({"localhost"})
_ASSETS = "https://storage.runflow.io/assets/"
_SIGNED = "?X-Amz-Expires=86400&X-Amz-Signature=REDACTED"
_RUNFLOW_ASSET = "runflow://assets/"


Model = TypeVar("Model", bound=BaseModel)


def read_model(model: type[Model], body: bytes) -> Model:
    """The body of a request as this model. Raises RequestError if it is not JSON, Invalid with each wrong field otherwise."""
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
    if found[0]["type"] == "json_invalid":
        raise RequestError("the body is not JSON")
    raise Invalid([FieldProblem(".".join(str(part) for part in one["loc"]), one["msg"]) for one in found])


def is_loopback(url: str) -> bool:
    """Whether the host of this address is this machine."""
    host = urlsplit(url).hostname or ""
    if host in _LOOPBACK_NAMES:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_public(host: str) -> bool:
    try:
        return ip_address(host).is_global
    except ValueError:
        return host not in _LOOPBACK_NAMES and bool(host)


def _media(url: str) -> str:
    if url.startswith("data:image/"):
        return url
    if url.startswith(_RUNFLOW_ASSET):
        UUID(url.removeprefix(_RUNFLOW_ASSET))
        return url
    if not url.startswith("https://") or not _is_public(urlsplit(url).hostname or ""):
        raise ValueError("must be https:// of a public host, runflow://assets/{uuid} or data:image/…")
    return url


def _callback(url: str) -> str:
    if not urlsplit(url).hostname:
        raise ValueError("must be an address")
    if not url.startswith("https://") and not (url.startswith("http://") and is_loopback(url)):
        raise ValueError("must be https:// (this offline Runflow takes http:// on loopback too)")
    return url


def _active(job_class: str) -> str:
    if job_class not in JOB_CLASSES:
        raise ValueError("unknown or inactive job class")
    return job_class


Media = Annotated[str, Field(max_length=12_000_000), AfterValidator(_media)]


class ReferenceImage(BaseModel):
    """An image to compare with."""

    url: Media
    kind: str | None = None
    description: str | None = None


class Submission(BaseModel):
    """One image sent in for evaluation."""

    generated_image_url: Media
    task_type: str = Field(min_length=1, max_length=100)
    task_description: str | None = Field(default=None, max_length=4_000)
    generation_prompt: str | None = Field(default=None, max_length=10_000)
    evaluation_instructions: str | None = Field(default=None, max_length=4_000)
    input_attributes: dict[str, Any] | None = None
    reference_images: list[ReferenceImage] | None = Field(default=None, max_length=4)
    run_id: UUID | None = None
    client_ref: str | None = Field(default=None, max_length=255)
    job_class: Annotated[str, Field(max_length=50), AfterValidator(_active)] = "standard"
    callback_url: Annotated[str, Field(max_length=2_048), AfterValidator(_callback)] | None = None


class Feedback(BaseModel):
    """What a customer thinks of an evaluation; `is_positive` must be there, and null clears."""

    is_positive: bool | None
    reason: str | None = Field(default=None, min_length=1, max_length=2_000)


def invent_submission(luck: Luck, moment: datetime, given: Mapping[str, Any]) -> Submission:
    """A believable submission with the fields of `given` as given. Raises pydantic's ValidationError for a wrong one."""
    task = luck.choice(TASKS)
    run = luck.happens(0.7)
    drawn: dict[str, Any] = {
        "generated_image_url": image_url(luck, moment),
        "task_type": task.task_type,
        "task_description": luck.choice(task.descriptions),
        "generation_prompt": luck.choice(task.prompts),
        "evaluation_instructions": luck.choice(task.instructions),
        "input_attributes": task.attributes,
        "reference_images": [
            {"url": image_url(luck, moment), "kind": kind, "description": None} for kind in task.reference_kinds
        ],
        "run_id": luck.uuid7(moment - timedelta(minutes=12)) if run else None,
        "client_ref": f"order-{luck.randint(10_000, 99_999)}/{task.task_type}-{luck.randint(1, 12):02}",
    }
    return Submission.model_validate({**drawn, **given})


def image_url(luck: Luck, moment: datetime) -> str:
    """A signed address of a stored image, as Runflow gives it out."""
    return f"{_ASSETS}{luck.uuid7(moment)}.png{_SIGNED}"
