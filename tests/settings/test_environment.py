"""Names of the environment: what each is read as, what is refused, and secrets in files."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from receiver.errors import SettingsError
from receiver.settings import Settings
from receiver.settings.names import NAMES

Load = Callable[..., Settings]
Lines = Callable[..., list[str]]

GOOD_SECRETS = {
    "RUNFLOW_WEBHOOK_SECRET": "whsec_abc",
    "RUNFLOW_API_KEY": "rf_key",
    "RUNFLOW_USER_TOKEN": "rf_user",
    "DATABASE_URL": "postgresql://u:p@db/receiver",
    "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/x",
    "SLACK_BOT_TOKEN": "xoxb-1",
    "SLACK_SIGNING_SECRET": "0123abcd",
    "RECEIVER_API_TOKENS": "a-token",
}


def test_secret_names() -> None:
    """Exactly these names hold secrets."""
    assert set(GOOD_SECRETS) == {name for name, row in NAMES.items() if row.secret}


def test_defaults(load: Load) -> None:
    """With nothing set the settings are those that the model has as defaults, and nothing is warned of."""
    settings = load()
    assert settings == Settings()
    assert (settings.host, settings.port, settings.log_level, settings.log_format) == ("127.0.0.1", 8000, "info", None)
    assert settings.api_url == "https://api.runflow.io"
    assert settings.database_url.get_secret_value() == "sqlite:///receiver.db"
    assert {len(each) for each in (settings.sinks, settings.api_tokens, settings.webhook_secrets)} == {0}
    assert settings.warnings == ()


@pytest.mark.parametrize("value", ["", " ", "\n"])
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"RUNFLOW_WEBHOOK_SECRET"}))
def test_empty_is_unset(name: str, value: str, load: Load) -> None:
    """An empty value is as good as none."""
    assert load({name: value}) == Settings()


@pytest.mark.parametrize("value", ["", "  ", "\n", ",", " , ", "whsec_", "blue=", "=abc", "a b a", "x=1,x=2"])
def test_bad_webhook_secret(value: str, lines: Lines) -> None:
    """An empty secret is refused, and so are an empty label and a label given twice."""
    (line,) = lines({"RUNFLOW_WEBHOOK_SECRET": value})
    assert line.startswith("RUNFLOW_WEBHOOK_SECRET: ")
    assert "; give " in line


def test_webhook_secrets(load: Load) -> None:
    """Several secrets stand with commas or white space between, with labels or without; without any, none can be verified."""
    settings = load({"RUNFLOW_WEBHOOK_SECRET": " new=abc=d, whsec_old=x\nplain "})
    assert settings.webhook_secrets[0].label == "new"
    assert len(settings.webhook_secrets) == 3
    assert settings.takes_callbacks
    settings.require_webhook_secret()
    assert not load().takes_callbacks
    with pytest.raises(SettingsError, match=r"^RUNFLOW_WEBHOOK_SECRET: is missing[^\n]*; give [^\n]*$"):
        load().require_webhook_secret()


@pytest.mark.parametrize("name", sorted(GOOD_SECRETS))
def test_secret_in_a_file(name: str, load: Load, tmp_path: Path) -> None:
    """NAME_FILE does what NAME does, without the white space at the file's end; a relative path starts at the folder."""
    (tmp_path / "secret").write_text(f"{GOOD_SECRETS[name]} \r\n\n")
    direct = load({name: GOOD_SECRETS[name]})
    for path in ("secret", str(tmp_path / "secret")):
        assert load({f"{name}_FILE": path}).model_copy(update=_without_identity(direct)) == direct
        assert load({f"{name}_FILE": path, name: ""}).model_copy(update=_without_identity(direct)) == direct
    assert direct.model_copy(update=_without_identity(Settings())) != Settings() or name == "RUNFLOW_WEBHOOK_SECRET"


def _without_identity(settings: Settings) -> dict[str, object]:
    """Secrets for callbacks are not equal to each other even if they are the same."""
    return {"webhook_secrets": settings.webhook_secrets}


