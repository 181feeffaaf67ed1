"""What the report says of latents, against the library's own functions and a plain search."""

import numpy as np
import pytest

from submission.latents.vae import carries_anything
from submission.metrics import compute
from submission.metrics.grids import GridRepresentations, identity
from submission.metrics.settings import load_settings
from submission.report.analysis import QUANTILES, gbt_importance, mutual_information, traverse

from disentanglement_lib.evaluation.metrics import dci, mig, utils  # isort: skip

SIZES = (3, 2, 2, 2, 2, 3, 2)
FACTORS = np.stack(np.unravel_index(np.arange(np.prod(SIZES)), SIZES), axis=1)


@pytest.fixture
def mixed() -> GridRepresentations:
    """A code that mixes factors, under quick settings."""
    load_settings(quick=True)
    rng = np.random.default_rng(1)
    codes = FACTORS @ rng.normal(size=(7, 4)) + rng.normal(size=(len(FACTORS), 4)) / 5
    return GridRepresentations(codes, SIZES)


def test_mutual_information_is_the_librarys(mixed: GridRepresentations) -> None:
    x, y = utils.generate_batch_factor_code(mixed, identity, 1000, np.random.RandomState(0), 16)
    found = mutual_information(mixed, 1000, 16)
    expected = utils.discrete_mutual_info(utils.make_discretizer(x), y)
    np.testing.assert_allclose(found * utils.discrete_entropy(y), expected)
    ordered = np.sort(found, axis=0)
    score = mig.compute_mig(mixed, identity, np.random.RandomState(0))["discrete_mig"]
    assert np.mean(ordered[-1] - ordered[-2]) == pytest.approx(score)


def test_importance_is_what_dci_is_made_of(mixed: GridRepresentations) -> None:
    matrix = gbt_importance(mixed, 1000, 16)
    np.testing.assert_allclose(matrix.sum(axis=0), 1)
    score = compute.score(mixed, metrics=["dci"])["headline"]["dci"]
    assert dci.disentanglement(matrix) == pytest.approx(score)


def test_traverse_finds_the_nearest_as_a_plain_search_does() -> None:
    rng = np.random.default_rng(0)
    codes = (rng.normal(size=(9000, 4)) * [1, 5, 0.001, 2] + 3).astype(np.float32)
    active = carries_anything(codes)
    assert active.tolist() == [True, True, False, True]
    rows, far = traverse(codes, active, 8500)
    for line, latent in enumerate([0, 1, 3]):
        for column, quantile in enumerate(QUANTILES):
            target = codes[8500].astype(float)
            target[latent] = np.quantile(codes[:, latent], quantile)
            apart = ((codes - target) / codes.std(axis=0))[:, active]
            distance = np.sqrt((apart**2).sum(axis=1))
            assert rows[line, column] == distance.argmin()
            assert far[line, column] == pytest.approx(distance.min(), rel=1e-4)
