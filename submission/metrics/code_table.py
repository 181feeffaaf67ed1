"""The scores of codes that came as arrays, as a value and as a table."""

import textwrap
from dataclasses import dataclass, field
from typing import Any

from submission.metrics.settings import FURTHER_TITLES, METRICS, TITLES, Result
from submission.runtime.text import aligned

# Metrics by their names here and by those of the library's settings.
_TITLES = TITLES | {"betavae": "beta-VAE score", "infomec": "InfoMEC", "modularity": "modularity"}
_TITLES |= {"factor_vae_score": "FactorVAE", "sap_score": "SAP"}
_TITLES |= {"modularity_explicitness": "modularity"}
_PURPOSES = {"num_train": "to train on", "num_test": "to test on"}
_PURPOSES |= {"num_variance_estimate": "for the variances"}


@dataclass(frozen=True)
class CodeScores:
    """What `submission.metrics.score` gives.

    Attributes:
        headline: the challenge's number of each metric, under its name ("factor_vae" ...).
        further: the numbers that were asked for with `also`; not the challenge's.
        left_out: metrics that these codes have no number for, and the reason of each.
        lowered: counts that the sample is too small for: setting -> (the challenge's, used here).
        num_rows, num_latents: N and C of the codes.
        factor_sizes: the number of values of each factor.
        grid: whether every combination of the factors is there exactly once.
        quick: whether lowered counts were asked for.
        details: every number of the library, the settings, and the seconds of each metric.
    """

    headline: dict[str, float]
    further: dict[str, float]
    left_out: dict[str, str]
    lowered: dict[str, tuple[int, int]]
    num_rows: int
    num_latents: int
    factor_sizes: tuple[int, ...]
    grid: bool
    quick: bool
    details: Result = field(repr=False)

    def __str__(self) -> str:
        return code_table(self).rstrip("\n")

    @property
    def what(self) -> str:
        """What was scored, in a few words."""
        if self.grid:
            return f"grid {' x '.join(map(str, self.factor_sizes))}"
        return f"sample of {self.num_rows:,}, not a grid"


def code_table(scores: CodeScores, ideal: dict[str, float] | None = None, name: str = "") -> str:
    """The scores as plain text of at most 100 columns, beside the ideal code's headline. `name` is
    what the codes are called, as their file."""
    columns = [scores.headline, *([ideal] if ideal else [])]
    above = ["metric", "these codes", *(["ideal code"] if ideal else [])]
    shown = [metric for metric in METRICS if metric in scores.headline]
    rows = [
        above,
        *([TITLES[m], *(f"{c[m]:.3f}" if m in c else "-" for c in columns)] for m in shown),
    ]
    if scores.grid and len(shown) == len(METRICS):
        rows.append(
            ["sum", *(f"{sum(c.values()):.3f}" if len(c) == len(METRICS) else "-" for c in columns)]
        )
    lines = aligned(rows, gap="   ")
    rule = "-" * max(map(len, lines))
    text = [lines[0], rule, *lines[1:], rule, *_filled(_caption(scores, name))]
    return "\n".join([*text, *further_lines(scores.further)]) + "\n"


def further_lines(further: dict[str, float]) -> list[str]:
    """What stands below a table of the challenge's scores."""
    if not further:
        return []
    found = [[name, f"{value:.3f}", FURTHER_TITLES[name]] for name, value in further.items()]
    rows = aligned(found, left=3, gap="   ")
    return [
        "",
        "Further numbers, not the challenge's and in no sum:",
        *(f"  {row}" for row in rows),
    ]


def left_out_lines(left_out: dict[str, str]) -> list[str]:
    """A sentence for each metric that is left out."""
    return [f"Left out: {_TITLES.get(name, name)}: {why}." for name, why in left_out.items()]


def _caption(scores: CodeScores, name: str) -> list[str]:
    what = f"{scores.num_latents} latents of {scores.num_rows:,} images, {scores.what}"
    measured = f"Measured on: {name + ': ' if name else ''}{what}."
    return [measured, *settings_lines(scores), *left_out_lines(scores.left_out)]


def settings_lines(scores: CodeScores) -> list[str]:
    """By which settings the metrics were computed, and what was lowered."""
    caption = []
    if scores.quick:
        caption.append("Metric settings: QUICK, lowered counts; comparable with no other numbers.")
    elif scores.grid:
        caption.append("Metric settings: official (the challenge's).")
    else:
        how = "the challenge's but for the counts below" if scores.lowered else "the challenge's"
        caption.append(
            f"Metric settings: {how}; its scores are of whole grids, so compare nothing."
        )
    if scores.lowered:
        caption.append("Lowered to the sample: " + lowered_counts(scores) + ".")
    return caption


def lowered_counts(scores: CodeScores) -> str:
    """The counts that the sample is too small for, as "SAP: 800 rows to train on, not 10,000"."""
    groups: dict[str, list[str]] = {}
    for key, (asked, used) in scores.lowered.items():
        metric, _, count = key.partition(".")
        what = f"{used:,} rows {_PURPOSES[count]}, not {asked:,}"
        groups.setdefault(what, []).append(_TITLES[metric])
    return "; ".join(f"{', '.join(metrics)}: {what}" for what, metrics in groups.items())


def _filled(sentences: list[str]) -> list[str]:
    return [textwrap.fill(sentence, 100, subsequent_indent="  ") for sentence in sentences]


def as_json(scores: CodeScores) -> dict[str, Any]:
    """The fields as JSON values, `details` last."""
    return {name: getattr(scores, name) for name in scores.__dataclass_fields__}
