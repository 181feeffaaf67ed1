"""refined.gin's way from features to latents: independent components, one beta-VAE per group.

x (N, 512) -> z (N, K), the independent components -> groups of dependent ones -> one latent each
-> drawn to the middle of its cluster, if it has any -> left out if the others explain it

The features are close to a sum with one summand per factor, and over the whole grid the factors are
independent. Independent component analysis undoes such a sum without a label. But a factor with
several values takes several components (three of four colours have one each), so that no single
latent knows it: MIG, SAP and IRS ask for one. Components of one factor depend on each other, those
of two factors do not: dependent ones form a group, and a beta-VAE with a single latent (section
2.3's, on the group's components in place of the features) finds the curve that they move along. A
curve that jumps between values, in place of passing by neighbours, costs reconstruction; so each is
learnt from several starts, and the one of least loss is kept.

A latent whose values lie in a few clusters with gaps between them stands for a factor of a few
values. Where in its cluster a value lies depends on noise and on other factors, so it is drawn to
the middle.

Factors do not add up everywhere: what the arm hides depends on several at once, and such a group
has a latent that the other latents explain. It is left out, as it adds nothing.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gin
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from submission.latents.choice import AUTO, largest, separate
from submission.latents.clusters import gaps, to_clusters
from submission.latents.columns import Columns
from submission.latents.redundancy import EXPLAINED_ON, explained_by_others
from submission.latents.training import encode_features, train_vae
from submission.latents.vae import carries_anything
from submission.runtime.config import configurable
from submission.runtime.errors import FailedTraining, UserError
from submission.runtime.files import read_csv, write_csv
from submission.runtime.kinds import Count, CountOrAuto, Share
from submission.runtime.progress import progress_bar

log = logging.getLogger(__name__)


@configurable
def train_groups(
    features: Tensor,
    folder: Path,
    fingerprint: str,
    seed: int,
    on_progress: Callable[[float], None] = lambda share: None,
    components: CountOrAuto = gin.REQUIRED,
    groups: CountOrAuto = gin.REQUIRED,
    sample: Count = gin.REQUIRED,
    starts: Count = gin.REQUIRED,
    clusters: Count = gin.REQUIRED,
    redundant: Share = gin.REQUIRED,
) -> Columns:
    """Components, groups, and a VAE for each group; goes on from the folder's checkpoints.

    Args:
        features: float32 (num_images, 512).
        folder: gets groups.csv, what became of each group, and choice.json if "auto" chose; groups
            of two or more train in `group_<number>/start_<number>` below it.
        seed: of the sample and of FastICA; the VAEs' follow from it, in place of train_vae.seed.
        on_progress: called with the share done, 0..1.
        components: K, which share the features' variance of highest rank, or "auto" (choice.py).
        groups: how many; each has a latent. "auto" as above.
        sample: components and groups are found on at most so many images.
        starts: of so many VAEs for each group the one of least loss is kept.
        clusters: a latent with 2 to so many clusters is drawn to their middles; 1 for never.
        redundant: a latent is left out if the others explain this share of its variance.

    Returns the means, each of mean 0 and variance 1 over the images, in evaluation mode. Raises
    FailedTraining if fewer than two latents carry anything, UserError for sizes that do not fit.
    """
    refuse_sizes(components, groups, sample, features.shape[1], len(features))
    rows = np.random.default_rng(seed).permutation(len(features))
    drawn = torch.from_numpy(rows[:EXPLAINED_ON]).to(features.device)
    rows = np.sort(rows[:sample])  # a mapped file is read from front to back
    x = features[torch.from_numpy(rows).to(features.device)].cpu().numpy()
    unmix, offset, members = separate(x, components, groups, seed, folder, fingerprint)
    found: list[_Group] = []
    # One bar for all VAEs: each takes moments on a thin data set, and tells nothing of the whole.
    epochs = sum(len(group) > 1 for group in members) * starts
    epochs *= gin.query_parameter("train_vae.epochs")
    codes: list[npt.NDArray[np.float32]] = []  # of those that carry something, on the images drawn
    with progress_bar(total=epochs, desc="VAEs", unit=" epochs") as bar, logging_redirect_tqdm():
        for number, group in enumerate(members):
            on_progress(number / len(members))
            first = nn.Linear(features.shape[1], len(group))
            first.weight.data = torch.from_numpy(unmix[group]).float()
            first.bias.data = torch.from_numpy(offset[group]).float()
            found.append(_Group(number, len(group), nn.Sequential(first.to(features.device))))
            z = encode_features(first, features)
            if len(group) > 1:
                below = folder / f"group_{number}"
                z = _add_curve(found[-1], z, below, f"{fingerprint}-{number}", seed, starts, bar)
            if found[-1].active:
                codes.append(_draw_to_clusters(found[-1], z, clusters)[drawn, 0].cpu().numpy())
    on_progress(1.0)
    active = [group for group in found if group.active]
    if len(active) < 2:
        raise FailedTraining(
            f"of {len(members)} latents {len(active)} {'carries' if active else 'carry'} "
            "anything, and the metrics compare two: lower beta_at_epoch.beta_end"
        )
    explained, kept = explained_by_others(np.stack(codes, axis=1), redundant)
    for place, one in enumerate(active):
        one.explained_by_others = round(explained[place], 3)
        one.latent = kept.index(place) if place in kept else "left out"
    write_csv(folder / "groups.csv", [one.row() for one in found])
    log.info("%d latents from %d groups", len(kept), len(members))
    return Columns(active[place].means for place in kept).eval()


@dataclass
class _Group:
    """A line of groups.csv, and `means`: features (B, 512) -> the group's latent (B, 1)."""

    group: int
    components: int
    means: nn.Sequential
    start: int | str = ""
    clusters: int = 1
    explained_by_others: float | str = ""
    latent: int | str = "inactive"
    active: bool = True

    def row(self) -> dict[str, Any]:
        return {
            name: value for name, value in vars(self).items() if name not in ("means", "active")
        }


