"""`nats`: publishes each message to a subject that a JetStream stream takes (docs.nats.io/nats-concepts/jetstream).

The stream's acknowledgement is done. `Nats-Msg-Id` is the message's key, by which the stream drops repeats. Structured and
binary mode are those of the CloudEvents binding.
(github.com/cloudevents/spec/blob/main/cloudevents/bindings/nats-protocol-binding.md)
"""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from receiver.sinks.base import Sink, SinkError
from receiver.sinks.connecting import TlsOptions

PORT = 4222

_SCHEMES = ("nats", "tls")
_CREDENTIALS = ("BEGIN NATS USER JWT", "BEGIN USER NKEY SEED")


def _nats_addresses(addresses: SecretStr) -> SecretStr:
    parts = split_addresses(addresses)
    if not parts or any(part.scheme not in _SCHEMES or not part.hostname for part in parts):
        raise ValueError(
            "must be nats:// or tls://, then [user:password@ or token@]host[:port]; several with commas between; "
            "in a password, anything but letters, digits and -._~ is written as %XX"
        )
    if len({part.scheme for part in parts}) > 1:
        raise ValueError("must be nats:// or tls:// for all of the servers")
    if any(part.path not in ("", "/") or part.query or part.fragment for part in parts):
        raise ValueError("after the port there must be nothing")
    if any("@" in part.netloc for part in parts[1:]):
        raise ValueError("user and password, or token, stand in the first address only; they are the same for all")
    return addresses


def split_addresses(addresses: SecretStr) -> list[SplitResult]:
    """The parts of each address; none at all if one has none to be had."""
    try:
        parts = [urlsplit(each.strip()) for each in addresses.get_secret_value().split(",")]
        # Neither is looked at before it is asked for, or connected to.
        usable = all(part.port != 0 and (part.hostname or "").encode("idna") for part in parts)
    except ValueError:
        return []
    return parts if usable else []


class Access(NamedTuple):
    """What we show to a server, in the words of the client's `connect`."""

    user: str | None = None
    password: str | None = None
    token: str | None = None


class NatsOptions(TlsOptions):
    """Which subject on which servers, and who we are."""

    asks_for_tls: ClassVar[str] = "tls://"

    type: Literal["nats"] = "nats"
    url: Annotated[SecretStr, AfterValidator(_nats_addresses)] = Field(
        description="`nats://` or `tls://`, `[user:password@ or token@]host[:port]`; several with commas between."
    )
    subject: str = Field(
        pattern=r"^[^\s.*>$]+(\.[^\s.*>]+)*$", max_length=512, description="The subject, one that a stream takes."
    )
    mode: Literal["structured", "binary"] = Field(
        default="structured", description="The whole envelope as JSON, or the verdict with the rest in headers."
    )
    creds: str | None = Field(default=None, description="A file with the user's JWT and seed, as `nsc` makes them.")
    nkey: str | None = Field(default=None, description="A file with the seed of the user's NKey.")

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        [first, *_] = split_addresses(self.url)
        if ("@" in first.netloc) + (self.creds is not None) + (self.nkey is not None) > 1:
            raise ValueError("one of user or token in the url, creds and nkey is enough")
        return self

    @property
    def servers(self) -> list[str]:
        """The addresses, without user, password and token."""
        return [f"{part.scheme}://{_host(part)}:{part.port or PORT}" for part in split_addresses(self.url)]

    @property
    def needs_tls(self) -> bool:
        """Whether a server without TLS is refused."""
        return self.servers[0].startswith("tls:")

    @property
    def access(self) -> Access:
        """User and password, or a token, as the address has them."""
        [first, *_] = split_addresses(self.url)
        user, password = unquote(first.username or ""), unquote(first.password or "")
        if "@" not in first.netloc:
            return Access()
        return Access(user, password) if first.password is not None else Access(token=user)

    def credentials(self) -> str | None:
        """What `creds` holds. Raises `SinkError` if it is no such file: the client would read on for ever."""
        text = None if self.creds is None else _read("creds", self.creds)
        if text is not None and not all(mark in text for mark in _CREDENTIALS):
            raise SinkError("creds: not a credentials file, which has a NATS USER JWT and a USER NKEY SEED")
        return text

    def seed(self) -> str | None:
        """What `nkey` holds. Raises `SinkError` if it cannot be read."""
        return None if self.nkey is None else _read("nkey", self.nkey).strip()

    def open(self, _public_url: str | None, /) -> Sink:
        """The sink; messages hold no link to us."""
        from receiver.sinks.nats_sink import NatsSink

        return NatsSink(self)


def _host(part: SplitResult) -> str:
    host = part.hostname or ""
    return f"[{host}]" if ":" in host else host


def _read(option: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError as error:
        raise SinkError(f"{option}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise SinkError(f"{option}: not a text of the kind that is expected") from error
