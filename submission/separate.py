"""refined.gin's way from features to latents: independent components, one beta-VAE per group.

x (N, 512) -> z (N, K), the independent components -> groups of dependent ones -> one latent each
-> drawn to the middle of its heap, if it has any -> left out if the others determine it

The features are close to a sum with one summand per factor, and over the whole grid the factors are
independent. Independent component analysis undoes such a sum without a label. But a factor with
several values takes several components (three of four colours have one each), so that no single
latent knows it: MIG, SAP and IRS ask for one. Components of one factor depend on each other, those
of two factors do not: dependent ones form a group, and a beta-VAE with a single latent (section
2.3's, on the group's components in place of the features) finds the curve that they move along. A
curve that jumps between values, in place of passing by neighbours, costs reconstruction; so each is
learnt from several starts, and the one of least loss is kept.

A latent whose values lie in a few heaps with gaps between them stands for a factor of a few values.
Where in its heap a value lies tells of noise and of other factors, so it is drawn to the middle.

Factors do not add up everywhere: what the arm hides depends on several at once, and such a group
has a latent that the other latents determine. It is left out, as it tells nothing new.
"""

import logging
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import gin
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from submission.errors import FailedTraining, UserError
from submission.stages import read_csv, write_csv
from submission.vae import INACTIVE_KL, encode_features, train_vae

log = logging.getLogger(__name__)

# scikit-learn and SciPy are imported where they are used: they take about 60 MiB of memory, and a
# run of any other configuration, which reads this module for its parameters, needs none of them.

# Of each component, in what two components tell of each other.
_BINS = 12
# FastICA's steps: more than it has needed so far (it says so in the log when they do not do).
_ICA_STEPS = 1000
# Of a latent's histogram: bins, their blur, and what is added to all (share of the highest).
_HEAP_BINS, _HEAP_BLUR, _HEAP_FLOOR = 200, 3.0, 0.01
# Between heaps the density falls to this share of the lower one's. Where it also has dents of less
# depth, down to the second share, the heaps overlap and are left alone.
_GAP, _DENT = 0.2, 0.7
# A latent is predicted from the others in half of so many images, by a forest fitted on the rest.
# The others get noise of this deviation: what shows only in finer differences is not counted.
_PREDICTED_ON, _BLUR = 10_000, 0.05
_TREES, _LEAF = 50, 5


class GroupMeans(nn.Module):
    """forward: features (B, 512) -> means (B, C), one column per group."""

    def __init__(self, groups: list[nn.Sequential]) -> None:
        super().__init__()
        self.groups = nn.ModuleList(groups)

    def forward(self, x: Tensor) -> Tensor:
        means: list[Tensor] = []
        for group in self.groups:
            means.append(group(x))
        return torch.cat(means, dim=1)


@gin.configurable(denylist=["features", "folder", "fingerprint", "seed", "on_progress"])
def train_groups(
    features: Tensor,
    folder: Path,
    fingerprint: str,
    seed: int,
    on_progress: Callable[[float], None] = lambda share: None,
    components: int = gin.REQUIRED,
    groups: int = gin.REQUIRED,
    sample: int = gin.REQUIRED,
    starts: int = gin.REQUIRED,
    heaps: int = gin.REQUIRED,
    redundant: float = gin.REQUIRED,
) -> GroupMeans:
    """Components, groups, and a VAE for each group; goes on from the folder's checkpoints.

    Writes into `folder`: groups.csv, what became of each group.

    Args:
        features: float32 (num_images, 512).
        folder: the run's folder; groups of two or more train in `group_<number>/start_<number>`
            below it.
        fingerprint: what the run is made of.
        seed: of the sample and of FastICA's start; the VAEs' follow from it (in place of
            train_vae.seed).
        on_progress: called with the share done, 0..1.
        components: K, which share the features' variance of highest rank.
        groups: how many; each has a latent.
        sample: components and groups are found on at most so many images.
        starts: of so many VAEs for each group the one of least loss is kept.
        heaps: a latent with 2 to so many heaps is drawn to their middles; 1 for never.
        redundant: a latent is left out if the others tell this share of its variance; 1 for never.

    Returns:
        The means, each of mean 0 and variance 1 over the images, in evaluation mode.

    Raises:
        FailedTraining: fewer than two latents carry anything.
        UserError: more groups than components, or fewer images or dimensions than components.
    """
    refuse_sizes(components, groups, sample, features.shape[1], len(features))
    rows = np.random.default_rng(seed).permutation(len(features))[:sample]
    rows.sort()  # a mapped file is read from front to back
    x = features[torch.from_numpy(rows).to(features.device)].cpu().numpy()
    unmix, offset = independent_components(x, components, seed)
    members = dependent_groups(dependence(x @ unmix.T + offset), groups)
    drawn = torch.from_numpy(np.random.default_rng(seed).permutation(len(features))[:_PREDICTED_ON])
    table: list[dict[str, Any]] = []  # a row for each group; of the active ones also:
    active: list[dict[str, Any]] = []
    means: list[nn.Sequential] = []
    codes: list[npt.NDArray[np.float32]] = []
    for number, group in enumerate(members):
        on_progress(number / len(members))
        table.append({
            "group": number, "components": len(group), "start": "", "heaps": 1,
            "told_by_others": "", "latent": "inactive",
        })  # fmt: skip
        first = nn.Linear(features.shape[1], len(group))
        first.weight.data = torch.from_numpy(unmix[group]).float()
        first.bias.data = torch.from_numpy(offset[group]).float()
        first = first.to(features.device)
        latent = nn.Sequential(first)
        z = encode_features(first, features)
        if len(group) > 1:
            log.info("group %d, of %d: %d components", number, len(members), len(group))
            curve, table[-1]["start"] = _best_start(
                z, folder / f"group_{number}", f"{fingerprint}-{number}", seed, starts
            )
            if float(encode_features(curve.eval(), z).var()) / 2 < INACTIVE_KL:
                log.info("group %d: its latent carries nothing", number)
                continue
            latent.extend(_standardised(curve, z))
            z = encode_features(curve, z)
        values = z.cpu().numpy()[:, 0].astype(np.float64)
        borders = gaps(values)
        table[-1]["heaps"] = len(borders) + 1
        if 1 <= len(borders) < heaps:
            log.info("group %d: drawn to %d heaps", number, len(borders) + 1)
            to_heap = _standardised(_to_heaps(values, borders).to(features.device), z)
            latent.extend(to_heap)
            z = encode_features(to_heap, z)
        active.append(table[-1])
        means.append(latent)
        codes.append(z[drawn.to(z.device), 0].cpu().numpy())
    on_progress(1.0)
    if len(means) < 2:
        raise FailedTraining(
            f"of {len(members)} latents {len(means)} {'carries' if means else 'carry'} "
            "anything, and the metrics compare two: lower beta_at_epoch.beta_end"
        )
    told, kept = told_by_others(np.stack(codes, axis=1), redundant)
    for place, row in enumerate(active):
        row["told_by_others"] = round(told[place], 3)
        row["latent"] = kept.index(place) if place in kept else "left out"
    write_csv(folder / "groups.csv", table)
    log.info("%d latents from %d groups", len(kept), len(members))
    return GroupMeans([means[place] for place in kept]).eval()


