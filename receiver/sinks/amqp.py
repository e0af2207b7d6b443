"""`amqp`: publishes each message to an exchange of RabbitMQ, or to a queue (rabbitmq.com/docs/confirms).

A publisher confirm is done: the message is persistent and mandatory, so every queue that it was routed to has it, and it was
routed to one at least. `message_id` is the message's key, by which a consumer drops repeats. Structured and binary mode are
those of the CloudEvents binding.
(github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md)
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from receiver.sinks.base import Sink
from receiver.sinks.connecting import TlsOptions, parts_of


def _amqp_address(address: SecretStr) -> SecretStr:
    parts = parts_of(address)
    if parts is None or parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise ValueError(
            "must be amqp:// or amqps:// (TLS), then [user:password@]host[:port][/virtual host]; "
            "in a password or a virtual host, anything but letters, digits and -._~ is written as %XX"
        )
    if "/" in parts.path[1:]:
        raise ValueError("a / in the name of a virtual host is written as %2F")
    if parts.query or parts.fragment:
        raise ValueError("after the virtual host there must be nothing; TLS has options of its own")
    return address


class AmqpOptions(TlsOptions):
    """Which exchange and routing key on which server."""

    asks_for_tls: ClassVar[str] = "amqps://"

    type: Literal["amqp"] = "amqp"
    url: Annotated[SecretStr, AfterValidator(_amqp_address)] = Field(
        description="`amqp://` or `amqps://` (TLS), `[user:password@]host[:port][/virtual host]`."
    )
    exchange: str = Field(
        default="",
        max_length=127,
        description="The exchange. If not given, the default one: the key is a queue's name.",
    )
    routing_key: str = Field(max_length=255, description="The routing key, the same for all messages.")
    mode: Literal["structured", "binary"] = Field(
        default="structured", description="The whole envelope as JSON, or the verdict with the rest in headers."
    )

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if not self.exchange and not self.routing_key:
            raise ValueError("routing_key must be the name of a queue where no exchange is given")
        return self

    @property
    def needs_tls(self) -> bool:
        """As the address says."""
        return self.url.get_secret_value().startswith("amqps:")

    @property
    def target(self) -> str:
        """What we publish to, for people."""
        return f"exchange {self.exchange}" if self.exchange else f"queue {self.routing_key}"

    def open(self, _public_url: str | None, /) -> Sink:
        """The sink; messages hold no link to us."""
        from receiver.sinks.amqp_sink import AmqpSink

        return AmqpSink(self)