def test_webhook_secret_in_a_file(load: Load, tmp_path: Path) -> None:
    """The secret in a file signs as the one in the environment does."""
    (tmp_path / "secret").write_text("whsec_abc\n")
    signatures = [
        load({name: value}).webhook_secrets[0].sign(b"body")
        for name, value in (("RUNFLOW_WEBHOOK_SECRET", "whsec_abc"), ("RUNFLOW_WEBHOOK_SECRET_FILE", "secret"))
    ]
    assert signatures[0] == signatures[1]


@pytest.mark.parametrize("name", sorted(GOOD_SECRETS))
def test_name_and_file_at_once(name: str, lines: Lines, tmp_path: Path) -> None:
    """Giving NAME and NAME_FILE is an error, be they the same."""
    (tmp_path / "secret").write_text(GOOD_SECRETS[name])
    assert lines({name: GOOD_SECRETS[name], f"{name}_FILE": "secret"}) == [
        f"{name}: is given, and {name}_FILE too; give one of them"
    ]


def test_bad_files(lines: Lines, tmp_path: Path) -> None:
    """A file that is missing, empty, too long, not text or no file is named by the setting, not by its path."""
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "nul").write_bytes(b"a\0b")
    (tmp_path / "long").write_bytes(b"x" * (1024 * 1024 + 1))
    (tmp_path / "folder").mkdir()
    reasons = {
        "absent": "does not exist",
        "empty": "is empty",
        "bytes": "is not text in UTF-8",
        "nul": "is not text in UTF-8",
        "long": "is longer than 1 MiB",
        "folder": "cannot be read (Is a directory)",
        "x" * 5000: "cannot be read (File name too long)",
        "empty/secret": "cannot be read (Not a directory)",
    }
    for path, reason in reasons.items():
        assert lines({"RUNFLOW_API_KEY_FILE": path}) == [
            f"RUNFLOW_API_KEY_FILE: names a file that {reason}; give the path of one that holds the value"
        ]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_not_text(name: str, lines: Lines) -> None:
    """Bytes that are not UTF-8 (as Python hands them over) and NUL are refused, whatever the name."""
    for value in ("caf\udce9", "a\0b"):
        assert lines({name: value}) == [f"{name}: is not text in UTF-8; give it as such"]


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("RUNFLOW_API_URL", "https://api.example.com/", "api_url", "https://api.example.com"),
        ("RUNFLOW_API_URL", "http://[::1]:8080/base/", "api_url", "http://[::1]:8080/base"),
        ("RUNFLOW_API_URL", "http://localhost:1", "api_url", "http://localhost:1"),
        ("RUNFLOW_ORGANIZATION_ID", " org_1 ", "organization_id", "org_1"),
        ("DATABASE_AUTO_UPGRADE", "YES", "database_auto_upgrade", True),
        ("DATABASE_AUTO_UPGRADE", "off", "database_auto_upgrade", False),
        ("DATABASE_POOLER", "0", "database_pooler", False),
        ("DATABASE_POOLER", "no", "database_pooler", False),
        ("RECEIVER_HOST", "::", "host", "::"),
        ("RECEIVER_HOST", "0.0.0.0", "host", "0.0.0.0"),
        ("RECEIVER_HOST", "box_1.example.com", "host", "box_1.example.com"),
        ("RECEIVER_PORT", "0", "port", 0),
        ("RECEIVER_PORT", "65535\n", "port", 65535),
        (
            "RECEIVER_PUBLIC_URL",
            "https://hooks.example.com/runflow/",
            "public_url",
            "https://hooks.example.com/runflow",
        ),
        (
            "RECEIVER_TRUSTED_PROXIES",
            "10.0.0.0/8, 127.0.0.1 ::1",
            "trusted_proxies",
            ("10.0.0.0/8", "127.0.0.1", "::1"),
        ),
        ("RECEIVER_TRUSTED_PROXIES", "::0001,::1", "trusted_proxies", ("::1",)),
        ("RECEIVER_TRUSTED_PROXIES", "10.0.0.1,*", "trusted_proxies", ("*",)),
        ("RECEIVER_LOG_LEVEL", "WARNING", "log_level", "warning"),
        ("RECEIVER_LOG_FORMAT", "Console", "log_format", "console"),
    ],
)
def test_good_values(name: str, value: str, field: str, expected: object, load: Load) -> None:
    """A value is read into its field, in its usual form."""
    assert getattr(load({name: value}), field) == expected


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "RUNFLOW_API_KEY": ["two words", "schlüssel", "a\nb"],
        "RUNFLOW_ORGANIZATION_ID": ["two words", "ä"],
        "RUNFLOW_API_URL": [
            *("runflow", "//h", "ftp://h", "https://", "https:///p", "https://h:x", "https://h:0", "https://h:99999"),
            *(
                "https://user@h",
                "https://u:hush@h",
                "https://h/?q=1",
                "https://h/#f",
                "https://h?",
                "https://a b",
                "https://[::",
            ),
            *("https://[v1.a]", "https://ä.example", "https://-h", "https://h\t.example"),
        ],
        "RECEIVER_PUBLIC_URL": ["hooks.example.com", "https://h?x"],
        "DATABASE_URL": [
            *(
                "receiver.db",
                "mysql://u:hush@h/d",
                "sqlite://",
                "sqlite:///",
                "sqlite:///:memory:",
                "sqlite:///a?mode=ro",
            ),
            *(
                "sqlite+aiosqlite:///a",
                "postgresql+asyncpg://h/d",
                "postgresql+psycopg://h/d",
                "SQLITE:///a",
                "redis://h",
            ),
            *(
                "postgresql://",
                "postgresql:/h",
                "postgresql://u:p@ss@h/d",
                "postgresql://h:x/d",
                "postgresql://h:99999/d",
            ),
            *("postgresql://h1:1,h2:2/d", "postgresql:///d"),
        ],
        "DATABASE_AUTO_UPGRADE": ["maybe", "2", "ON!"],
        "DATABASE_POOLER": ["pgbouncer"],
        "RECEIVER_HOST": ["http://h", "h:80", "[::1]", "a b", "-", "*", "10.0.0.0/8"],
        "RECEIVER_PORT": ["-1", "65536", "80.0", "http", "1e3", "٨٠", "²", "9" * 5000],
        "RECEIVER_METRICS_PORT": ["x"],
        "RECEIVER_TRUSTED_PROXIES": ["proxy", "10.0.0.1/8", "10.0.0.0/33", "1.2.3.4.5", "**", "10.0.0.1;10.0.0.2"],
        "RECEIVER_LOG_LEVEL": ["loud", "20", "warn"],
        "RECEIVER_LOG_FORMAT": ["xml"],
    }.items(),
)
def test_bad_values(name: str, values: list[str], lines: Lines) -> None:
    """A value that cannot be right is one line that names the setting and what would be right, and does not show the value."""
    for value in values:
        (line,) = lines({name: value})
        assert line.startswith(f"{name}: ")
        assert "; " in line
        assert "hush" not in line


