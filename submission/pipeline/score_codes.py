"""From a file of codes to its scores."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submission.data.code_files import read_codes
from submission.metrics.arrays import score_labelled
from submission.metrics.borrowing import borrowed_settings
from submission.metrics.code_table import CodeScores, as_json, code_table
from submission.metrics.labelled import LabelledCodes, labelled
from submission.metrics.results import versions
from submission.metrics.settings import METRICS
from submission.pipeline.score import ideal_scores
from submission.runtime.files import sha256, write_text


@dataclass(frozen=True)
class CodeOptions:
    """`codes` and `factors`: files; `also`: some of FURTHER; `out`: a folder, or None."""

    codes: Path
    factors: Path | None = None
    metrics: tuple[str, ...] = METRICS
    also: tuple[str, ...] = ()
    quick: bool = False
    out: Path | None = None


def score_codes(options: CodeOptions) -> str:
    """The table of a code file's scores beside the ideal code's; with `out` scores.json and
    scores.txt are written there. Raises UserError for codes that cannot be scored."""
    read = read_codes(options.codes, options.factors)
    sizes = None if read.factor_sizes is None else read.factor_sizes.tolist()
    given = labelled(read.codes, read.factors, sizes, read.factor_names)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)  # it may be impossible, so before hours
    scores = score_labelled(given, options.metrics, options.also, options.quick)
    ideal = _ideal(given, scores, options.quick)
    name = f"{options.codes.name} (rendered, NOT MPI3D)" if read.stand_in else options.codes.name
    table = code_table(scores, ideal, name)
    if options.out is not None:
        document: dict[str, Any] = {"codes": str(options.codes), "sha256": sha256(options.codes)}
        document |= {"factor_names": given.names, "stand_in": read.stand_in}
        document |= {"scores": as_json(scores), "ideal_code": ideal}
        document |= {"versions": versions()}
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
        write_text(options.out / "scores.json", text)
        write_text(options.out / "scores.txt", table)
    return table


def _ideal(given: LabelledCodes, scores: CodeScores, quick: bool) -> dict[str, float]:
    """The ideal code's headline; a whole grid's is kept in the cache."""
    metrics = tuple(scores.headline)
    if scores.grid:
        with borrowed_settings(quick):
            found: dict[str, float] = ideal_scores(given.factor_sizes, metrics)["headline"]
        return found
    return score_labelled(given.ideal(), metrics, quick=quick).headline