def _add_curve(
    group: _Group,
    z: Tensor,
    folder: Path,
    fingerprint: str,
    seed: int,
    starts: int,
    bar: "tqdm[Any]",
) -> Tensor:
    """Components z (N, K) -> one latent (N, 1), by the best of several VAEs."""
    log.info("group %d: %d components", group.group, group.components)
    curve, group.start = _best_start(z, folder, fingerprint, seed, starts, bar)
    values = encode_features(curve.eval(), z)
    group.active = bool(carries_anything(values.cpu().numpy())[0])
    if not group.active:
        log.info("group %d: its latent carries nothing", group.group)
        return values
    group.means.extend(_standardised(curve, z))
    return encode_features(curve, z)


def _draw_to_clusters(group: _Group, z: Tensor, clusters: int) -> Tensor:
    """A latent (N, 1), drawn to the middles of its clusters if it has 2 to so many."""
    values = z.cpu().numpy()[:, 0].astype(np.float64)
    borders = gaps(values)
    group.clusters = len(borders) + 1
    if not 1 < group.clusters <= clusters:
        return z
    log.info("group %d: drawn to %d clusters", group.group, group.clusters)
    to_middles = _standardised(to_clusters(values, borders).to(z.device), z)
    group.means.extend(to_middles)
    return encode_features(to_middles, z)


def chooses() -> bool:
    """Whether the configuration in force has "auto" for the components or the groups."""
    return AUTO in (
        gin.query_parameter("train_groups.components"),
        gin.query_parameter("train_groups.groups"),
    )


def refuse_sizes(
    components: int | str,
    groups: int | str,
    sample: int,
    dimensions: int,
    images: int | None = None,
) -> None:
    """Raises UserError for sizes that do not fit each other, or the features (`images` rows, if
    known); "auto" chooses what fits."""
    if isinstance(components, str):
        most, _ = largest(components, groups)
        if not isinstance(groups, str) and not 2 <= groups < most:
            raise UserError(
                f"train_groups.groups is {groups}, it must be in 2..{most - 1} where "
                f"train_groups.components is 'auto', which takes {most} at most"
            )
        return
    if isinstance(groups, str):
        if components < 3:
            raise UserError(
                f"train_groups.components is {components}, it must be at least 3 where "
                "train_groups.groups is 'auto'"
            )
        groups = 2
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
    z: Tensor, folder: Path, fingerprint: str, seed: int, starts: int, bar: "tqdm[Any]"
) -> tuple[nn.Sequential, int]:
    """Trains VAEs on a group's components and takes the one of least loss in its last epoch: its
    means, and which start it was."""
    vaes, losses = [], []
    for start in range(starts):
        below = folder / f"start_{start}"
        below.mkdir(parents=True, exist_ok=True)
        own = f"{fingerprint}-{start}", seed * starts + start
        begin, epochs = bar.n, gin.query_parameter("train_vae.epochs")

        def on_epoch(share: float, begin: int = begin, epochs: int = epochs) -> None:
            bar.update(begin + round(share * epochs) - bar.n)

        settings: dict[str, Any] = {"on_progress": on_epoch, "progress": False}
        vaes.append(train_vae(z, below, own[0], seed=own[1], **settings))
        on_epoch(1.0)  # also of one that an earlier call has trained
        losses.append(float(read_csv(below / "losses.csv")[-1]["loss"]))
    best = int(np.argmin(losses))
    log.info("losses: %s", ", ".join(f"{loss:.4f}" for loss in losses))
    return vaes[best].means(), best


def _standardised(means: nn.Sequential, z: Tensor) -> nn.Sequential:
    """The last layer rescaled so that its output has mean 0 and variance 1."""
    out = encode_features(means.eval(), z).double()
    last = means[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.copy_((last.bias - out.mean(dim=0)) / out.std(dim=0))
        last.weight.div_(out.std(dim=0))
    return means
