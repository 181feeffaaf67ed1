"""What scoring keeps of DCI and MIG, against the library's own functions on the same points."""

import numpy as np
import pytest
from numpy.typing import NDArray

from submission.metrics.compute import score
from submission.metrics.grids import GridRepresentations, identity
from submission.metrics.library import stock_importance
from submission.metrics.settings import Result, load_settings

from disentanglement_lib.evaluation.metrics import dci, mig, utils  # isort: skip

SIZES = (3, 2, 2, 2, 2, 3, 2)
FACTORS = np.stack(np.unravel_index(np.arange(np.prod(SIZES)), SIZES), axis=1)


@pytest.fixture(scope="module")
def mixed() -> GridRepresentations:
    """A code that mixes factors, and a latent that is constant."""
    rng = np.random.default_rng(1)
    codes = FACTORS @ rng.normal(size=(7, 3)) + rng.normal(size=(len(FACTORS), 3)) / 5
    return GridRepresentations(np.hstack([codes, np.zeros((len(FACTORS), 1))]), SIZES)


@pytest.fixture(scope="module")
def result(mixed: GridRepresentations) -> Result:
    load_settings(quick=True)
    return score(mixed, metrics=["dci", "mig"], workers=1)


def drawn(mixed: GridRepresentations, points: int) -> tuple[NDArray[np.float64], ...]:
    return tuple(
        utils.generate_batch_factor_code(mixed, identity, points, np.random.RandomState(0), 16)
    )


def test_the_information_is_migs(mixed: GridRepresentations, result: Result) -> None:
    x, y = drawn(mixed, result["settings"]["mig.num_train"])
    kept = np.array(result["information"])
    assert kept.shape == (4, 7)
    expected = utils.discrete_mutual_info(utils.make_discretizer(x), y)
    np.testing.assert_allclose(kept * utils.discrete_entropy(y), expected)
    ordered = np.sort(kept, axis=0)
    assert np.mean(ordered[-1] - ordered[-2]) == pytest.approx(result["headline"]["mig"])


def test_the_importance_is_dcis(mixed: GridRepresentations, result: Result) -> None:
    kept = np.array(result["importance"])
    assert kept.shape == (4, 7)
    assert dci.disentanglement(kept) == pytest.approx(result["dci"]["disentanglement"], rel=1e-12)
    assert dci.completeness(kept) == pytest.approx(result["dci"]["completeness"], rel=1e-12)
    assert kept[3].tolist() == [0.0] * 7, "the constant latent serves nothing"
    # Trees on the same points with another seed, which moves ties only.
    x, y = drawn(mixed, result["settings"]["dci.num_train"])
    factor = 1
    stock, *_ = stock_importance(x, y[factor : factor + 1], x[:, :9], y[factor : factor + 1, :9])
    np.testing.assert_allclose(kept[:, factor], stock[:, 0], atol=0.05)


def test_a_metric_that_is_not_computed_keeps_nothing(mixed: GridRepresentations) -> None:
    load_settings(quick=True)
    assert "importance" not in score(mixed, metrics=["mig"])
    # The library is as it was.
    assert dci.disentanglement_per_code.__module__ == dci.__name__
    assert utils.discrete_mutual_info.__module__ == utils.__name__
    assert mig.utils is utils
