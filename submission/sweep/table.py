"""sweep.csv and sweep.txt."""

import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from submission.data.dataset import Dataset
from submission.metrics.settings import METRICS, TITLES
from submission.runtime.files import write_csv, write_text
from submission.runtime.text import aligned
from submission.sweep.job import Job, scores_of

_COLUMNS = (*METRICS, "sum")


def write_report(
    out: Path, jobs: Sequence[Job], failed: dict[str, str], dataset: Dataset, quick: bool
) -> None:
    """Writes sweep.csv and sweep.txt from what the jobs' folders hold.

    `jobs` are all of this sweep, done or not; `failed` says by the folders' names why they failed;
    with `quick` the metrics' counts are lowered.
    """
    scores = {job.folder.name: scores_of(job) for job in jobs}
    data = f"stand-in for {dataset.name}, NOT MPI3D" if dataset.stand_in else dataset.name
    counts = "quick" if quick else "official"
    rows = []
    for job, found in zip(jobs, scores.values(), strict=True):
        numbers = _numbers(found["scores"]["headline"]) if found else {}
        status = "scored" if found else "failed" if job.folder.name in failed else "not done"
        row: dict[str, Any] = {"config": job.config, "seed": job.seed, "status": status}
        row |= {"data": data, "counts": counts}
        row |= {name: numbers.get(name, "") for name in _COLUMNS}
        rows.append(row | {"seconds": round(found["seconds"], 1) if found else ""})
    write_csv(out / "sweep.csv", rows)
    lowered = "QUICK, not the official counts; comparable with no other numbers"
    settings = lowered if quick else "official (the server's)"
    if dataset.labels is not None:
        settings += "; lowered where the images are too few, as each run's scores.txt says"
    text = [f"Measured on: {dataset.description}.", f"Metric settings: {settings}."]
    text.append("Mean +- standard deviation over the seeds that are scored (n-1 in its divisor).")
    text += [f"{name} failed: {reason}" for name, reason in failed.items()]
    for name, found in scores.items():
        for metric, reason in (found["scores"].get("not_scored", {}) if found else {}).items():
            text.append(f"{name}: {TITLES[metric]} is not scored: {reason}")
    wrapped = [part for line in text for part in textwrap.wrap(line, 100, subsequent_indent="  ")]
    write_text(out / "sweep.txt", "\n".join([*_table(jobs, scores), "", *wrapped]) + "\n")


def _numbers(headline: dict[str, float]) -> dict[str, float]:
    """The scores, and their sum if all five are there."""
    whole = all(name in headline for name in METRICS)
    return headline | ({"sum": sum(headline[m] for m in METRICS)} if whole else {})


def _table(jobs: Sequence[Job], scores: dict[str, dict[str, Any] | None]) -> list[str]:
    lines = [["configuration", "seeds", *(TITLES.get(name, name) for name in _COLUMNS)]]
    ideal: dict[str, float] = {}
    for config in dict.fromkeys(job.config for job in jobs):
        mine = [scores[job.folder.name] for job in jobs if job.config == config]
        found = [each for each in mine if each]
        numbers = [_numbers(each["scores"]["headline"]) for each in found]
        cells = [_spread([each[name] for each in numbers if name in each]) for name in _COLUMNS]
        lines.append([config, f"{len(found)} of {len(mine)}", *cells])
        if found and found[0]["ideal_code"]:
            ideal = _numbers(found[0]["ideal_code"]["headline"])
    if ideal:
        cells = [f"{ideal[name]:.3f}" if name in ideal else "-" for name in _COLUMNS]
        lines.append(["ideal code, same grid", "", *cells])
    return aligned(lines)


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} +- {statistics.stdev(values):.3f}" if len(values) > 1 else mean
