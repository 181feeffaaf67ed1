"""Scores as files and as a table."""

import importlib.metadata
import json
import math
import platform
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from submission.data.factors import FACTOR_NAMES
from submission.metrics.code_table import further_lines, left_out_lines
from submission.metrics.settings import METRICS, PAPER, PAPER_GRID, TITLES, Result
from submission.runtime.files import write_text
from submission.runtime.text import aligned


@dataclass(frozen=True)
class Context:
    """What a result was measured on, for the table's caption and scores.json.

    Attributes:
        data: the data set's name, e.g. "mpi3d_real" or "stand-in, rendered domain real".
        stand_in: True for rendered images, False for a published MPI3D file.
        domain: "toy", "realistic", "real" or "complex"; "" for a set that is not MPI3D, beside
            which no published scores are shown.
        factor_sizes: values of each factor, of those too that the metrics do not see.
        ideal: `score` of `ideal_code` on the same grid under the same settings.
        tensorflow: the version that scored, "" where none did.
        factor_names: of the factors that the metrics see.
        sample: the number of images of a set that is no whole grid; 0 for a grid.
        settings: of a sample, sentences about them; for a grid they follow from the result.
        path: where the data lies.
    """

    data: str
    stand_in: bool
    domain: str
    factor_sizes: tuple[int, ...]
    ideal: Result | None = None
    data_md5: str = ""
    model_sha256: str = ""
    tensorflow: str = ""
    factor_names: tuple[str, ...] = FACTOR_NAMES
    sample: int = 0
    settings: tuple[str, ...] = ()
    path: str = ""

    @property
    def num_images(self) -> int:
        return self.sample or math.prod(self.factor_sizes)

    @property
    def form(self) -> str:
        """What the images are as a whole."""
        sizes = " x ".join(map(str, self.factor_sizes))
        return (
            f"a sample, not a grid; factors of {sizes} values" if self.sample else f"grid {sizes}"
        )

    @property
    def paper(self) -> str | None:
        """The data set of the paper that the scores are shown beside: a key of PAPER."""
        return ("complex" if self.domain == "complex" else "real") if self.domain else None


def format_table(results: Mapping[str, Result], context: Context) -> str:
    """Scores as plain text of at most 100 columns, beside the ideal code's and the published ones.
    The results, under their columns' titles, are all of `context`'s data and settings."""
    head, rows = _head([*results], context), _rows([*results.values()], context)
    lines = aligned([*head, *rows], gap="   ")
    rule = "-" * max(map(len, lines))
    last = len(head)
    caption = [textwrap.fill(s, 100, subsequent_indent="  ") for s in _caption(results, context)]
    further = []
    for title, result in results.items():
        if own := further_lines(result.get("further", {})):
            further += [*(["", f"{title}:"] if len(results) > 1 else []), *own]
    return "\n".join([*lines[:last], rule, *lines[last:], rule, *caption, *further]) + "\n"


def _head(titles: Sequence[str], context: Context) -> list[list[str]]:
    """The head's lines: what each column is, and what it was measured on."""
    measured_on = "stand-in, NOT MPI3D" if context.stand_in else context.data
    columns = [["metric"], *([title, measured_on[:24]] for title in titles)]
    columns.append(["ideal code", "same images" if context.sample else "same grid"])
    if context.paper:
        columns.append(["published", PAPER_GRID[context.paper].rpartition(" of ")[0]])
    if len(titles) > 1:  # narrow columns, whose words are not cut
        for column in columns[1:]:
            words = column.pop()
            column += textwrap.wrap(words, 12, break_on_hyphens=False, break_long_words=False)
    return [list(line) for line in zip_longest(*columns, fillvalue="")]


def _rows(results: Sequence[Result], context: Context) -> list[list[str]]:
    """One for each metric that all were asked for, and the sum if these are all five."""
    ideal = context.ideal["headline"] if context.ideal else {}
    columns = [*(result["headline"] for result in results), ideal]
    columns += [PAPER[context.paper]] if context.paper else []
    asked = [{*result["headline"], *result.get("not_scored", {})} for result in results]
    shown = [metric for metric in METRICS if all(metric in one for one in asked)]
    rows = [[TITLES[m], *(f"{c[m]:.3f}" if m in c else "-" for c in columns)] for m in shown]
    if len(shown) == len(METRICS) and not context.sample:
        sums = (f"{sum(c.values()):.3f}" if c.keys() == set(METRICS) else "-" for c in columns)
        rows.append(["sum", *sums])
    return rows


def _caption(results: Mapping[str, Result], context: Context) -> list[str]:
    """What is missing, what was measured, under which settings, whether the paper's compares."""
    result = next(iter(results.values()))
    settings = "Metric settings: QUICK, not the official counts; comparable with no other numbers."
    if result["counts"] == "official":
        settings = "Metric settings: official (the server's)."
    if context.tensorflow:
        settings += f" Scored with TensorFlow {context.tensorflow}, as the server's grader did."
    published = []
    if context.paper:
        comparable = "a different data set from this run's, given for orientation only."
        if not context.stand_in and context.domain == context.paper:
            comparable = (
                "compare only where this run covers the same images under official settings."
            )
        what = (
            f"The published column is the paper's (arXiv 2002.12356) on {PAPER_GRID[context.paper]}"
        )
        published.append(f"{what}: {comparable}")
    return [
        *(
            f"{f'{title}: ' if len(results) > 1 else ''}{TITLES[metric]} is not scored: {reason}."
            for title, one in results.items()
            for metric, reason in one.get("not_scored", {}).items()
        ),
        f"Measured on: {context.data}{'; NOT MPI3D' if context.stand_in else ''} "
        f"({context.num_images:,} images, {context.form}).",
        *(context.settings or [settings]),
        *published,
        *(line for one in results.values() for line in left_out_lines(one.get("left_out", {}))),
    ]


def versions(tensorflow: str = "") -> dict[str, str]:
    """Of Python and of what the scores depend on; with TensorFlow's, if it had a part in them."""
    names = ["numpy", "scipy", "scikit-learn", "gin-config", "disentanglement-lib"]
    if "torch" in sys.modules:
        names.append("torch")
    found = {name: importlib.metadata.version(name) for name in names}
    found |= {"tensorflow": tensorflow} if tensorflow else {}
    return {"python": platform.python_version()} | found


def write_scores(folder: Path, result: Result, context: Context) -> None:
    """Writes scores.json (all numbers, settings, data set, versions) and scores.txt (the table)."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"name": context.data, "stand_in": context.stand_in, "domain": context.domain}
    data |= {"factor_sizes": context.factor_sizes, "num_images": context.num_images}
    data |= {"factor_names": context.factor_names, "sample": bool(context.sample)}
    paper = context.paper
    document = {
        "data": {**data, "md5": context.data_md5},
        "data_path": context.path,
        "model_sha256": context.model_sha256,
        "scores": result,
        "ideal_code": context.ideal,
        "paper": paper and {"measured_on": PAPER_GRID[paper], "headline": PAPER[paper]},
        "scorer": "tensorflow" if context.tensorflow else "light",
        "versions": versions(context.tensorflow),
    }
    text = json.dumps(document, indent=2, allow_nan=False)
    # A matrix's rows in one line each.
    text = re.sub(r"\[\s+([^][{}\"]+?)\s+\]", lambda row: f"[{' '.join(row[1].split())}]", text)
    write_text(folder / "scores.json", text + "\n")
    write_text(folder / "scores.txt", format_table({"this run": result}, context))
