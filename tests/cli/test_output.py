"""How values are shown to people, and documents to programs."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.cli.output import print_json, print_table, shown


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "–"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (0.7, "0.7"),
        ("", ""),
        ("a [b]c[/b] :d:", "a [b]c[/b] :d:"),
        ("a\x1b[0m\r\n\tb\x00\x7f\x9b", "a [0m   b   "),
        ("\u202e\u2028\ufeff", "   "),
        ("é👍\u3000", "é👍 "),
        (b"\x00\xff", "b'\\x00\\xff'"),
        (datetime(2026, 11, 25, 12, 0, 0, 5, UTC), "2026-11-25 12:00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (["a\n"], "['a\\n']"),
    ],
)
def test_shown(value: object, expected: str) -> None:
    """One value on one line, in words, and without anything that a terminal would obey."""
    assert shown(value) == expected


@given(st.text())
def test_any_text(text: str) -> None:
    """Whatever a text is, what is shown of it is printable and as long."""
    assert shown(text).isprintable()
    assert len(shown(text)) == len(text)


def test_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    """Times are in UTC with `Z`; bytes are text in which each byte can be seen."""
    print_json({"at": datetime(2026, 11, 25, tzinfo=UTC), "body": b"a\xff\n"})
    assert capsys.readouterr().out == '{\n  "at": "2026-11-25T00:00:00Z",\n  "body": "a\\\\xff\\n"\n}\n'


def test_what_is_no_json() -> None:
    """Anything else is a defect, and is not hidden."""
    with pytest.raises(TypeError):
        print_json({"what": object()})


def test_a_table_without_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """A table that is empty still has its head."""
    print_table(("one", "two"), [])
    assert capsys.readouterr().out.split() == ["one", "two"]
