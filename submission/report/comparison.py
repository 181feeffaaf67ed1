"""Two runs, or two sets of seeds, beside each other: scores, intervals, what differs."""

import re
import statistics
import warnings
from collections.abc import Sequence
from typing import Any

from scipy.stats import ttest_ind

from submission.metrics.settings import TITLES
from submission.report.runs import Run


def score_rows(these: Sequence[Run], others: Sequence[Sequence[Run]]) -> list[dict[str, Any]]:
    """One row per metric that all of `these` have and, if that is all five, their sum.

    `this` is (mean, standard deviation or None); `others` has for each other side its `mean`, such
    a pair or None, the `difference` of the means, and its 95 % `interval` or None.
    """
    ideal = (these[0].scores["ideal_code"] or {"headline": {}})["headline"]
    paper = (these[0].scores["paper"] or {"headline": {}})["headline"]
    rows = []
    for metric, name in {**TITLES, "sum": "sum"}.items():
        if new := _values(these, metric):
            row: dict[str, Any] = {"name": name, "this": _mean(new), "others": []}
            for old in (_values(side, metric) for side in others):
                difference = statistics.fmean(new) - statistics.fmean(old) if old else None
                beside = {"mean": _mean(old), "difference": difference}
                row["others"].append(beside | {"interval": _interval(new, old)})
            rows.append(row | {"ideal": _value(ideal, metric), "paper": _value(paper, metric)})
    return rows


def _value(headline: dict[str, float], metric: str) -> float | None:
    if metric == "sum":
        return sum(headline.values()) if headline.keys() >= TITLES.keys() else None
    return headline.get(metric)


def _values(runs: Sequence[Run], metric: str) -> list[float]:
    """Each run's score; none if a run lacks it."""
    found = [_value(run.scores["scores"]["headline"], metric) for run in runs]
    return [value for value in found if value is not None] if None not in found else []


def _mean(values: Sequence[float]) -> tuple[float, float | None] | None:
    """Mean and standard deviation (None of a single value); None of no values."""
    spread = statistics.stdev(values) if len(values) > 1 else None
    return (statistics.fmean(values), spread) if values else None


def _interval(new: Sequence[float], old: Sequence[float]) -> tuple[float, float] | None:
    """Welch's 95 % interval of the difference of the means, over the seeds. None if a side has one
    run, or if neither has any spread: a coarse score that a few seeds share is no certainty."""
    if min(len(new), len(old)) < 2 or len(set(new)) == len(set(old)) == 1:
        return None
    # One side alone may have no spread, which scipy warns of.
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        ends = ttest_ind(new, old, equal_var=False).confidence_interval(0.95)
    return float(ends.low), float(ends.high)


def not_scored(runs: Sequence[Run]) -> list[str]:
    """Which scores runs lack, though they were asked for, and why."""
    found = [(run.name, run.scores["scores"].get("not_scored", {})) for run in runs]
    return [
        f"{name}: {TITLES[metric]} is not scored: {reason}"
        for name, reasons in found
        for metric, reason in reasons.items()
    ]


def obstacles(*sides: Sequence[Run]) -> list[str]:
    """Why the runs' scores cannot be compared, or not be averaged."""
    runs = [run for side in sides for run in side]
    found = []
    if any(run.scores["data"] != runs[0].scores["data"] for run in runs):
        found.append("they were measured on different data")
    settings = [run.scores["scores"]["settings"] for run in runs]
    if any(each != settings[0] for each in settings):
        found.append("their metric settings differ")
    if len({run.scores.get("scorer", "light") for run in runs}) > 1:
        found.append("they were scored by different scorers")
    for side in sides:
        names = " and ".join(run.name for run in side)
        if any(changes([run], side[:1], seeds=False) for run in side[1:]):
            found.append(f"{names} differ in more than the seed")
        elif len({run.scores["model_sha256"] for run in side}) < len(side):
            found.append(f"{names} are not all of different seeds")
    return found


def changes(these: Sequence[Run], baselines: Sequence[Run], seeds: bool = True) -> list[str]:
    """How the sides' configurations differ: lines "- old" and "+ new". The seed counts only between
    single runs, and if `seeds`."""
    new, old = (_made_of(side[0]) for side in (these, baselines))
    if not seeds or len(these) > 1 or len(baselines) > 1:
        new, old = ({pair for pair in side if pair[0] != "train_vae.seed"} for side in (new, old))
    sides = enumerate((old - new, new - old))
    lines = sorted((key, is_new, value) for is_new, side in sides for key, value in side)
    return [f"{'-+'[is_new]} {key} = {value}" for key, is_new, value in lines]


def _made_of(run: Run) -> set[tuple[str, str]]:
    """(name, value) of its bindings, its weights, and how many seeds it ranks first of."""
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
