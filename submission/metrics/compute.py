"""The challenge's five metrics, computed by disentanglement_lib 1.5's own, unmodified code.

The library's metrics draw factors, ask a `GroundTruthData` for the observations and hand these to a
representation function. `GridRepresentations` answers with precomputed representations, so that no
image passes through a network; `GridImages` is the stock route over the images. Both make the
library's own random draws and give the same scores.
"""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import joblib
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from submission.metrics.dci import compute_dci
from submission.metrics.grids import RepresentationFunction, identity
from submission.metrics.library import factor_vae, irs, mig, sap
from submission.metrics.settings import METRICS, OFFICIAL, REPORTED, Result, bound_settings
from submission.runtime.errors import UserError
from submission.runtime.progress import progress_bar


def score(
    data: Any,
    representation_function: RepresentationFunction = identity,
    metrics: Sequence[str] = METRICS,
    workers: int | None = None,
    dci: Callable[..., dict[str, Any]] = compute_dci,
) -> Result:
    """Compute the metrics under the settings bound in gin (`load_settings`).

    Args:
        data: a disentanglement_lib GroundTruthData.
        representation_function: from observations of `data` to (N, C) floats.
        metrics: some of METRICS; each starts from its own fresh RandomState(0).
        workers: processes for the DCI fits (default: one per core); the scores do not depend on it.
        dci: computes DCI, `compute_dci` over processes or `library_dci` as the library has it.

    Returns:
        Under each metric's name every number the library returns; `headline`, the reported number
        of each metric; `seconds` of each; `settings`, as bound; `counts`, "official" where these
        are the server's settings and "quick" otherwise. The library's `num_active_dims` is not
        what its name says: it is the number of all latents (FactorVAE), the sum of all codes (IRS).

    Raises UserError for fewer than one worker, and a metric that gives NaN or a number out of its
    range. IRS does on latents constant at another value than zero: the rounding of their float32
    mean can leave them a variance, so that the library divides by their largest deviation, about 0.
    """
    workers = joblib.cpu_count() if workers is None else workers
    if workers < 1:
        raise UserError(f"The number of workers is {workers}; ask for at least one.")
    stock = {"factor_vae": factor_vae.compute_factor_vae, "sap": sap.compute_sap}
    stock |= {"irs": irs.compute_irs, "mig": mig.compute_mig}
    settings = bound_settings()
    counts = "official" if settings == OFFICIAL else "quick"
    result: Result = {"headline": {}, "seconds": {}, "settings": settings, "counts": counts}
    # DCI last: it takes nearly all of the time, and other metrics' errors should come first.
    order = sorted(metrics, key=lambda metric: metric == "dci")
    for metric in (bar := progress_bar(iterable=order, desc="metrics", unit=" metrics")):
        bar.set_postfix_str(metric, refresh=False)
        start = time.perf_counter()
        random_state = np.random.RandomState(0)
        with warnings.catch_warnings():
            # SAP's linear classifiers stop at the library's iteration limit, as in the challenge.
            warnings.simplefilter("ignore", ConvergenceWarning)
            if metric == "dci":
                values = dci(data, representation_function, random_state, workers)
            else:
                values = stock[metric](data, representation_function, random_state)
        result["seconds"][metric] = time.perf_counter() - start
        result[metric] = {name: float(value) for name, value in values.items()}
        reported = result[metric][REPORTED[metric]]
        # No metric can leave [-1, 1]; a comparison with NaN is False.
        if not (-1 <= reported <= 1 and all(map(math.isfinite, result[metric].values()))):
            raise UserError(
                f"The metric {metric} gives {result[metric]} on this representation, which is no "
                "score: check it for latents of extreme size and for latents constant at another "
                "value than zero, whose rounding error IRS divides by (export those as zero)."
            )
        result["headline"][metric] = reported
    return result
