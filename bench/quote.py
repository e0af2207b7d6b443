"""`python -m bench.quote`: puts the sections of the newest report into the pages that quote them.

A page says `<!-- newest: TITLE -->` where it wants the section of that title, and `<!-- end -->` behind it.
"""

import re
from pathlib import Path

import click

from bench.processes import ROOT

_QUOTED = re.compile(r"(<!-- newest: (?P<title>.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
_SECTION = re.compile(r"^## (?P<title>[^\n]+)\n(?P<body>.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
PAGES = ("README.md", "docs/benchmarks.md", "docs/scaling.md")


@click.command()
@click.option(
    "--results", type=click.Path(exists=True, path_type=Path), default=ROOT / "bench" / "results" / "newest.md"
)
def main(results: Path) -> None:
    """Renew what README.md and docs/ quote."""
    sections = sections_of(results.read_text())
    for name in PAGES:
        page = ROOT / name
        page.write_text(quoted(page.read_text(), sections))


def sections_of(report: str) -> dict[str, str]:
    """The sections of a report by their titles."""
    return {found["title"]: found["body"].strip() for found in _SECTION.finditer(report)}


def quoted(page: str, sections: dict[str, str]) -> str:
    """The page with what it quotes renewed. A section that the report does not have stays as it was."""

    def renew(found: re.Match[str]) -> str:
        body = sections.get(found["title"])
        return found[0] if body is None else f"{found[1]}\n{body}\n\n{found[3]}"

    return _QUOTED.sub(renew, page)


if __name__ == "__main__":
    main()
