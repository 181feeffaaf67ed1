"""`report`: one run as one HTML file that needs nothing else: did this gin line help, and why.

The page holds its pictures and no script, so it can be mailed, and opened without a network.
"""

import argparse
import logging
from pathlib import Path

from submission.latents.codes import codes_of
from submission.report.page import page
from submission.report.runs import dataset_of, read_run
from submission.runtime import paths
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError
from submission.runtime.files import sha256, write_text

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run", type=Path, nargs="+", required=True, metavar="DIR",
        help="the run's folder, with scores; further ones are other seeds of it",
    )  # fmt: skip
    parser.add_argument(
        "--baseline", type=Path, nargs="+", default=[], metavar="DIR",
        help="folder of another run to compare it with, or of its seeds",
    )  # fmt: skip
    parser.add_argument("--dataset", help="default: the one that the scores name")
    parser.add_argument(
        "--data", type=Path,
        help="folder of the data sets; default: DISENTANGLEMENT_LIB_DATA, or `run`'s stand-in",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="cpu, cuda ...; default: a GPU if any")
    parser.add_argument(
        "--out", type=Path, help="html file; default: report.html in the (first) run"
    )


def run(args: argparse.Namespace) -> None:
    """Writes the report.

    Raises:
        UserError: no such run, a run without scores or model, scores of another model, or not the
            data set of its scores.
    """
    sides = (args.run, args.baseline)
    # Of several seeds one that has failed must not hide the others; where none is left, all are
    # read, which says what is missing.
    scored = [
        [f for f in side if (f / "scores.json").is_file() or not f.is_dir()] or side
        for side in sides
    ]
    left_out = [f for side, kept in zip(sides, scored, strict=True) for f in side if f not in kept]
    these, baselines = ([read_run(folder) for folder in kept] for kept in scored)
    if left_out:
        log.warning("left out, since not scored (yet): %s", ", ".join(map(str, left_out)))
    this = these[0]
    out = args.out or this.folder / "report.html"
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"--out {out} cannot be written: name a file in a folder that exists")
    dataset, data_md5 = dataset_of(this, args.data, args.dataset)
    model = paths.model_path(this.folder)
    if model.is_file() and sha256(model) != this.scores["model_sha256"]:
        raise UserError(
            f"the scores in {this.folder} are of another model than {model}: run `python -m "
            "submission score` again"
        )
    codes = codes_of(model, dataset, data_md5, pick_device(args.device))
    write_text(out, page(these, baselines, dataset, codes, [one.name for one in left_out]))
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, open it in a browser")
