"""The metrics on arrays, for use as a library: `from submission.metrics import score`."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from submission.metrics import compute
from submission.metrics.borrowing import borrowed_settings, bound_further_settings
from submission.metrics.code_table import CodeScores
from submission.metrics.further import further_scores
from submission.metrics.labelled import LabelledCodes, labelled
from submission.metrics.samples import SampleRepresentations, lowered
from submission.metrics.settings import FURTHER, METRICS, bound_settings, checked
from submission.runtime.errors import UserError

# Rows that share a value, for a metric that compares such rows with each other.
FEWEST_ROWS = 20
# The library's names of the metrics, where they are others.
_CONFIGURABLES = {"factor_vae": "factor_vae_score", "sap": "sap_score", "completeness": "dci"}
_CONFIGURABLES |= {"informativeness": "dci", "modularity": "modularity_explicitness"}


def score(
    codes: ArrayLike,
    factors: ArrayLike | None = None,
    *,
    factor_sizes: Sequence[int] | None = None,
    factor_names: Sequence[str] | None = None,
    metrics: Sequence[str] = METRICS,
    also: Sequence[str] = (),
    quick: bool = False,
    workers: int | None = None,
) -> CodeScores:
    """The challenge's metrics of any codes, by disentanglement_lib's own functions.

    Args:
        codes: real numbers (N, C), one row for each image, C >= 2; whole numbers are taken for
            symbols by InfoMEC and for numbers by everything else.
        factors: whole numbers (N, F), F >= 2: what made each image. If every combination of their
            values is there exactly once, in whatever order, the images are a whole grid.
        factor_sizes: in their place: the number of values of each factor of a whole grid, whose
            images are in C order (the last factor changes fastest).
        factor_names: F different names, for errors.
        metrics: some of "factor_vae", "dci", "sap", "irs", "mig".
        also: some of "betavae", "infomec", "completeness", "informativeness", "modularity".
        quick: lowered sample counts, comparable with nothing else.
        workers: threads that grow DCI's trees (default: one per core).

    Returns:
        The scores, each in 0..1 at most (IRS, and others by an error of estimation, can be a little
        below 0); `print` shows a table. On a whole grid they are the challenge's numbers. On a
        sample counts are lowered to its rows, and FactorVAE, IRS and the beta-VAE score, which
        compare images that share one value, are left out if one of the values has fewer than 20
        rows.

    Nothing global is left behind: gin's bindings and numpy's global generator are as before, and
    the result does not depend on them. Calls from several threads wait for each other. Raises
    UserError, one sentence, for arrays that cannot be scored.
    """
    given = labelled(codes, factors, factor_sizes, factor_names)
    return score_labelled(given, metrics, also, quick, workers)


def score_labelled(
    given: LabelledCodes,
    metrics: Sequence[str] = METRICS,
    also: Sequence[str] = (),
    quick: bool = False,
    workers: int | None = None,
) -> CodeScores:
    """`score` of codes that are checked already."""
    wanted, also = checked(metrics, METRICS, "metrics"), checked(also, FURTHER, "also")
    data = given.data()
    with borrowed_settings(quick):
        settings = bound_settings() | bound_further_settings()
    changed, left_out = {}, {}
    if isinstance(data, SampleRepresentations):
        changed = lowered(len(given.codes), _of(settings, (*wanted, *also)))
        left_out = _without_pairs(data, given, (*wanted, *also))
        _check_learned(data, given, _of(settings, (*wanted, *also)) | changed)
    with borrowed_settings(quick, changed):
        names = [name for name in wanted if name not in left_out]
        result = compute.score(data, metrics=names, workers=workers)
        names = [name for name in also if name not in left_out]
        further, undefined = further_scores(data, names, result, discrete=given.discrete)
    return CodeScores(
        headline={name: result["headline"][name] for name in wanted if name in result["headline"]},
        further=further,
        left_out=left_out | result.get("not_scored", {}) | undefined,
        lowered={key: (settings[key], value) for key, value in changed.items()},
        num_rows=len(given.codes),
        num_latents=given.codes.shape[1],
        factor_sizes=given.factor_sizes,
        grid=given.factors is None,
        quick=quick,
        details=result,
    )


def _without_pairs(
    data: SampleRepresentations, given: LabelledCodes, names: Sequence[str]
) -> dict[str, str]:
    """The metrics that a sample has too few rows of one value for, and the reason."""
    factor, rows = data.rarest()
    if rows >= FEWEST_ROWS:
        return {}
    what = f"it compares rows that share a value, and the factor {given.names[factor]!r} has"
    reason = f"{what} {rows} of one of its values: at least {FEWEST_ROWS} are needed"
    return {name: reason for name in names if name in ("factor_vae", "irs", "betavae")}


def _check_learned(
    data: SampleRepresentations, given: LabelledCodes, settings: dict[str, Any]
) -> None:
    """Raises UserError if a metric is to learn a factor from rows that have one value of it."""
    for key in settings:
        train = settings[f"{key.partition('.')[0]}.num_train"] if "num_test" in key else None
        if train and (factor := data.not_learned(train)) is not None:
            what = f"the factor {given.names[factor]!r} has one value only in the {train:,} rows"
            how = "leave that factor out, or give more rows of its other values"
            raise UserError(f"{what} that are drawn to learn it from: {how}")


def _of(settings: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The settings of some metrics; completeness and informativeness are DCI's."""
    kept = {_CONFIGURABLES.get(name, name) for name in names}
    return {key: value for key, value in settings.items() if key.partition(".")[0] in kept}
