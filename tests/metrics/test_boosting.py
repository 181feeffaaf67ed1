"""Our boosted trees against scikit-learn's own, tree for tree where no rows agree in a feature."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factor_grids import factors_of, standardised
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier

from submission.metrics.boosting import SortedGradientBoosting

Array = NDArray[Any]
GRID = (6, 2, 3, 3, 40)


def points(number: int) -> tuple[Array, Array]:
    """Factors of random images, (number, 5), some of them drawn twice, and those standardised."""
    rows = np.random.default_rng(0).integers(np.prod(GRID), size=number)
    rows[::50] = rows[1::50]
    return factors_of(GRID)[rows], standardised(factors_of(GRID))[rows]


def codes(kind: str, number: int) -> Array:
    """Codes (number, 8 or more) that are functions of the images, as an encoder's are."""
    factors, ideal = points(number)
    random = np.random.default_rng(1)
    # The same noise wherever the same image is drawn.
    image = np.unique(factors, axis=0, return_inverse=True)[1].reshape(-1)
    noise = random.normal(size=(len(factors), 8))[image]
    smooth = np.tanh(ideal @ random.normal(size=(5, 8))) + 0.2 * noise
    if kind == "smooth":  # as a VAE's
        return smooth.astype(np.float32)
    if kind == "clustered":  # as refined.gin's: values near a factor's few middles
        return np.hstack([ideal + 1e-3 * noise[:, :5], noise[:, 5:]]).astype(np.float32)
    if kind == "twice":
        return np.hstack([smooth, -smooth, smooth]).astype(np.float32)
    if kind == "constant":
        smooth[:, ::3] = 0.5
        return smooth.astype(np.float32)
    if kind == "ideal":
        return np.hstack([ideal, np.zeros((number, 3))])
    if kind == "ideal twice":
        return np.hstack([ideal, ideal])
    assert kind == "rounded"
    return np.round(2 * smooth) / 2


def pair(x: Array, y: Array, stages: int, seed: int = 3) -> tuple[Any, Any]:
    models = [
        kind(n_estimators=stages, random_state=seed)
        for kind in (SortedGradientBoosting, GradientBoostingClassifier)
    ]
    return models[0].fit(x, y), models[1].fit(x, y)


def assert_same_trees(ours: Any, stock: Any) -> None:
    for own, other in zip(ours.estimators_.flat, stock.estimators_.flat, strict=True):
        for name in ("children_left", "children_right", "feature", "threshold", "n_node_samples"):
            np.testing.assert_array_equal(getattr(own.tree_, name), getattr(other.tree_, name))
        leaves = own.tree_.children_left < 0
        np.testing.assert_array_equal(own.tree_.value[leaves], other.tree_.value[leaves])
        np.testing.assert_allclose(own.tree_.impurity, other.tree_.impurity, atol=1e-12)


def assert_same(ours: Any, stock: Any, x: Array) -> None:
    assert_same_trees(ours, stock)
    assert np.abs(ours.feature_importances_ - stock.feature_importances_).max() < 1e-12
    np.testing.assert_array_equal(ours.decision_function(x), stock.decision_function(x))
    np.testing.assert_array_equal(ours.predict(x), stock.predict(x))


@pytest.mark.parametrize("kind", ["smooth", "clustered", "twice", "constant"])
@pytest.mark.parametrize("factor", [1, 2])  # of two values, and of three
def test_the_trees_are_scikit_learns(kind: str, factor: int) -> None:
    x, y = codes(kind, 400), points(400)[0][:, factor]
    assert_same(*pair(x, y, 6), x)


def test_labels_of_any_kind_and_other_depths() -> None:
    x, y = codes("smooth", 300), np.array(["b", "a", "c"])[points(300)[0][:, 2]]
    settings = {"n_estimators": 4, "max_depth": 5, "learning_rate": 0.3, "random_state": 1}
    ours = SortedGradientBoosting(**settings).fit(x, y)
    assert_same(ours, GradientBoostingClassifier(**settings).fit(x, y), x)


def test_codes_that_tell_nothing_have_no_importance() -> None:
    x, y = np.ones((50, 3)), np.arange(50) % 3
    ours, stock = pair(x, y, 3)
    assert ours.feature_importances_.tolist() == [0.0, 0.0, 0.0]
    assert_same(ours, stock, x)


def test_the_kernel_compiles_where_no_cache_can_be_written(tmp_path: Path) -> None:
    """numba refuses to cache a function whose file it cannot place a cache for."""
    code = (
        "import numba.core.caching as caching\n"
        "caching.CacheImpl._locator_classes = []\n"  # as where neither place can be written
        "from submission.metrics.trees import grow_trees\n"
        "print(type(grow_trees._cache).__name__)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "NullCache"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["smooth", "clustered", "twice", "constant"])
def test_whole_fits_are_scikit_learns(kind: str) -> None:
    x, y = codes(kind, 2000), points(2000)[0]
    for factor in (0, 1, 4):
        assert_same(*pair(x, y[:, factor], 100 if factor < 4 else 20), x)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ideal", "ideal twice", "rounded"])
def test_where_ties_decide_the_difference_is_within_the_spread_of_seeds(kind: str) -> None:
    x, y = codes(kind, 2000), points(2000)[0]
    for factor in (0, 1, 2):
        fits = [pair(x, y[:, factor], 100, seed) for seed in range(4)]
        ours, stock = (np.stack([f[i].feature_importances_ for f in fits]) for i in (0, 1))
        spread = np.ptp(stock, axis=0).max()
        assert np.abs(ours - stock).max() <= spread + 1e-9
        assert np.abs(ours.mean(axis=0) - stock.mean(axis=0)).max() <= spread + 1e-9
        for own, other in fits:
            assert np.mean(own.predict(x) != other.predict(x)) <= 0.005
