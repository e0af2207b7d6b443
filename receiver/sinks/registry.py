"""Every kind of sink, by the word that `type` has in the settings. A new kind is one line here.

Importing this imports no kind's own library: each is imported when a sink of that kind is opened.
"""

from collections.abc import Mapping
from typing import Final

from receiver.errors import SettingsError
from receiver.sinks.amqp import AmqpOptions
from receiver.sinks.apprise import AppriseOptions
from receiver.sinks.base import Sink, SinkOptions
from receiver.sinks.file import FileOptions
from receiver.sinks.http import HttpOptions
from receiver.sinks.kafka import KafkaOptions
from receiver.sinks.nats import NatsOptions
from receiver.sinks.redis import RedisOptions
from receiver.sinks.slack import SlackOptions
from receiver.sinks.sqs import SqsOptions

OPTIONS: Final[Mapping[str, type[SinkOptions]]] = {
    "amqp": AmqpOptions,
    "apprise": AppriseOptions,
    "file": FileOptions,
    "http": HttpOptions,
    "kafka": KafkaOptions,
    "nats": NatsOptions,
    "redis": RedisOptions,
    "slack": SlackOptions,
    "sqs": SqsOptions,
}


def open_sink(options: SinkOptions, *, public_url: str | None) -> Sink:
    """The sink with these options; nothing is connected yet. `public_url` is where links to this service lead.

    Raises `SettingsError` if the kind's library is not installed, or cannot make anything of an option.
    """
    try:
        return options.open(public_url)
    except ImportError as error:
        raise SettingsError(
            f"sink {options.name}: type {options.type} needs a library that is not installed: "
            f"pip install 'runflow-receiver[{options.type}]'"
        ) from error
