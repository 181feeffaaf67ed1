"""Latents whose values lie in a few clusters: where these end, and their middles."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

# Of a latent's histogram: bins, their blur, and what is added to all (share of the highest).
_BINS, _BLUR, _FLOOR = 200, 3.0, 0.01
# Between clusters the density falls to this share of the lower peak's. Where it also has dents of
# less depth, down to the second share, the clusters overlap and are left alone.
_GAP, _DENT = 0.2, 0.7


def gaps(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The borders between the clusters that a latent's values (n,) lie in, ascending; none if there
    is one cluster, or if some overlap."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    span = np.quantile(values, [0.001, 0.999])
    counts, edges = np.histogram(values, _BINS, tuple(span))
    density = gaussian_filter1d(counts.astype(np.float64), _BLUR, mode="constant")
    # A peak's prominence in the logarithm is its height over the gap beside it. An empty bin at
    # either end, since a peak has to have neighbours.
    height = np.log(np.pad(density, 1) + _FLOOR * density.max())
    peaks, _ = find_peaks(height, prominence=-np.log(_GAP))
    if len(find_peaks(height, prominence=-np.log(_DENT))[0]) > len(peaks):
        return np.empty(0)
    middles = np.pad((edges[1:] + edges[:-1]) / 2, 1, mode="edge")
    borders = [middles[a + height[a:b].argmin()] for a, b in pairwise(peaks)]
    return np.array(borders)


def to_clusters(values: npt.NDArray[np.float64], borders: npt.NDArray[np.float64]) -> nn.Sequential:
    """Layers (B, 1) -> (B, 1): the expected middle of the cluster that a value is from.

    The clusters are taken for normal distributions of one variance s^2, with middles m_k and shares
    w_k. Then p(k | z) is the softmax of z m_k / s^2 - m_k^2 / (2 s^2) + log w_k, a linear layer.
    """
    cluster = np.searchsorted(borders, values)
    shares = np.bincount(cluster) / len(values)
    middles = np.bincount(cluster, values) / np.bincount(cluster)
    # At least a little, as for values that are the same in each cluster.
    variance = max(np.mean((values - middles[cluster]) ** 2), 1e-6 * values.var())
    to_cluster = nn.Linear(1, len(middles))
    to_cluster.weight.data = torch.from_numpy(middles / variance)[:, None]
    to_cluster.bias.data = torch.from_numpy(np.log(shares) - middles**2 / (2 * variance))
    to_middle = nn.Linear(len(middles), 1)
    to_middle.weight.data = torch.from_numpy(middles)[None]
    to_middle.bias.data = torch.zeros(1, dtype=torch.float64)
    return nn.Sequential(to_cluster, nn.Softmax(dim=1), to_middle).float()
