"""`apprise`: a readable message to one of the many services that Apprise knows (appriseit.com/services).

Its address holds tokens and passwords, and is shown nowhere.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, SecretStr

from receiver.core.envelope import Message
from receiver.core.verdict import Verdict
from receiver.errors import SettingsError
from receiver.sinks.base import Again, Done, Down, Never, Outcome, SinkError, SinkOptions
from receiver.sinks.connecting import BROKEN
from receiver.sinks.posting import NO_ANSWER, Answer, Poster, judge
from receiver.sinks.summary import address_of, lines, plain, summarise

_STATUS = re.compile(r"\berror=(\d{3})\b")
"""In what Apprise logs of a service that answered, whichever it is."""
_NOT_CONNECTED = "connection error"
_SECONDS_MORE = 1.0
"""Our time is up before the service's own is, so that one tells a wait from a refusal."""


def _apprise_address(address: SecretStr) -> SecretStr:
    if not re.match(r"[a-z][a-z0-9]*://.", address.get_secret_value(), re.IGNORECASE):
        raise ValueError("must be one address of Apprise's, such as discord://WEBHOOK_ID/WEBHOOK_TOKEN")
    return address


class AppriseOptions(SinkOptions):
    """Which service."""

    type: Literal["apprise"] = "apprise"
    url: Annotated[SecretStr, AfterValidator(_apprise_address)] = Field(
        description="One address of Apprise's, such as `discord://WEBHOOK_ID/WEBHOOK_TOKEN`. It is never shown."
    )
    timeout: float = Field(default=20, gt=0, le=300, description="Seconds that one attempt may take.")
    concurrency: int = Field(default=1, ge=1, le=20, description="Attempts under way at once, in each process.")
    rate: float | None = Field(default=1, gt=0, description="Most messages a second, over all processes.")

    def open(self, public_url: str | None, /) -> "AppriseSink":
        """The sink; with `public_url`, each message links to the whole verdict there.

        Raises `SettingsError` if Apprise does not know what to make of the address.
        """
        return AppriseSink(self, public_url)


class AppriseSink:
    """Done is what Apprise calls true. Hardly any service drops repeats."""

    batch: ClassVar[int] = 1

    def __init__(self, options: AppriseOptions, public_url: str | None) -> None:
        from receiver.sinks.apprise_service import Service

        self._timeout = options.timeout
        self._public_url = public_url
        try:
            self._service = Service(options.url.get_secret_value(), timeout=options.timeout + _SECONDS_MORE)
        except ValueError as error:
            raise SettingsError(f"sink {options.name}: {error}") from error

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Sends them one after the other."""
        return [await self._send(message.verdict) for message in messages]

    async def _send(self, verdict: Verdict) -> Outcome:
        try:
            async with asyncio.timeout(self._timeout):
                told = await self._service.tell(*written(verdict, self._public_url), _kind(verdict))
        except TimeoutError:
            return self._named(NO_ANSWER)
        return Done() if told.is_taken else self._named(_why_not(told.logged))

    def _named(self, outcome: Again | Never | Down) -> Again | Never | Down:
        return outcome._replace(reason=f"{self._service.name}: {outcome.reason}")

    async def check(self) -> str:
        """Connects where the address says to, and sends nothing: whatever is sent is read by somebody."""
        name, origin = self._service.name, self._service.origin
        if origin is None:
            return f"{name}: the address is well-formed; it cannot be tried without a message"
        poster = Poster(SecretStr(origin), timeout=self._timeout, connections=1, patience=self._timeout)
        try:
            await poster.reach()
        except SinkError as error:
            raise SinkError(f"{name}: {error}") from error
        finally:
            await poster.close()
        return f"connected to {name}; nothing was sent, so the address itself was not tried"

    async def close(self) -> None:
        """Nothing is kept open."""


def _why_not(logged: str) -> Again | Never | Down:
    """Apprise says no more than no. What the service answered is in what it logged, beside what is not to be shown."""
    if match := _STATUS.search(logged):
        return judge(Answer(int(match[1]), None, b""))
    if _NOT_CONNECTED in logged.lower():
        return Down(BROKEN)
    return Again("it did not take it, and Apprise does not tell why")


def _kind(verdict: Verdict) -> str:
    """By which services choose colour and symbol."""
    if verdict.event == "evaluation.failed":
        return "warning"
    if verdict.overall_passed is None:
        return "info"
    return "success" if verdict.overall_passed else "failure"


def written(verdict: Verdict, public_url: str | None) -> tuple[str, str]:
    """Title and text of a message, without any markup: what the kind `slack` says."""
    summary = summarise(verdict, _without_mentions)
    image = plain(verdict.generated_image_url, 3000)
    return summary.title, "\n\n".join(
        section
        for section in (
            "\n".join(f"{label}: {value}" for label, value in summary.fields.items()),
            *summary.sections,
            f"Image: {image}" if image.startswith("https://") and not image.endswith("…") else "",
            lines(*summary.notes, *_link(verdict, public_url)),
        )
        if section
    )


def _without_mentions(text: str | None, limit: int) -> str:
    """Apprise escapes what a service takes for markup, but for `@everyone`: nobody sees the space in it."""
    return plain(text, limit, {"@": "@\u200b"})


def _link(verdict: Verdict, public_url: str | None) -> list[str]:
    return [] if public_url is None else [f"The whole verdict (asks for a token): {address_of(verdict, public_url)}"]