def refuse_sizes(
    components: int, groups: int, sample: int, dimensions: int, images: int | None = None
) -> None:
    """Refuses sizes that do not fit each other, or the features (`images` rows, if known).

    Raises:
        UserError: which is wrong, and what it may be.
    """
    if groups < 2:
        raise UserError(
            f"train_groups.groups is {groups}, it must be at least 2: each has a latent, and the "
            "metrics compare two"
        )
    if not groups <= components <= min(dimensions, sample - 1, (images or sample) - 1):
        fewer = f" and the number of images ({images})" if images else ""
        raise UserError(
            f"train_groups.components is {components}, it must be at least train_groups.groups "
            f"({groups}), at most the features' {dimensions} dimensions, and less than "
            f"train_groups.sample ({sample}){fewer}"
        )


def _best_start(
    z: Tensor, folder: Path, fingerprint: str, seed: int, starts: int
) -> tuple[nn.Sequential, int]:
    """Trains VAEs on a group's components and takes the one of least loss in its last epoch.

    Returns:
        Its means, and which start it was.
    """
    vaes, losses = [], []
    for start in range(starts):
        below = folder / f"start_{start}"
        below.mkdir(parents=True, exist_ok=True)
        vaes.append(train_vae(z, below, f"{fingerprint}-{start}", seed=seed * starts + start))
        losses.append(float(read_csv(below / "losses.csv")[-1]["loss"]))
    best = int(np.argmin(losses))
    log.info("losses: %s", ", ".join(f"{loss:.4f}" for loss in losses))
    return vaes[best].means(), best


