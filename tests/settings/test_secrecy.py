"""No message, repr, dump or traceback shows a secret; and whatever is given, there are settings or lines."""

import json
import pickle
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from receiver.errors import SettingsError
from receiver.settings import Settings, load_settings
from receiver.settings.load import TABLES
from receiver.settings.names import NAMES
from receiver.sinks.registry import OPTIONS

Load = Callable[..., Settings]

MARK = "hush5h"
"""Part of every value that is given here, and of no message."""

# The same examples each time: a failure is there for everyone, or for no one.
explore = hypothesis.settings(deadline=None, derandomize=True, max_examples=60)

KEYS = sorted({key for model in (*OPTIONS.values(), *TABLES.values()) for key in model.model_fields})
FORMS = [
    *("{}", " {}", "whsec_{}", "x={}", "x:read={}", "x:{}=y", "x:read={},{}", "{},{}", "{} {}", "=" + "{}", "{}="),
    *(
        "https://{}",
        "https://u:{}@h/",
        "https://h:{}/",
        "https://[{}]/",
        "http://h/?{}",
        "ftp://{}",
        "http://{}:99999/",
    ),
    *(
        "sqlite:///{}?x",
        "sqlite://{}",
        "postgresql://u:{}@h@h/d",
        "postgresql://h:{}/d",
        "postgres+x://{}",
        "mysql://u:{}@h",
    ),
    *(
        "tcp://{}",
        "10.0.0.0/{}",
        "redis://:{}@h:x/",
        "redis://{}/x/y",
        "{}\n{}",
        "${{{}}}",
        "${{{}",
        "\udcff{}",
        "{}\0",
        "ä{}",
    ),
]


def _garbage(text: str, form: str) -> str:
    return form.replace("{{", "\1").replace("}}", "\2").replace("{}", MARK + text).replace("\1", "{").replace("\2", "}")


garbage = st.builds(_garbage, st.text(max_size=5), st.sampled_from(FORMS))
leaves = st.one_of(garbage, st.booleans(), st.integers(), st.floats(), st.sampled_from([*OPTIONS, "true", "-"]))
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*KEYS, "x", "a b"]), inner, max_size=4)
    ),
    max_leaves=8,
)
tables = st.dictionaries(st.sampled_from([*KEYS, "x"]), values, max_size=6)
sinks = st.builds(lambda table, kind: {"type": kind, **table}, tables, st.sampled_from([*OPTIONS, "kafka", MARK]))
documents = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(TABLES, tables | values) | {"sinks": st.lists(sinks, max_size=3)}
)


def _toml(value: Any) -> str:
    """The value as TOML, on one line."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return json.dumps(value.encode(errors="replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007f")
        case dict():
            return "{" + ", ".join(f"{_toml(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    return "[" + ", ".join(map(_toml, value)) + "]"


def _load(environ: dict[str, str], toml: str | None) -> Settings | SettingsError:
    with tempfile.TemporaryDirectory() as folder:
        if toml is not None:
            Path(folder, "receiver.toml").write_bytes(toml.encode(errors="replace"))
        try:
            return load_settings(environ, directory=Path(folder))
        except SettingsError as error:
            return error


def _told(environ: dict[str, str], toml: str | None = None) -> str:
    """All that loading tells: the lines of the error, its traceback, or the settings in any form, with their warnings."""
    result = _load(environ, toml)
    if isinstance(result, Settings):
        forms = (repr(result), str(result), str(result.model_dump()), result.model_dump_json())
        return "\n".join((*forms, *result.warnings))
    assert result.__cause__ is result.__context__ is None
    assert str(result).splitlines() == str(result).split("\n")
    assert all(": " in line for line in str(result).splitlines())
    return "".join(traceback.format_exception(result))


@pytest.mark.parametrize("name", [name for name, row in NAMES.items() if row.secret])
@explore
@hypothesis.given(value=garbage, in_file=st.booleans())
def test_a_secret_is_never_told(name: str, value: str, in_file: bool) -> None:
    """Whatever a secret's value, right or wrong, in the environment or in a file: nothing that is told holds it."""
    if name == "RUNFLOW_WEBHOOK_SECRET":
        hypothesis.assume("=" not in value)  # what is before it is a label, which is for people to see
    if not in_file:
        assert MARK not in _told({name: value})
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(value.encode(errors="surrogateescape"))
        file.flush()
        assert MARK not in _told({f"{name}_FILE": file.name})
    assert MARK not in _told({f"{name}_FILE": value})


