"""Installations for the command line's tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver import logs
from tests.cli.installation import Installation
from tests.store.places import copied, new_postgres_database
from tests.web.logged import logging_as_before


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What servers log that run beside a command, in threads of this process, is nobody's output."""
    with logging_as_before(), Path(os.devnull).open("w") as nowhere:
        logs.configure("critical", "json", nowhere)
        yield


@pytest.fixture
def here(tmp_path: Path, migrated_file: Path) -> Installation:
    """An installation on an empty, migrated SQLite file, which is the working directory."""
    return Installation(tmp_path, f"sqlite:///{copied(migrated_file, tmp_path)}")


@pytest.fixture
def fresh(tmp_path: Path) -> Installation:
    """An installation whose SQLite file is not there yet."""
    return Installation(tmp_path, f"sqlite:///{tmp_path / 'receiver.db'}")


@pytest.fixture
def on_postgres(tmp_path: Path, postgres_url: str) -> Iterator[Installation]:
    """An installation on a PostgreSQL database without tables."""
    with new_postgres_database(postgres_url) as url:
        yield Installation(tmp_path, url)
