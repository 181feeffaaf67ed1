"""Two runs, or two sets of seeds, beside each other: scores, intervals, what differs."""

import math
import re
import statistics
from collections.abc import Sequence
from typing import Any

from scipy.stats import t as student_t

from submission.metrics.settings import TITLES
from submission.report.runs import Run


def score_rows(these: Sequence[Run], baselines: Sequence[Run]) -> list[dict[str, Any]]:
    """One row per metric that all of `these` have and, if that is all five, their sum.

    `this` and `baseline` are (mean, standard deviation or None), or None. `difference` is theirs;
    `interval` has its two ends at 95 % (over the seeds), or None if a side has one run or neither
    side has any spread.
    """
    ideal = (these[0].scores["ideal_code"] or {"headline": {}})["headline"]
    paper = these[0].scores["paper"]["headline"]
    rows = []
    for metric, name in {**TITLES, "sum": "sum"}.items():
        new, old = (_values(side, metric) for side in (these, baselines))
        if new:
            rows.append({
                "name": name, "this": _mean(new), "baseline": _mean(old) if old else None,
                "difference": statistics.fmean(new) - statistics.fmean(old) if old else None,
                "interval": _interval(new, old) if len(new) > 1 and len(old) > 1 else None,
                "ideal": _value(ideal, metric), "paper": _value(paper, metric),
            })  # fmt: skip
    return rows


def _value(headline: dict[str, float], metric: str) -> float | None:
    if metric == "sum":
        return sum(headline.values()) if headline.keys() >= TITLES.keys() else None
    return headline.get(metric)


def _values(runs: Sequence[Run], metric: str) -> list[float]:
    """Each run's score; none if a run lacks it."""
    found = [_value(run.headline, metric) for run in runs]
    return [value for value in found if value is not None] if None not in found else []


def _mean(values: Sequence[float]) -> tuple[float, float | None]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _interval(new: Sequence[float], old: Sequence[float]) -> tuple[float, float] | None:
    """Welch's: half of it is t s, with s^2 = a + b for a = s_new^2 / n_new and b alike, and
    s^4 / (a^2 / (n_new - 1) + b^2 / (n_old - 1)) degrees of freedom. None if neither side has any
    spread, as when a coarse score is the same in all of a few seeds: that is no certainty."""
    squares = [statistics.variance(side) / len(side) for side in (new, old)]
    total = sum(squares)
    if total == 0:
        return None
    freedom = total**2 / sum(
        square**2 / (len(side) - 1) for square, side in zip(squares, (new, old), strict=True)
    )
    half = float(student_t.ppf(0.975, freedom)) * math.sqrt(total)
    middle = statistics.fmean(new) - statistics.fmean(old)
    return middle - half, middle + half


def obstacles(these: Sequence[Run], baselines: Sequence[Run]) -> list[str]:
    """Why the runs' scores cannot be compared, or not be averaged."""
    runs = [*these, *baselines]
    found = []
    if any(run.scores["data"] != runs[0].scores["data"] for run in runs):
        found.append("they were measured on different data")
    if any(
        run.scores["scores"]["settings"] != runs[0].scores["scores"]["settings"] for run in runs
    ):
        found.append("their metric settings differ")
    for side in (these, baselines):
        names = " and ".join(run.name for run in side)
        if any(changes([run], side[:1], seeds=False) for run in side[1:]):
            found.append(f"{names} differ in more than the seed")
        elif len({run.scores["model_sha256"] for run in side}) < len(side):
            found.append(f"{names} are not all of different seeds")
    return found


def changes(these: Sequence[Run], baselines: Sequence[Run], seeds: bool = True) -> list[str]:
    """What only one of two sides is made of: "- old", "+ new"; the seed itself only of single runs
    and if `seeds`."""
    new, old = (_made_of(side[0]) for side in (these, baselines))
    if not seeds or len(these) > 1 or len(baselines) > 1:
        new, old = ({pair for pair in side if pair[0] != "train_vae.seed"} for side in (new, old))
    keys = sorted({key for key, _ in new ^ old})
    return [
        f"{sign} {key} = {value}"
        for name in keys
        for sign, side in (("-", old - new), ("+", new - old))
        for key, value in sorted(side)
        if key == name
    ]


def _made_of(run: Run) -> set[tuple[str, str]]:
    """The bindings, and what none says: the weights, and of how many seeds it is the first."""
    said, found = run.made_of, _bindings(run.config)
    if said["weights"]:
        found.add(("--weights", f"SHA-256 {said['weights'][:8]}..."))
    if said["seeds"] > 1:
        trained = f" ({said['trained']} trained)" if said["trained"] < said["seeds"] else ""
        found.add(("--seeds", f"{said['seeds']}{trained}, the first by UDR"))
    return found


def _bindings(config: str) -> set[tuple[str, str]]:
    """(parameter, value) of gin's operative configuration; long values go over several lines."""
    joined = re.sub(r"\\\n\s*", "", config)
    lines = re.findall(r"^([\w./]+) =((?:.*)(?:\n[ \t]+.*)*)", joined, re.MULTILINE)
    return {(key, " ".join(value.split())) for key, value in lines}
