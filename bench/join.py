"""`python -m bench.join FOLDER…`: takes the parts of later runs, made with `--only` and `--out`, into the newest report.

The whole takes most of an hour, alone on the machine. What the report says of the machine and of the settings is then of the
last folder's run.
"""

import json
from pathlib import Path
from typing import get_type_hints

import click

from bench import report
from bench.parts import PARTS
from bench.processes import ROOT


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--into", type=click.Path(exists=True, file_okay=False, path_type=Path), default=ROOT / "bench" / "results"
)
def main(folders: tuple[Path, ...], into: Path) -> None:
    """Join reports, and write the whole."""
    whole = read(into)
    for each in folders:
        whole = joined(whole, read(each))
    report.write(whole, PARTS, into)


def read(folder: Path) -> report.Report:
    """The report in a folder, each part as what measured it returns."""
    content = json.loads((folder / "newest.json").read_text())
    parts = {
        name: get_type_hints(PARTS[name].run)["return"].model_validate(it) for name, it in content["parts"].items()
    }
    return report.Report.model_validate({**content, "parts": parts})


def joined(whole: report.Report, later: report.Report) -> report.Report:
    """With the later's parts in place of its own, in the order of all reports."""
    parts, measured_at, taken, stolen, failed = (
        {name: found[name] for name in PARTS if name in found}
        for found in (
            whole.parts | later.parts,
            whole.measured_at | later.measured_at,
            whole.seconds_taken | later.seconds_taken,
            whole.stolen | later.stolen,
            {name: why for name, why in whole.failed.items() if name not in later.parts} | later.failed,
        )
    )
    return later.model_copy(
        update={
            "parts": parts,
            "measured_at": measured_at,
            "seconds_taken": taken,
            "stolen": stolen,
            "failed": failed,
        }
    )


if __name__ == "__main__":
    main()
