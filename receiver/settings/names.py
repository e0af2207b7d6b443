"""Every name of the environment, in one table: the field it fills, how its text is read, and whether it is a secret."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from receiver.settings import texts
from receiver.settings.sinks import SHORTCUT
from receiver.settings.tokens import read_tokens


class Name(NamedTuple):
    """`read` raises ValueError that says what is wrong and what would be right, without the text."""

    field: str
    read: Callable[[str], Any]
    secret: bool = False
    """Its value may also come from the file that `NAME_FILE` names."""
    may_be_empty: bool = True
    """Empty is as good as unset."""
    later: bool = False
    """It is checked and has no effect in this version."""


NAMES: Final[Mapping[str, Name]] = {
    "RUNFLOW_WEBHOOK_SECRET": Name("webhook_secrets", texts.webhook_secrets, secret=True, may_be_empty=False),
    "RUNFLOW_API_KEY": Name("api_key", texts.credential, secret=True),
    "RUNFLOW_USER_TOKEN": Name("user_token", texts.credential, secret=True),
    "RUNFLOW_API_URL": Name("api_url", texts.base_address),
    "RUNFLOW_ORGANIZATION_ID": Name("organization_id", texts.header_text),
    "DATABASE_URL": Name("database_url", texts.database_url, secret=True),
    "DATABASE_AUTO_UPGRADE": Name("database_auto_upgrade", texts.flag),
    "DATABASE_POOLER": Name("database_pooler", texts.flag),
    SHORTCUT: Name("slack_webhook_url", texts.credential, secret=True),
    "SLACK_BOT_TOKEN": Name("slack_bot_token", texts.credential, secret=True),
    "SLACK_SIGNING_SECRET": Name("slack_signing_secret", texts.credential, secret=True),
    "RECEIVER_CONFIG": Name("config", str),
    "RECEIVER_API_TOKENS": Name("api_tokens", read_tokens, secret=True),
    "RECEIVER_HOST": Name("host", texts.host),
    "RECEIVER_PORT": Name("port", texts.port),
    "RECEIVER_METRICS_PORT": Name("metrics_port", texts.port, later=True),
    "RECEIVER_PUBLIC_URL": Name("public_url", texts.base_address),
    "RECEIVER_TRUSTED_PROXIES": Name("trusted_proxies", texts.trusted_proxies),
    "RECEIVER_LOG_LEVEL": Name("log_level", texts.log_level),
    "RECEIVER_LOG_FORMAT": Name("log_format", texts.log_format),
}
