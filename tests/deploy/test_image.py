"""The Dockerfile says what it should, and its steps make an installation that works, in a clean folder."""

import re
import signal
import socket
import subprocess
import time
import tomllib
from pathlib import Path

import pytest

from tests.deploy.dockerfile import ROOT, Build, bare_python, context, last_stage, only, read_dockerfile

DEADLINE = 60.0


def test_the_base_is_an_exact_tag() -> None:
    """Every stage must start from the same image, of one exact version."""
    instructions = read_dockerfile()
    name, _, tag = only(instructions, "ARG").text.partition("=")
    assert re.fullmatch(r"3\.\d+\.\d+-slim-\w+", tag)
    assert {one.words[0] for one in instructions if one.word == "FROM"} == {f"python:${{{name}}}"}


def test_packages_are_installed_by_hash() -> None:
    """Every installation must check hashes, but for that of the wheel that was just built, which reaches no registry."""
    runs = [one.text for one in read_dockerfile() if one.word == "RUN"]
    installs = [step for run in runs for step in re.split(r"\s*&&\s*", run) if " install " in step and "pip" in step]
    assert installs
    assert all("--require-hashes" in step or "--no-deps --no-index dist/" in step for step in installs)


def test_it_runs_as_nobody_in_particular() -> None:
    """The user must be a number, so that an orchestrator can see that it is not root, and own the folder it writes to."""
    stage = last_stage(read_dockerfile())
    user = only(stage, "USER").text
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    owner, group = user.split(":")
    folder = only(stage, "VOLUME").text
    assert only(stage, "WORKDIR").text == folder
    assert f"install -d -o {owner} -g {group} {folder}" in only(stage, "RUN").text


def test_it_starts_what_the_project_installs() -> None:
    """The entry point must be the project's command, on the port that is exposed."""
    stage = last_stage(read_dockerfile())
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert only(stage, "ENTRYPOINT").words == list(scripts)
    assert only(stage, "EXPOSE").text == "8000"
    assert "RECEIVER_HOST=0.0.0.0" in only(stage, "ENV").words


def test_nothing_secret_gets_into_a_build() -> None:
    """What is copied must be just what .dockerignore lets in: code, its description, the lists of packages."""
    copied = {name for one in read_dockerfile() if one.word == "COPY" for name in one.words[:-1] if name[0] not in "-/"}
    inside = {str(path) for path in context()}
    assert {path for path in inside if path not in copied and not path.startswith("receiver/")} == set()
    assert all(name in inside or name == "receiver" for name in copied)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The finished last stage."""
    folder = tmp_path_factory.mktemp("image")
    made = Build(folder / "root", bare_python(folder / "python"))
    made.run(read_dockerfile())
    return made


def _state(root: Path) -> dict[str, tuple[int, int]]:
    data = root / "data"
    files = (path for path in root.rglob("*") if path != data and data not in path.parents)
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in files}


@pytest.mark.image
@pytest.mark.parametrize("option", ["--version", "--help"])
def test_the_installed_command_runs(build: Build, option: str) -> None:
    """The command must be found on the image's path and run without the build stage."""
    (command,) = only(last_stage(read_dockerfile()), "ENTRYPOINT").words
    found = subprocess.run(
        [command, option], cwd=build.here, env=build.environment, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert "receiver" in found.stdout


@pytest.mark.image
def test_the_image_serves_and_writes_to_its_volume_only(build: Build) -> None:
    """The health check must pass, SIGTERM must end it with status 0, and nothing outside the volume may have changed."""
    stage = last_stage(read_dockerfile())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"RUNFLOW_WEBHOOK_SECRET": "whsec_image", "RECEIVER_HOST": "127.0.0.1", "RECEIVER_PORT": str(port)}
    environment = {**build.environment, **settings}
    before = _state(build.root)
    command = [*only(stage, "ENTRYPOINT").words, *only(stage, "CMD").words]
    log = build.root.with_name("log")
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=build.here, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + DEADLINE
        while not _healthy(only(stage, "HEALTHCHECK").words, build.here, environment):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert (build.root / "data" / "receiver.db").exists()
    assert _state(build.root) == before


def _healthy(command: list[str], here: Path, environment: dict[str, str]) -> bool:
    return subprocess.run(command, cwd=here, env=environment, capture_output=True, check=False).returncode == 0
