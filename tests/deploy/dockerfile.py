"""Reads the Dockerfile into its instructions, and carries them out in a folder where no Docker engine is."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

ROOT = Path(__file__).parents[2]
_OURS = re.compile(r"(?<![\w./])/(?=(?:opt|src|data)\b)")
"""The absolute paths that the Dockerfile makes; they are put under a folder."""
_PASSED_ON = re.compile(r"PIP_\w+|\w+_proxy|\w+_PROXY|SSL_CERT_\w+")
"""What a build must be told of the machine to reach a package registry."""


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continued lines joined."""

    word: str
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments, in the exec form or by the shell's rules."""
        text = self.text.removeprefix("CMD ") if self.word == "HEALTHCHECK" else self.text
        return [str(word) for word in json.loads(text)] if text.startswith("[") else shlex.split(text)


def read_dockerfile() -> list[Instruction]:
    """The instructions in their order, without comments; the options of HEALTHCHECK are dropped."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    read = [Instruction(*line.split(" ", 1)) for line in joined]
    return [
        Instruction(one.word, re.sub(r"^(--\S+\s+)+", "", one.text)) if one.word == "HEALTHCHECK" else one
        for one in read
    ]


def last_stage(instructions: list[Instruction]) -> list[Instruction]:
    start = max(index for index, one in enumerate(instructions) if one.word == "FROM")
    return instructions[start:]


def only(instructions: list[Instruction], word: str) -> Instruction:
    """The one instruction of this word."""
    (found,) = [one for one in instructions if one.word == word]
    return found


def context() -> Iterator[Path]:
    """The files that .dockerignore lets into a build, relative to the repository: what a line with `!` names."""
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            path = ROOT / line[1:]
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            yield from (one.relative_to(ROOT) for one in files if "__pycache__" not in one.parts and one.is_file())


@dataclass
class Build:
    """The state of a build: `root` stands for the image's `/`, `python` is a folder with a bare Python and pip."""

    root: Path
    python: Path
    environment: dict[str, str] = field(default_factory=dict)
    here: Path = field(init=False)
    stages: dict[str, Path] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        self.here = self.root

    def run(self, instructions: list[Instruction]) -> None:
        """Carries out what makes files; the other instructions only describe how the image is run."""
        for one in instructions:
            carry_out = getattr(self, f"_{one.word.lower()}", None)
            if carry_out:
                carry_out(one)

    def placed(self, text: str) -> str:
        """The text with the image's paths put under `root`."""
        return _OURS.sub(f"{self.root}/", text)

    def _from(self, one: Instruction) -> None:
        """A new stage begins with nothing of the one before it, whose files go where `COPY --from` finds them."""
        if self.name:
            self.stages[self.name] = self.root.with_name(self.name)
            self.root.rename(self.stages[self.name])
        self.root.mkdir(exist_ok=True)
        self.here = self.root
        self.name = one.words[2] if len(one.words) > 1 else "last"
        passed_on = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
        self.environment = {**passed_on, "PATH": f"{self.python}/bin:/usr/bin:/bin", "HOME": str(self.root)}

    def _workdir(self, one: Instruction) -> None:
        self.here = Path(self.placed(one.text))
        self.here.mkdir(parents=True, exist_ok=True)

    def _env(self, one: Instruction) -> None:
        given = (word.split("=", 1) for word in one.words)
        self.environment |= {name: Template(self.placed(value)).substitute(self.environment) for name, value in given}

    def _copy(self, one: Instruction) -> None:
        words = one.words
        if words[0].startswith("--from="):
            source = self.stages[words[0].removeprefix("--from=")] / words[1].lstrip("/")
            shutil.copytree(source, self.placed(words[2]), symlinks=True)
            return
        allowed = list(context())
        for name in words[:-1]:
            inside = [path for path in allowed if path == Path(name) or Path(name) in path.parents]
            assert inside, f"{name} is copied, and .dockerignore keeps it out"
            for path in inside:
                tail = path.relative_to(name) if (ROOT / name).is_dir() else Path(path.name)
                target = self.here / words[-1] / tail
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / path, target)

    def _run(self, one: Instruction) -> None:
        command = self.placed(one.text)
        if os.geteuid() != 0:
            command = re.sub(r"-o \d+ -g \d+", "", command)  # only root may give a folder away
        subprocess.run(["/bin/sh", "-ec", command], cwd=self.here, env=self.environment, check=True)


def bare_python(folder: Path) -> Path:
    """A Python with pip and nothing else, as the base image has it."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return folder
