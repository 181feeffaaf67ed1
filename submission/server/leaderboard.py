"""The local leaderboard: one row per evaluated tag, failures included, in one JSON file."""

import json
import math
from pathlib import Path
from typing import Any

from submission.data.dataset import Dataset
from submission.data.factors import SIZES_BY_COUNT
from submission.metrics.settings import METRICS, PAPER, TITLES
from submission.runtime.errors import UserError
from submission.runtime.files import locked, write_text
from submission.runtime.text import aligned

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """The rows, oldest first; none if there is no file. UserError if `append` did not write it."""
    if not path.exists():
        return []
    try:
        rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list):
            raise TypeError
        for row in rows:
            _ = row["tag"], row["commit"], row["status"], row["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no leaderboard: name another --leaderboard file") from error
    return rows


def append(path: Path, row: Row) -> list[Row]:
    """Adds a row and returns all; the file is the old or the new one at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(path.name + ".lock"), wait=True):
        rows = [*read(path), row]
        write_text(path, json.dumps(rows, indent=2, allow_nan=False) + "\n")
    return rows


def data_key(dataset: Dataset, counts: str) -> dict[str, Any]:
    """What two rows must share to be ranked together."""
    key = {"name": dataset.name, "stand_in": dataset.stand_in is not None}
    return key | {"factor_sizes": list(dataset.factor_sizes), "counts": counts}


def table(rows: list[Row], data: dict[str, Any]) -> str:
    """The rows of one data set as text: scores, rank per metric (1 is best), mean rank.

    `data` is as `data_key` made it. On the official data set of a paper's column, under official
    settings, the paper's row is ranked, too.
    """
    here = [row for row in rows if row["data"] == data]
    # A tag that was evaluated twice competes with its latest result only.
    ranked = list({row["tag"]: row for row in here if row["status"] == "ok"}.values())
    entries = [(row["tag"], row["commit"][:10], row["scores"]) for row in ranked]
    if paper := _paper(data):
        entries.append(("paper, arXiv 2002.12356", "", paper))
    # Without a score, as IRS has none on some codes, a tag comes last in that metric.
    columns = {m: [scores.get(m, -math.inf) for *_, scores in entries] for m in METRICS}
    ranks = {m: [1 + sum(other > own for other in c) for own in c] for m, c in columns.items()}
    means = [sum(ranks[m][i] for m in METRICS) / len(METRICS) for i in range(len(entries))]
    lines = [["tag", "commit", *(TITLES[m] for m in METRICS), "mean rank"]]
    for i in sorted(range(len(entries)), key=means.__getitem__):
        tag, commit, scores = entries[i]
        shown = {m: f"{scores[m]:.3f}" if m in scores else "-" for m in METRICS}
        cells = [f"{shown[m]} ({ranks[m][i]})" for m in METRICS]
        lines.append([tag, commit, *cells, f"{means[i]:.2f}"])
    partly = [row for row in ranked if row.get("reason")]
    failed = [row for row in here if row["status"] != "ok"]
    kind = "a rendered STAND-IN for " if data["stand_in"] else ""
    grid = " x ".join(map(str, data["factor_sizes"]))
    text = [f"Local leaderboard on {kind}{data['name']}{'; NOT MPI3D' if kind else ''} ({grid})."]
    if data["counts"] != "official":
        text.append("Metric settings: QUICK; comparable with no other numbers.")
    text.append("Score (rank) per metric; the mean of the ranks decides.")
    text += ["", *aligned(lines, left=2)] if entries else ["", "No submission has been scored yet."]
    for title, some in (("Scored in part:", partly), ("Failed:", failed)):
        text += ["", title] if some else []
        text += [f"  {row['tag']} {row['commit'][:10]}: {row['reason']}" for row in some]
    return "\n".join(text) + "\n"


def _paper(data: dict[str, Any]) -> dict[str, float] | None:
    columns = {"mpi3d_real": ("real", 1_036_800), "mpi3d_real_complex": ("complex", 460_800)}
    domain, images = columns.get(data["name"], ("", 0))
    whole = tuple(data["factor_sizes"]) == SIZES_BY_COUNT.get(images)
    official = whole and not data["stand_in"] and data["counts"] == "official"
    return PAPER[domain] if official else None
