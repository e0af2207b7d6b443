"""Loads settings the way the command line does: an environment and a folder in, settings or lines out."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from receiver.errors import SettingsError
from receiver.settings import Settings, load_settings

Load = Callable[..., Settings]
Lines = Callable[..., list[str]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Settings from these names of the environment and the text of `receiver.toml`."""

    def load(environ: Mapping[str, str] | None = None, toml: str | None = None) -> Settings:
        if toml is not None:
            (tmp_path / "receiver.toml").write_text(toml, encoding="utf-8")
        return load_settings(environ or {}, directory=tmp_path)

    return load


@pytest.fixture
def lines(load: Load) -> Lines:
    """The lines about what is wrong; there must be some."""

    def lines(environ: Mapping[str, str] | None = None, toml: str | None = None) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            load(environ, toml)
        return str(caught.value).split("\n")

    return lines
