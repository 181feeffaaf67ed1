"""`report`: one run as one HTML file that needs nothing else: did this gin line help, and why."""

import argparse
from pathlib import Path
from typing import Any

from submission.commands.options import add_device
from submission.report.page import Side, write_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    what = "the run's folder, with scores; further ones are other seeds of it"
    add("--run", type=Path, nargs="+", required=True, metavar="DIR", help=what)
    what = "folder of another run to compare it with, or of its seeds; once for each such run"
    several: dict[str, Any] = {"action": "append", "nargs": "+", "default": []}
    add("--baseline", type=Path, metavar="DIR", help=what, **several)
    add("--dataset", help="default: the one that the scores name")
    what = (
        "as the run's; default: DISENTANGLEMENT_LIB_DATA, `run`'s stand-in, or what its scores name"
    )
    add("--data", type=Path, help=what)
    add_device(parser)
    add("--out", type=Path, help="html file; default: report.html in the (first) run")


def run(args: argparse.Namespace) -> None:
    sides = [Side([folder.expanduser() for folder in side]) for side in (args.run, *args.baseline)]
    out = write_report(sides, args.out, args.data, args.dataset, args.device)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, open it in a browser")