def test_service_link(lines: Lines) -> None:
    """What Kubernetes puts into RECEIVER_PORT is told apart from a mistake, with the way out."""
    (line,) = lines({"RECEIVER_PORT": "tcp://10.96.0.12:80"})
    assert "Kubernetes" in line
    assert "enableServiceLinks: false" in line


@pytest.mark.parametrize(
    ("url", "kind", "shown", "migrates"),
    [
        ("sqlite:///receiver.db", "sqlite", "sqlite:///receiver.db", True),
        ("sqlite:////var/lib/receiver/receiver.db", "sqlite", "sqlite:////var/lib/receiver/receiver.db", True),
        ("postgresql://u:p%40w@db:5432/receiver?sslmode=require", "postgresql", "postgresql://db:5432/receiver", False),
        ("postgres://u:p/w#x?y@[::1]/d", "postgresql", "postgresql://[::1]/d", False),
        ("postgresql://db", "postgresql", "postgresql://db/", False),
        ("postgresql:///d?host=/var/run/postgresql", "postgresql", "postgresql:///d", False),
    ],
)
def test_databases(url: str, kind: str, shown: str, migrates: bool, load: Load) -> None:
    """An address is kept as it was given; people see it without user, password and options; the kind decides on migration."""
    settings = load({"DATABASE_URL": url})
    assert settings.database_url.get_secret_value() == url
    assert (settings.database_kind, settings.database_shown, settings.migrates_at_start) == (kind, shown, migrates)
    for text, decided in (("on", True), ("off", False)):
        assert load({"DATABASE_URL": url, "DATABASE_AUTO_UPGRADE": text}).migrates_at_start is decided


