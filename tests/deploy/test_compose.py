"""What deploy/compose.yaml names exists: files, commands, settings, secrets, volumes, ports; and each container is closed."""

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from receiver.cli import receiver
from receiver.settings import load_settings
from receiver.settings.names import NAMES
from tests.deploy.dockerfile import ROOT, last_stage, only, read_dockerfile

DEPLOY = ROOT / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text()
FILE: Mapping[str, Any] = yaml.safe_load(TEXT)
SERVICES: Mapping[str, Mapping[str, Any]] = FILE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def _volumes(service: Mapping[str, Any]) -> list[str]:
    return [volume.partition(":")[0] for volume in service.get("volumes", ())]


def _configs(service: Mapping[str, Any]) -> list[str]:
    return [config["source"] for config in service.get("configs", ())]


def test_the_services() -> None:
    """There must be one process that takes callbacks, two that work, one that migrates, and PostgreSQL."""
    counts = {name: service.get("deploy", {}).get("replicas", 1) for name, service in SERVICES.items()}
    assert counts == {"receiver": 1, "worker": 2, "upgrade": 1, "database": 1}


@pytest.mark.parametrize("name", OURS)
def test_the_command_is_one_of_the_receivers(name: str) -> None:
    """Each command, with its options, must be one that the command line takes."""
    command: click.Command | None = receiver
    words = list(OURS[name]["command"])
    while words and isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words.pop(0))
    assert command is not None
    assert not isinstance(command, click.Group)
    assert set(words) <= {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }


@pytest.mark.parametrize("name", OURS)
def test_the_settings_are_known(name: str) -> None:
    """Each name of the environment must be a setting; a secret comes from a file that the container is given."""
    service = OURS[name]
    for setting, value in service["environment"].items():
        plain = setting.removesuffix("_FILE")
        assert plain in NAMES
        assert NAMES[plain].secret == setting.endswith("_FILE")
        if setting.endswith("_FILE"):
            assert value.removeprefix("/run/secrets/") in service["secrets"]
    assert service["environment"]["RECEIVER_CONFIG"] == service["configs"][0]["target"]


@pytest.mark.parametrize(
    ("top", "used_by"),
    [
        ("secrets", lambda service: service.get("secrets", ())),
        ("networks", lambda service: service.get("networks", ())),
        ("volumes", _volumes),
        ("configs", _configs),
    ],
)
def test_what_services_use_is_defined(top: str, used_by: Callable[[Mapping[str, Any]], list[str]]) -> None:
    """Each secret, network, volume and configuration that a service uses must be defined, and each that is must be used."""
    assert {one for service in SERVICES.values() for one in used_by(service)} == set(FILE[top])


def test_services_wait_for_what_they_need() -> None:
    """What a service waits for must exist and be able to become so: healthy by a check of its own, completed by ending."""
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            other = SERVICES[name]
            if wait["condition"] == "service_healthy":
                assert other["healthcheck"]["test"]
            else:
                assert wait["condition"] == "service_completed_successfully"
                assert other["restart"] == "on-failure"


def test_the_builds_and_images_exist() -> None:
    """The build's folder must hold the Dockerfile, and an image from elsewhere must be named by an exact version."""
    assert {(DEPLOY / service["build"] / "Dockerfile").resolve() for service in OURS.values()} == {ROOT / "Dockerfile"}
    assert all(re.fullmatch(r"[a-z]+:\d+\.\d+-\w+", SERVICES[name]["image"]) for name in SERVICES.keys() - OURS.keys())


def test_the_port_is_the_images_and_stays_on_this_machine() -> None:
    """The published port must be the one that the image exposes, on loopback: https is a proxy's to offer."""
    (published,) = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published == "127.0.0.1:8000:" + only(last_stage(read_dockerfile()), "EXPOSE").text


def test_the_volume_is_the_images() -> None:
    """The volume must be where the image writes."""
    folder = only(last_stage(read_dockerfile()), "VOLUME").text
    assert {volume.partition(":")[2] for service in OURS.values() for volume in service["volumes"]} == {folder}


@pytest.mark.parametrize("name", SERVICES)
def test_each_container_is_closed(name: str) -> None:
    """A container may write to its volumes and to memory only, and gain nothing."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


def test_the_secrets_can_be_made_as_the_file_says(tmp_path: Path) -> None:
    """The lines at the head of the file must make every secret that it names, and the receiver must take them."""
    lines = "\n".join(line.removeprefix("#   ") for line in TEXT.splitlines() if "secrets/" in line and line[0] == "#")
    subprocess.run(["/bin/sh", "-euc", "mkdir -p secrets && chmod 700 secrets\n" + lines], cwd=tmp_path, check=True)
    made = {path.name: path for path in (tmp_path / "secrets").iterdir()}
    assert {f"./secrets/{name}" for name in made} == {secret["file"] for secret in FILE["secrets"].values()}
    shutil.copy(DEPLOY / "receiver.toml", tmp_path)
    environment = {
        setting: str(made[Path(value).name]) if setting.endswith("_FILE") else "receiver.toml"
        for setting, value in OURS["worker"]["environment"].items()
    }
    settings = load_settings(environment, directory=tmp_path)
    assert settings.warnings == ()
    assert settings.database_url.get_secret_value() == (
        f"postgresql://receiver:{made['postgres_password'].read_text()}@database/receiver"
    )
    assert [sink.name for sink in settings.sinks] == ["output"]


def test_the_secrets_are_never_committed() -> None:
    """The folder of the secrets must be one that git ignores."""
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_databases_address_fits() -> None:
    """User, database and host of the address that is made must be those of the database's container."""
    database = SERVICES["database"]["environment"]
    assert f"postgresql://{database['POSTGRES_USER']}:" in TEXT
    assert f"@database/{database['POSTGRES_DB']}" in TEXT
