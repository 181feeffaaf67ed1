"""The order of the factors, and what cannot be scored."""

import math
from typing import Any

import numpy as np
import pytest
from factor_grids import SMALL, factors_of, standardised
from numpy.typing import NDArray

from submission.metrics.compute import score
from submission.metrics.grids import GridImages, GridRepresentations, ideal_code
from submission.runtime.errors import UserError


@pytest.mark.parametrize("sizes", [SMALL, (6, 5, 2, 3, 3, 4, 7), (4, 4, 2, 3, 3, 40, 40)])
def test_rows_follow_the_librarys_index_arithmetic(sizes: tuple[int, ...]) -> None:
    random = np.random.RandomState(3)
    factors = np.stack([random.randint(size, size=500) for size in sizes], axis=1)
    bases = np.prod(sizes) / np.cumprod(sizes)
    expected = np.array(np.dot(factors, bases), dtype=np.int64)
    code = np.arange(math.prod(sizes), dtype=np.float32)[:, None] * np.ones(2, np.float32)
    observed = GridRepresentations(code, sizes).sample_observations_from_factors(factors, random)
    np.testing.assert_array_equal(observed[:, 0], expected)


def test_ideal_code_is_one_standardised_ordinal_latent_per_factor() -> None:
    code = ideal_code(SMALL)
    np.testing.assert_allclose(code, standardised(factors_of(SMALL)), atol=1e-6)
    assert code.dtype == np.float32


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (np.zeros((431, 3)), "431 rows"),
        (np.zeros((864,)), "shape"),
        (np.zeros((432, 1)), "at least two latents"),
        (np.where(np.arange(432 * 3).reshape(432, 3) == 30, np.nan, 0.0), "row 10"),
        (np.where(np.arange(432 * 3).reshape(432, 3) == 30, np.inf, 0.0), "row 10"),
        (np.full((432, 3), 1e300), "432 rows"),
    ],
)
def test_unusable_representations_are_refused(code: NDArray[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        GridRepresentations(code, SMALL)


def test_unusable_grids_images_and_workers_are_refused() -> None:
    with pytest.raises(UserError, match="fewer than two values"):
        GridRepresentations(np.zeros((6, 3)), (6, 1))
    with pytest.raises(UserError, match="5 rows"):
        GridImages(np.zeros((5, 64, 64, 3), np.uint8), (2, 3))
    with pytest.raises(UserError, match="at least one"):
        score(GridRepresentations(np.zeros((6, 3)), (2, 3)), workers=0)