def test_unknown_names(load: Load) -> None:
    """A name that looks like one of ours is warned of, with the nearest; what others set is left alone."""
    settings = load(
        {
            "RECEIVER_PROT": "1",
            "RECEIVER_API_TOKENS_FILES": "",
            "RECEIVER_\nODD": "1",
            "RUNFLOW_WEBHOOK_SECRETS": "x",
            "RUNFLOW_HOME": "/opt",
            "SLACK_CHANNEL": "#x",
            "DATABASE_URL_TEST": "x",
            "PATH": "/bin",
        }
    )
    assert len(settings.warnings) == 4
    text = "\n".join(settings.warnings)
    assert len(text.splitlines()) == 4
    assert "RECEIVER_PROT: is not a setting and is passed over; did you mean RECEIVER_PORT?" in text
    assert (
        "RECEIVER_API_TOKENS_FILES: is not a setting and is passed over; did you mean RECEIVER_API_TOKENS_FILE?" in text
    )
    assert '"RECEIVER_\\nODD": is not a setting' in text
    assert "RUNFLOW_WEBHOOK_SECRETS: is not a setting and is passed over; did you mean RUNFLOW_WEBHOOK_SECRET?" in text


def test_service_links_of_others(load: Load) -> None:
    """The other names that Kubernetes sets beside RECEIVER_PORT are known for what they are."""
    names = [
        "RECEIVER_SERVICE_HOST",
        "RECEIVER_SERVICE_PORT",
        "RECEIVER_SERVICE_PORT_HTTP",
        "RECEIVER_PORT_80_TCP",
        "RECEIVER_PORT_80_TCP_ADDR",
        "RECEIVER_DB_SERVICE_HOST",
    ]
    warnings = load(dict.fromkeys(names, "x")).warnings
    assert len(warnings) == len(names)
    assert all("Kubernetes" in warning and "did you mean" not in warning for warning in warnings)


def test_warnings(load: Load) -> None:
    """A setting that is right and does nothing, or nothing good, is told as a line that names it."""
    settings = load(
        {
            "RUNFLOW_USER_TOKEN": "x",
            "SLACK_BOT_TOKEN": "x",
            "SLACK_SIGNING_SECRET": "x",
            "RECEIVER_METRICS_PORT": "9000",
            "DATABASE_POOLER": "on",
            "RUNFLOW_API_URL": "http://api.example.com",
        },
        "[alerts]\n[reconcile]\n[retention]\n",
    )
    named = [
        "RECEIVER_METRICS_PORT",
        *(
            "receiver.toml: retention",
            "receiver.toml: reconcile",
            "receiver.toml: alerts",
            "SLACK_BOT_TOKEN",
            "SLACK_SIGNING_SECRET",
            "DATABASE_POOLER",
            "RUNFLOW_API_URL",
        ),
    ]
    assert [warning.rpartition(": ")[0] for warning in settings.warnings] == named


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_plain_http_on_loopback(host: str, load: Load) -> None:
    """Nothing can listen on the way to this machine itself."""
    assert load({"RUNFLOW_API_URL": f"http://{host}:8080"}).warnings == ()


def test_bad_value_in_a_file(lines: Lines, tmp_path: Path) -> None:
    """A file whose value is wrong is told under the name that names it."""
    (tmp_path / "secret").write_text("two words\n")
    (line,) = lines({"RUNFLOW_API_KEY_FILE": "secret"})
    assert line.startswith("RUNFLOW_API_KEY_FILE: has white space")


def test_all_at_once(lines: Lines) -> None:
    """All problems are told together, one line each, in the order of the settings."""
    told = lines(
        {"RECEIVER_PORT": "x", "RUNFLOW_API_URL": "x", "RECEIVER_LOG_LEVEL": "x"}, "[fetch]\nhold = -1\nrats = 1\n"
    )
    assert [line.split(": ")[0] for line in told] == ["RUNFLOW_API_URL", "RECEIVER_PORT", "RECEIVER_LOG_LEVEL"] + [
        "receiver.toml"
    ] * 2


def test_os_environ_does(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command line passes in is `os.environ`, and nothing else is looked at."""
    monkeypatch.setenv("RECEIVER_PORT", "8080")
    assert load(os.environ).port == 8080
    assert load({}).port == 8000
