"""What the latents know of the factors."""

import joblib
import numpy as np
from numpy.typing import NDArray

from submission.metrics.dci import importance
from submission.metrics.grids import GridRepresentations, identity
from submission.metrics.library import utils

Matrix = NDArray[np.float64]
# DCI's fits on the official 10,000 points take most of the scoring; a figure needs fewer.
IMPORTANCE_POINTS = 2000
QUANTILES = np.linspace(0.02, 0.98, 9)


def mutual_information(grid: GridRepresentations, points: int, batch_size: int) -> Matrix:
    """What MIG looks at: (C, 7), each factor's column divided by that factor's entropy.

    The points are those that MIG draws, the functions are the library's, settings bound by gin.
    """
    random = np.random.RandomState(0)
    codes, factors = utils.generate_batch_factor_code(grid, identity, points, random, batch_size)
    information = utils.discrete_mutual_info(utils.make_discretizer(codes), factors)
    return np.asarray(information / utils.discrete_entropy(factors))


def gbt_importance(grid: GridRepresentations, points: int, batch_size: int) -> Matrix:
    """What DCI looks at: (C, 7), how much each latent serves boosted trees that read a factor.

    Each factor's column sums to 1. The points are the first of those that DCI draws, and the fits
    are seeded as in scoring, so with DCI's own number of points this is its own matrix.
    """
    random = np.random.RandomState(0)
    x, y = utils.generate_batch_factor_code(grid, identity, points, random, batch_size)
    # The test points give accuracies that are not shown: a few of the same will do.
    title = f"importance, {points:,} points"
    return importance(x, y, x[:, :9], y[:, :9], joblib.cpu_count(), title)[0]


def traverse(
    codes: NDArray[np.float32], active: NDArray[np.bool_], anchor: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each active latent the images nearest to codes that differ from an anchor's in it alone.

    Args:
        codes: (n, C). active: (C,), which latents are moved and measured in. anchor: a row.

    Returns:
        rows (A, Q) of the images whose codes are nearest to the anchor's with the one latent at
        QUANTILES of all its values, and how far they are (A, Q): Euclidean, each latent in units
        of its standard deviation.
    """
    scaled = codes[:, active].astype(np.float64)
    scaled /= scaled.std(axis=0)
    latents = scaled.shape[1]
    if latents == 0:
        return np.empty((0, len(QUANTILES)), np.int64), np.empty((0, len(QUANTILES)))
    targets = np.tile(scaled[anchor], (latents, len(QUANTILES), 1))
    for j in range(latents):
        targets[j, :, j] = np.quantile(scaled[:, j], QUANTILES)
    targets = targets.reshape(-1, latents)
    best = np.full(len(targets), np.inf)
    rows = np.zeros(len(targets), dtype=np.int64)
    for begin in range(0, len(scaled), 8192):
        part = scaled[begin : begin + 8192]
        # Without the targets' own squares, which decide nothing.
        distance = (part**2).sum(axis=1)[:, None] - 2 * part @ targets.T
        nearest = distance.argmin(axis=0)
        value = distance[nearest, np.arange(len(targets))]
        rows[value < best] = begin + nearest[value < best]
        best = np.minimum(best, value)
    far = np.sqrt(((scaled[rows] - targets) ** 2).sum(axis=1))
    return rows.reshape(latents, -1), far.reshape(latents, -1)
