"""The only reader of the environment and of files: closed, typed and frozen settings, checked before anything starts.

`names` is the table of environment names, `tables` and `sinks` are what `receiver.toml` may hold. No message of this package
shows the value of any setting, so that none can show a secret.
"""

from receiver.settings.load import load_settings
from receiver.settings.model import Settings
from receiver.settings.tables import AlertsOptions, FetchOptions, LimitsOptions, ReconcileOptions, RetentionOptions
from receiver.settings.tokens import Scope, Token

__all__ = [
    "AlertsOptions",
    "FetchOptions",
    "LimitsOptions",
    "ReconcileOptions",
    "RetentionOptions",
    "Scope",
    "Settings",
    "Token",
    "load_settings",
]
