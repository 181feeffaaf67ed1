"""The interval of a difference, against its formula."""

import math
import statistics
import warnings

import numpy as np
import pytest
from scipy.stats import t as student_t

from submission.report.comparison import _interval


def test_equal_in_few_seeds_is_no_certainty() -> None:
    """FactorVAE is a multiple of a five-hundredth with the quick counts."""
    assert _interval([1.0, 1.0], [0.998, 0.998]) is None
    found = _interval([1.0, 1.0, 1.0], [0.9, 0.8, 0.7])
    # Two degrees of freedom, all the variance on one side: 4.3027 times .1 over the root of 3.
    assert found == pytest.approx((0.2 - 0.24842, 0.2 + 0.24842), abs=1e-4)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 5), (8, 4)])
@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_the_interval_is_welchs(sizes: tuple[int, int], spread: float) -> None:
    """Half of it is t s, with s^2 = a + b for a = s_new^2 / n_new and b alike, and
    s^4 / (a^2 / (n_new - 1) + b^2 / (n_old - 1)) degrees of freedom."""
    rng = np.random.default_rng(sizes)
    new, old = (0.5 + rng.random(sizes[0])).tolist(), (spread * rng.random(sizes[1])).tolist()
    a, b = (statistics.variance(side) / len(side) for side in (new, old))
    freedom = (a + b) ** 2 / (a**2 / (sizes[0] - 1) + b**2 / (sizes[1] - 1))
    half = student_t.ppf(0.975, freedom) * math.sqrt(a + b)
    middle = statistics.fmean(new) - statistics.fmean(old)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the user is to see none
        found = _interval(new, old)
    assert found == pytest.approx((middle - half, middle + half), rel=0, abs=1e-12)
