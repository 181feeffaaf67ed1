"""Numbers beside the challenge's five, never part of their sum: `--also`."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import gin
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from submission.metrics import infomec
from submission.metrics.compute import score
from submission.metrics.grids import RepresentationFunction, identity
from submission.metrics.library import beta_vae, modularity, utils
from submission.metrics.settings import DCI_FITS, Result
from submission.runtime.config import configurable_as
from submission.runtime.errors import UserError, first_line
from submission.runtime.kinds import Count, Share


def further_scores(
    data: Any,
    names: Sequence[str],
    result: Result,
    representation_function: RepresentationFunction = identity,
    discrete: bool = False,
    dci_fit: str = DCI_FITS[0],
) -> tuple[dict[str, float], dict[str, str]]:
    """Some of `FURTHER`, under the settings bound in gin (`load_further_settings`).

    Args:
        data: as `compute.score` takes it; `result` is what that gave, whose DCI is not fitted anew.
        discrete: the codes are whole numbers: symbols for InfoMEC.
        dci_fit: as `compute.score` takes it.

    Returns:
        The numbers, under the names of FURTHER_TITLES, and the reasons why one is left out.
    """
    found: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for name in names:
        try:
            if name in ("completeness", "informativeness"):
                if "dci" not in result:
                    result = _with_dci(data, representation_function, result, dci_fit)
                kept = "informativeness_test" if name == "informativeness" else name
                found[name] = result["dci"][kept]
            elif name == "infomec":
                found |= infomec_scores(data, representation_function, discrete)
            else:
                found |= _LIBRARY[name](data, representation_function)
        except Undefined as reason:
            left_out[name] = first_line(reason)
    return found, left_out


def _with_dci(data: Any, function: RepresentationFunction, result: Result, fit: str) -> Result:
    if "dci" in result.get("not_scored", {}):
        raise Undefined("DCI gives no score")
    try:
        return score(data, function, ("dci",), dci_fit=fit)
    except UserError as error:
        raise Undefined("DCI gives no score") from error


class Undefined(Exception):
    """A number that these codes do not have; its text is the reason."""


@configurable_as("infomec")
def infomec_scores(
    data: Any,
    representation_function: RepresentationFunction,
    discrete: bool,
    num_train: Count = gin.REQUIRED,
    neighbors: Count = gin.REQUIRED,
    active_range: Share = gin.REQUIRED,
    iterations: Count = gin.REQUIRED,
) -> dict[str, float]:
    """InfoM, InfoE and InfoC (`infomec.py`) of `num_train` rows."""
    draws = (data, representation_function, num_train, np.random.RandomState(0), 64)
    codes, factors = (array.T for array in utils.generate_batch_factor_code(*draws))
    active = infomec.active_latents(codes, discrete, active_range)
    if active.sum() < 2:
        raise Undefined(f"{active.sum()} of the latents is active; compactness needs two")
    told = infomec.normalised_information(codes[:, active], factors, discrete, neighbors)
    return {
        "InfoM": infomec.info_modularity(told),
        "InfoE": infomec.info_explicitness(codes, factors, discrete, iterations),
        "InfoC": infomec.info_compactness(told),
    }


def _betavae(data: Any, function: RepresentationFunction) -> dict[str, float]:
    values = _quietly(beta_vae.compute_beta_vae_sklearn, data, function)
    return {"betavae": values["eval_accuracy"]}


def _modularity(data: Any, function: RepresentationFunction) -> dict[str, float]:
    try:
        values = _quietly(modularity.compute_modularity_explicitness, data, function)
    except ValueError as error:  # scikit-learn's, of NaN and of labels that are not there
        what = "the library's explicitness needs latents that vary, and every value of every factor"
        raise Undefined(f"{what} among the test rows") from error
    return {
        "modularity": values["modularity_score"],
        "explicitness": values["explicitness_score_test"],
    }


def _quietly(metric: Callable[..., Any], *args: Any) -> dict[str, float]:
    """A metric of the library, with a generator of its own; its regressions stop at scikit-learn's
    limit of iterations, and it divides zeros by zeros where a latent tells nothing."""
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        values = {k: float(v) for k, v in metric(*args, np.random.RandomState(0)).items()}
    if not all(map(math.isfinite, values.values())):
        raise Undefined("it is not a number on these codes")
    return values


_LIBRARY = {"betavae": _betavae, "modularity": _modularity}
