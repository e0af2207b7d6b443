"""Names of the environment: what each is read as, what is refused, and secrets in files."""

import os
from pathlib import Path

import pytest

from receiver.errors import SettingsError
from receiver.settings import Settings
from receiver.settings.names import NAMES

from .conftest import Lines, Load

SECRET_NAMES = [name for name, row in NAMES.items() if row.secret]
GOOD = {
    "RUNFLOW_WEBHOOK_SECRET": "whsec_abc",
    "RUNFLOW_API_KEY": "rf_key",
    "RUNFLOW_USER_TOKEN": "rf_user",
    "DATABASE_URL": "postgresql://u:p@db/receiver",
    "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/x",
    "SLACK_BOT_TOKEN": "xoxb-1",
    "SLACK_SIGNING_SECRET": "0123abcd",
    "RECEIVER_API_TOKENS": "a-token",
}
