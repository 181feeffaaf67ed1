"""Where the latents lead: the images nearest to codes that differ in one latent."""

import numpy as np
from numpy.typing import NDArray

QUANTILES = np.linspace(0.02, 0.98, 9)


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
