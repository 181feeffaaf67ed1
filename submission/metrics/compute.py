"""The challenge's five metrics, computed by disentanglement_lib 1.5's own, unmodified code.

The library's metrics draw factors, ask a `GroundTruthData` for the observations and hand these to a
representation function. `GridRepresentations` answers with precomputed representations, so that no
image passes through a network; `GridImages` is the stock route over the images. Both make the
library's own random draws and give the same scores.
"""

import math
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import joblib
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from submission.metrics.dci import compute_dci, library_dci
from submission.metrics.grids import RepresentationFunction, identity
from submission.metrics.library import factor_vae, irs, mig, sap
from submission.metrics.matrices import kept_in
from submission.metrics.settings import METRICS, OFFICIAL, REPORTED, TITLES, Result, bound_settings
from submission.runtime.errors import UserError
from submission.runtime.progress import progress_bar


def score(
    data: Any,
    representation_function: RepresentationFunction = identity,
    metrics: Sequence[str] = METRICS,
    workers: int | None = None,
    dci_fit: str = "sorted",
) -> Result:
    """Compute the metrics under the settings bound in gin (`load_settings`).

    Args:
        data: a disentanglement_lib GroundTruthData.
        representation_function: from observations of `data` to (N, C) floats.
        metrics: some of METRICS; each starts from its own fresh RandomState(0).
        workers: threads for the DCI fits (default: one per core); the scores do not depend on it.
        dci_fit: one of DCI_FITS: our trees, or scikit-learn's own (then `workers` are processes);
            or "library", its DCI on one core with no function of it replaced.

    Returns:
        Under each metric's name every number the library returns; `headline`, the reported number
        of each metric; `not_scored`, the reason for each that gives NaN or a number out of its
        range; `seconds` of each; `settings`, as bound; `counts`, "official" where these are the
        server's settings and "quick" otherwise; with DCI and MIG the matrices that they are made
        of (`kept_in`). The library's `num_active_dims` is not what its name says: it is the number
        of all latents (FactorVAE), the sum of all codes (IRS).

    IRS gives none on latents constant at another value than zero: the rounding of their float32
    mean can leave them a variance, so that the library divides by their largest deviation, about 0.
    Raises UserError for fewer than one worker, and if no metric gives a score.
    """
    workers = joblib.cpu_count() if workers is None else workers
    if workers < 1:
        raise UserError(f"The number of workers is {workers}; ask for at least one.")
    stock = {"factor_vae": factor_vae.compute_factor_vae, "sap": sap.compute_sap}
    stock |= {"irs": irs.compute_irs, "mig": mig.compute_mig}
    settings = bound_settings()
    counts = "official" if settings == OFFICIAL else "quick"
    result: Result = {"headline": {}, "not_scored": {}, "seconds": {}}
    result |= {"settings": settings, "counts": counts}
    # DCI last: by scikit-learn's trees it takes nearly all of the time, and other metrics' errors
    # should come first.
    order = sorted(metrics, key=lambda metric: metric == "dci")
    for metric in (bar := progress_bar(iterable=order, desc="metrics", unit=" metrics")):
        bar.set_postfix_str(metric, refresh=False)
        start = time.perf_counter()
        random_state = np.random.RandomState(0)
        kept = nullcontext() if dci_fit == "library" else kept_in(result)
        with warnings.catch_warnings(), kept:
            # SAP's linear classifiers stop at the library's iteration limit, as in the challenge.
            warnings.simplefilter("ignore", ConvergenceWarning)
            if metric == "dci" and dci_fit == "library":
                values = library_dci(data, representation_function, random_state)
            elif metric == "dci":
                values = compute_dci(data, representation_function, random_state, workers, dci_fit)
            else:
                values = stock[metric](data, representation_function, random_state)
        result["seconds"][metric] = time.perf_counter() - start
        numbers = {name: float(value) for name, value in values.items()}
        reported = numbers[REPORTED[metric]]
        # No metric can leave [-1, 1]; a comparison with NaN is False.
        if -1 <= reported <= 1 and all(map(math.isfinite, numbers.values())):
            result[metric], result["headline"][metric] = numbers, reported
        else:
            result["not_scored"][metric] = (
                f"it gives {reported:.3g} on this representation, which is no score: check it for "
                "latents of extreme size and for latents constant at another value than zero, "
                "whose rounding error IRS divides by (export those as zero)"
            )
    if not result["headline"] and result["not_scored"]:
        metric, reason = next(iter(result["not_scored"].items()))
        raise UserError(f"{TITLES[metric]} cannot be scored: {reason}.")
    return result