def independent_components(
    x: npt.NDArray[np.float32], components: int, seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Principal components of unit variance, rotated to be independent (FastICA).

    Args:
        x: (n, D).

    Returns:
        U (K, D) and o (K,): the components are x U^T + o, of mean 0 and variance 1.

    Raises:
        UserError: x has fewer dimensions than that.
    """
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    centre = x.mean(axis=0, dtype=np.float64)
    centred = x - centre
    variances, axes = np.linalg.eigh(centred.T @ centred / len(x))
    variances, axes = variances[::-1][:components], axes[:, ::-1][:, :components]
    if variances[-1] <= 1e-10 * variances[0]:
        raise UserError(
            f"the features vary in fewer than {components} directions: lower "
            "train_groups.components, or name a larger data set"
        )
    whiten = (axes / np.sqrt(variances)).T
    ica = FastICA(whiten=False, max_iter=_ICA_STEPS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ica.fit(centred @ whiten.T)
    if ica.n_iter_ >= _ICA_STEPS:
        log.warning(
            "FastICA had not converged after %d steps: the components may not be the most "
            "independent ones; another train_vae.seed starts elsewhere", _ICA_STEPS,
        )  # fmt: skip
    unmix = ica.components_ @ whiten
    return unmix, -unmix @ centre


def dependence(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mutual information of each pair of columns over the log of the number of bins.

    Args:
        z: (n, K); each column is cut into bins of equal shares.

    Returns:
        (K, K), from 0, independent, to 1, the same; the diagonal is 1.
    """
    quantiles = np.linspace(0, 1, _BINS + 1)[1:-1]
    binned = [np.searchsorted(np.quantile(column, quantiles), column) for column in z.T]
    result = np.eye(len(binned))
    for i, first in enumerate(binned):
        for j, second in enumerate(binned[:i]):
            joint = np.bincount(first * _BINS + second, minlength=_BINS**2) / len(z)
            joint = joint.reshape(_BINS, _BINS)
            apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
            seen = joint > 0
            information = (joint[seen] * np.log(joint[seen] / apart[seen])).sum()
            result[i, j] = result[j, i] = information / np.log(_BINS)
    return result


def dependent_groups(dependence: npt.NDArray[np.float64], groups: int) -> list[list[int]]:
    """Joins the two groups that depend most, on average over their pairs, until so many are left.

    Returns:
        The members of each group, the groups in the order of their first members.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    tree = linkage(squareform(1 - dependence, checks=False), method="average")
    labels = fcluster(tree, groups, criterion="maxclust").tolist()
    return [[i for i, own in enumerate(labels) if own == label] for label in dict.fromkeys(labels)]


def gaps(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Where the heaps end that a latent's values lie in.

    Args:
        values: (n,).

    Returns:
        The borders between heaps, ascending; none if there is one heap, or if some overlap.
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    span = np.quantile(values, [0.001, 0.999])
    counts, edges = np.histogram(values, _HEAP_BINS, tuple(span))
    density = gaussian_filter1d(counts.astype(np.float64), _HEAP_BLUR, mode="constant")
    # A peak's prominence in the logarithm is its height over the gap beside it. An empty bin at
    # either end, since a peak has to have neighbours.
    height = np.log(np.pad(density, 1) + _HEAP_FLOOR * density.max())
    peaks, _ = find_peaks(height, prominence=-np.log(_GAP))
    if len(find_peaks(height, prominence=-np.log(_DENT))[0]) > len(peaks):
        return np.empty(0)
    middles = np.pad((edges[1:] + edges[:-1]) / 2, 1, mode="edge")
    borders = [middles[a + height[a:b].argmin()] for a, b in pairwise(peaks)]
    return np.array(borders)


def _to_heaps(values: npt.NDArray[np.float64], borders: npt.NDArray[np.float64]) -> nn.Sequential:
    """Layers (B, 1) -> (B, 1): the expected middle of the heap that a value is from.

    The heaps are taken for normal distributions of one variance s^2, with middles m_k and shares
    w_k. Then p(k | z) is the softmax of z m_k / s^2 - m_k^2 / (2 s^2) + log w_k, a linear layer.
    """
    heap = np.searchsorted(borders, values)
    shares = np.bincount(heap) / len(values)
    middles = np.bincount(heap, values) / np.bincount(heap)
    # At least a little, as for values that are the same in each heap.
    variance = max(np.mean((values - middles[heap]) ** 2), 1e-6 * values.var())
    to_heap = nn.Linear(1, len(middles))
    to_heap.weight.data = torch.from_numpy(middles / variance)[:, None]
    to_heap.bias.data = torch.from_numpy(np.log(shares) - middles**2 / (2 * variance))
    to_middle = nn.Linear(len(middles), 1)
    to_middle.weight.data = torch.from_numpy(middles)[None]
    to_middle.bias.data = torch.zeros(1, dtype=torch.float64)
    return nn.Sequential(to_heap, nn.Softmax(dim=1), to_middle).float()


def told_by_others(z: npt.NDArray[np.float32], redundant: float) -> tuple[list[float], list[int]]:
    """Leaves out the latent that the others tell most of, until they tell less than `redundant`.

    Args:
        z: (n, C), each of variance 1, the rows in no order.

    Returns:
        Of each latent, the share of its variance that the others tell (as left out, or at the end),
        and the latents that are left.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    blurred = z + _BLUR * np.random.default_rng(0).normal(size=z.shape)
    told, left = [0.0] * z.shape[1], list(range(z.shape[1]))
    while len(left) > 1:
        for own in left:
            others = [other for other in left if other != own]
            forest = ExtraTreesRegressor(_TREES, min_samples_leaf=_LEAF, random_state=0)
            forest.fit(blurred[::2, others], z[::2, own])
            asked = z[1::2, own]
            error = np.mean((forest.predict(blurred[1::2, others]) - asked) ** 2)
            # A constant counts as told.
            told[own] = float(1 - error / max(asked.var(), 1e-12))
        worst = max(left, key=told.__getitem__)
        if told[worst] < redundant or len(left) == 2:  # the metrics compare two
            break
        left.remove(worst)
    return told, left


def _standardised(means: nn.Sequential, z: Tensor) -> nn.Sequential:
    """The last layer rescaled so that its output has mean 0 and variance 1."""
    out = encode_features(means.eval(), z).double()
    last = means[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.copy_((last.bias - out.mean(dim=0)) / out.std(dim=0))
        last.weight.div_(out.std(dim=0))
    return means
