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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gin
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from submission.latents.clusters import gaps, to_heaps
from submission.latents.components import dependence, dependent_groups, independent_components
from submission.latents.training import encode_features, train_vae
from submission.latents.vae import INACTIVE_KL
from submission.runtime.errors import FailedTraining, UserError
from submission.runtime.files import read_csv, write_csv

log = logging.getLogger(__name__)


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
            to_heap = _standardised(to_heaps(values, borders).to(features.device), z)
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
