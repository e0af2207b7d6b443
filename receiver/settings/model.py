"""What the program runs with: one frozen value. Nothing secret is in its repr or its dump."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from receiver.core.signature import Secret
from receiver.errors import SettingsError
from receiver.settings.tables import (
    AlertsOptions,
    ApiOptions,
    FetchOptions,
    LimitsOptions,
    ReconcileOptions,
    RetentionOptions,
)
from receiver.settings.texts import LogFormat, LogLevel, database_shown
from receiver.settings.tokens import Token
from receiver.sinks.base import SinkOptions

DatabaseKind = Literal["sqlite", "postgresql"]

_PASSWORD: Final = re.compile(r"://[^/@]*?:([^@]+)@")


class Settings(BaseModel):
    """Every setting, checked. `load_settings` makes it; without arguments it holds the defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    webhook_secrets: tuple[Secret, ...] = Field(default=(), exclude=True)
    api_key: SecretStr | None = None
    user_token: SecretStr | None = None
    api_url: str = "https://api.runflow.io"
    organization_id: str | None = None

    database_url: SecretStr = SecretStr("sqlite:///receiver.db")
    database_auto_upgrade: bool | None = Field(default=None, description="None: as `migrates_at_start` decides.")
    database_pooler: bool = False

    slack_bot_token: SecretStr | None = None
    slack_signing_secret: SecretStr | None = None

    api_tokens: tuple[Token, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    metrics_port: int | None = None
    public_url: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    log_level: LogLevel = "info"
    log_format: LogFormat | None = Field(default=None, description="None: console on a terminal, else json.")

    sinks: tuple[SinkOptions, ...] = Field(default=(), repr=False, exclude=True)
    fetch: FetchOptions = FetchOptions()
    limits: LimitsOptions = LimitsOptions()
    api: ApiOptions = ApiOptions()
    retention: RetentionOptions = RetentionOptions()
    reconcile: ReconcileOptions = ReconcileOptions()
    alerts: AlertsOptions = AlertsOptions()

    warnings: tuple[str, ...] = Field(default=(), description="Lines about what is not wrong, but likely not meant.")

    @property
    def takes_callbacks(self) -> bool:
        """Whether there is a secret to check signatures with."""
        return bool(self.webhook_secrets)

    def require_webhook_secret(self) -> None:
        """Raises SettingsError unless callbacks can be taken."""
        if not self.takes_callbacks:
            raise SettingsError(
                "RUNFLOW_WEBHOOK_SECRET: is missing, so that no callback could be verified; "
                "give the callback secret that Runflow shows once when it is made"
            )

    @property
    def database_kind(self) -> DatabaseKind:
        """Which of the two databases it is."""
        return "sqlite" if self.database_url.get_secret_value().startswith("sqlite") else "postgresql"

    @property
    def database_path(self) -> Path | None:
        """The SQLite file, or None."""
        url = self.database_url.get_secret_value()
        return Path(url.removeprefix("sqlite:///")) if self.database_kind == "sqlite" else None

    @property
    def database_shown(self) -> str:
        """The database's address without user, password and options."""
        return database_shown(self.database_url.get_secret_value())

    @property
    def migrates_at_start(self) -> bool:
        """`DATABASE_AUTO_UPGRADE`, or its default: on for SQLite, off for PostgreSQL."""
        if self.database_auto_upgrade is None:
            return self.database_kind == "sqlite"
        return self.database_auto_upgrade

    def plain_secrets(self) -> Iterator[str]:
        """The secrets that are kept in plain form, for whoever hides them in logs; a password in an address comes alone too."""
        for secret in _secrets_in([*self.__dict__.values()]):
            if secret != self.database_shown:  # an address without user and password is no secret, and is shown
                yield secret
            yield from _PASSWORD.findall(secret)


def _secrets_in(value: Any) -> Iterator[str]:
    match value:
        case SecretStr():
            yield value.get_secret_value()
        case BaseModel():
            yield from _secrets_in(value.__dict__)
        case dict():
            yield from _secrets_in([*value.values()])
        case list() | tuple():
            for each in value:
                yield from _secrets_in(each)
