"""Puts what `./run.sh` has left into the pages: table and times into docs/runs.md, the table alone
into README.md, the picture into docs/dry_run.png.

    rm -rf scratch/runs/dry_run* scratch/cache scratch/stand_in
    ./run.sh
    python -m experiments.dry_run

The times are those of the last call, so they are a newcomer's only if it began with nothing.
"""

import argparse
import shutil
from pathlib import Path

from experiments.pages import show
from submission.pipeline.train import COMPARISON
from submission.runtime.paths import PROJECT, home

NAME = "dry_run"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.dry_run", description=__doc__.split("\n\n")[0]
    )
    what = "folder of the first run (default: %(default)s)"
    parser.add_argument("--run", type=Path, default=home() / "runs" / NAME, help=what)
    return parser


def scores_of(printed: str) -> str:
    """The table without what is said below it and the times: up to its second rule."""
    lines = printed.splitlines()
    rules = [number for number, line in enumerate(lines) if line and set(line) == {"-"}]
    return "\n".join(lines[: rules[1]])


def main() -> None:
    run: Path = arguments().parse_args().run
    printed = (run / COMPARISON[0]).read_text().strip("\n")
    show(PROJECT / "docs" / "runs.md", NAME, f"```\n{printed}\n```")
    show(PROJECT / "README.md", NAME, f"```\n{scores_of(printed)}\n```")
    shutil.copyfile(run / COMPARISON[1], PROJECT / "docs" / "dry_run.png")


if __name__ == "__main__":
    main()