@pytest.mark.parametrize("name", [name for name, row in NAMES.items() if not row.secret])
@explore
@hypothesis.given(
    value=garbage | st.text(), secret=st.sampled_from(sorted(name for name, row in NAMES.items() if row.secret))
)
def test_garbage_beside_a_secret(name: str, value: str, secret: str) -> None:
    """Whatever another setting holds, there are settings or lines, and no value that is refused is in them."""
    told = _told({name: value, secret: MARK + MARK})
    assert MARK + MARK not in told
    assert MARK not in told or "webhook_secrets=" in told


@explore
@hypothesis.given(content=documents, secret=st.text(min_size=1, max_size=5))
def test_garbage_in_the_file(content: dict[str, Any], secret: str) -> None:
    """Whatever receiver.toml holds, also by ${NAME}, there are settings or lines, and no value is in them."""
    toml = "\n".join(f"{key} = {_toml(value)}" for key, value in content.items())
    assert MARK not in _told({MARK.upper(): MARK + secret, "A": MARK + secret}, toml).replace("${" + MARK, "").replace(
        f"stands for {MARK}", ""
    )


@explore
@hypothesis.given(text=st.text())
def test_any_text_as_the_file(text: str) -> None:
    """Whatever the file is, there are settings or lines."""
    _told({}, text)


def test_settings_do_not_show_what_they_hold(load: Load) -> None:
    """With every secret set, none is in any form of the settings; `plain_secrets` has them, for logs to hide."""
    environ = {
        "RUNFLOW_WEBHOOK_SECRET": "whsec_hush-0",
        "RUNFLOW_API_KEY": "hush-1",
        "RUNFLOW_USER_TOKEN": "hush-2",
        "DATABASE_URL": "postgresql://u:hush-3@h/d",
        "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/hush-4",
        "SLACK_BOT_TOKEN": "hush-5",
        "SLACK_SIGNING_SECRET": "hush-6",
        "RECEIVER_API_TOKENS": "hush-7,ops:operate=hush-8",
        "REDIS": "redis://:hush-9@h/0",
        "TOKEN": "hush-10",
        "SIGNING": "whsec_aHVzaC0xMS1odXNoLTExLWh1c2gtMTEtaHVzaC0xMQ==",
    }
    settings = load(
        environ,
        """
        [[sinks]]
        name = "stream"
        type = "redis"
        url = "${REDIS}"
        stream = "x"
        [[sinks]]
        name = "post"
        type = "http"
        url = "https://h/hush-12"
        secret = "${SIGNING}"
        headers = { Authorization = "Bearer ${TOKEN}" }
        """,
    )
    shown = [repr(settings), str(settings), f"{settings}", str(settings.model_dump()), settings.model_dump_json()]
    shown += [
        text
        for sink in settings.sinks
        for text in (repr(sink), str(sink), str(sink.model_dump()), sink.model_dump_json())
    ]
    for text in shown:
        assert "hush" not in text
        assert "aHVzaC0x" not in text
    assert set(settings.plain_secrets()) == {
        *(
            "hush-1",
            "hush-2",
            "postgresql://u:hush-3@h/d",
            "hush-3",
            "https://hooks.slack.com/services/hush-4",
            "hush-5",
            "hush-6",
        ),
        *("redis://:hush-9@h/0", "hush-9", "https://h/hush-12", environ["SIGNING"], "Bearer hush-10"),
    }


def test_settings_are_frozen(load: Load) -> None:
    """Settings do not change, and an error about them does not show what they were given."""
    settings = load({})
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]  # what must not work
    with pytest.raises(ValueError, match="port") as caught:
        Settings.model_validate({"port": MARK})
    assert MARK not in str(caught.value)
    with pytest.raises(TypeError):
        pickle.dumps(load({"RUNFLOW_WEBHOOK_SECRET": MARK}))
