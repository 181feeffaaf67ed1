"""Scores as files and as a table."""

import importlib.metadata
import json
import math
import platform
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from submission.metrics.settings import METRICS, PAPER, PAPER_GRID, TITLES, Result
from submission.runtime.files import write_text
from submission.runtime.text import aligned


@dataclass(frozen=True)
class Context:
    """What a result was measured on, for the table's caption and scores.json.

    Attributes:
        data: the data set's name, e.g. "mpi3d_real" or "stand-in, rendered domain real".
        stand_in: True for rendered images, False for a published MPI3D file.
        domain: "toy", "realistic", "real" or "complex".
        ideal: `score` of `ideal_code` on the same grid under the same settings.
        tensorflow: the version that scored, "" where none did.
    """

    data: str
    stand_in: bool
    domain: str
    factor_sizes: tuple[int, ...]
    ideal: Result | None = None
    data_md5: str = ""
    model_sha256: str = ""
    tensorflow: str = ""

    @property
    def num_images(self) -> int:
        return math.prod(self.factor_sizes)

    @property
    def paper(self) -> str:
        """The data set of the paper that the scores are shown beside: a key of PAPER."""
        return "complex" if self.domain == "complex" else "real"


def format_table(result: Result, context: Context) -> str:
    """The scores as plain text of at most 100 columns, beside the ideal code's and the paper's."""
    lines = aligned(_rows(result, context), gap="   ")
    rule = "-" * max(map(len, lines))
    caption = [textwrap.fill(s, 100, subsequent_indent="  ") for s in _caption(result, context)]
    return "\n".join([*lines[:2], rule, *lines[2:], rule, *caption]) + "\n"


def _rows(result: Result, context: Context) -> list[list[str]]:
    """Two lines of head, one for each metric, and the sum if all five are there."""
    ideal = context.ideal["headline"] if context.ideal else {}
    columns = [result["headline"], ideal, PAPER[context.paper]]
    shown = [metric for metric in METRICS if metric in result["headline"]]
    rows = [[TITLES[m], *(f"{c[m]:.3f}" if m in c else "-" for c in columns)] for m in shown]
    if len(shown) == len(METRICS):
        rows.append(["sum", *(f"{sum(c[m] for m in METRICS):.3f}" if c else "-" for c in columns)])
    this_run = "stand-in, NOT MPI3D" if context.stand_in else context.data
    paper_set = PAPER_GRID[context.paper].rpartition(" of ")[0]
    above = ["metric", "this run", "ideal code", "paper"]
    return [above, ["", this_run[:24], "same grid", paper_set], *rows]


def _caption(result: Result, context: Context) -> list[str]:
    """What was measured, under which settings, and whether the paper's column compares."""
    grid = " x ".join(map(str, context.factor_sizes))
    settings = "QUICK, not the official counts; comparable with no other numbers."
    if result["counts"] == "official":
        settings = "official (the server's)."
    if context.tensorflow:
        settings += f" Scored with TensorFlow {context.tensorflow}, as the server's grader did."
    comparable = "a different data set from this run's, given for orientation only."
    if not context.stand_in and context.domain == context.paper:
        comparable = "compare only where this run covers the same images under official settings."
    return [
        f"Measured on: {context.data}{'; NOT MPI3D' if context.stand_in else ''} "
        f"({context.num_images:,} images, grid {grid}).",
        f"Metric settings: {settings}",
        f"The paper's column (arXiv 2002.12356) is {PAPER_GRID[context.paper]}: {comparable}",
    ]


def _versions(context: Context) -> dict[str, str]:
    names = ["numpy", "scipy", "scikit-learn", "gin-config", "disentanglement-lib"]
    if "torch" in sys.modules:
        names.append("torch")
    versions = {name: importlib.metadata.version(name) for name in names}
    versions |= {"tensorflow": context.tensorflow} if context.tensorflow else {}
    return {"python": platform.python_version()} | versions


def write_scores(folder: Path, result: Result, context: Context) -> None:
    """Writes scores.json (all numbers, settings, data set, versions) and scores.txt (the table)."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"name": context.data, "stand_in": context.stand_in, "domain": context.domain}
    data |= {"factor_sizes": context.factor_sizes, "num_images": context.num_images}
    document = {
        "data": {**data, "md5": context.data_md5},
        "model_sha256": context.model_sha256,
        "scores": result,
        "ideal_code": context.ideal,
        "paper": {"measured_on": PAPER_GRID[context.paper], "headline": PAPER[context.paper]},
        "scorer": "tensorflow" if context.tensorflow else "light",
        "versions": _versions(context),
    }
    write_text(folder / "scores.json", json.dumps(document, indent=2, allow_nan=False) + "\n")
    write_text(folder / "scores.txt", format_table(result, context))
