"""What is shown of a model: its latents, what scoring says of them, and images along each."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from submission.data.dataset import Dataset
from submission.latents.vae import carries_anything
from submission.report.analysis import traverse
from submission.report.runs import Run
from submission.runtime.errors import UserError


@dataclass(frozen=True)
class Strip:
    """Images (Q, height, width, 3) along a latent, what changes in them, and how far from the codes
    that were looked for the farthest is, in standard deviations."""

    latent: int
    images: NDArray[np.uint8]
    changing: list[str]
    far: float


@dataclass
class View:
    """A run's model on a data set: `codes` (num_images, C) in data-set order; `importance` and
    `information` (C, F) of its F observed factors as scoring kept them, or None; `active` (C,); the
    strips, one for each active latent, and the image they begin from, once `add_strips` has been
    called."""

    name: str
    run: Run
    codes: NDArray[np.float32]
    strips: list[Strip] = field(default_factory=list)
    anchor: int = 0
    anchor_image: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))

    def __post_init__(self) -> None:
        self.active = carries_anything(self.codes)
        self.importance = self._kept("importance")
        self.information = self._kept("information")

    def _kept(self, name: str) -> NDArray[np.float64] | None:
        rows = self.run.scores["scores"].get(name)
        if rows is not None and len(rows) != self.codes.shape[1]:
            what = (
                f"{self.run.folder / 'scores.json'} has {len(rows)} rows of {name}, and its model"
            )
            raise UserError(f"{what} {self.codes.shape[1]} latents: score the run again")
        return None if rows is None else np.array(rows, dtype=np.float64)


def add_strips(views: Sequence[View], dataset: Dataset) -> None:
    """Finds the images along each active latent; the data file is read once for all views."""
    # The same image in every report on a data set, so that reports can be laid side by side.
    anchor = _middle(dataset)
    found = [traverse(view.codes, view.active, anchor) for view in views]
    wanted = np.unique(np.concatenate([[anchor], *(rows.ravel() for rows, _ in found)]))
    shown = dataset.images_at(wanted)
    images = dict(zip(wanted.tolist(), np.broadcast_to(shown, (*shown.shape[:3], 3)), strict=True))
    for view, (rows, far) in zip(views, found, strict=True):
        view.anchor, view.anchor_image = anchor, images[anchor]
        for latent, row, distance in zip(np.flatnonzero(view.active), rows, far, strict=True):
            values = map(len, map(np.unique, dataset.factors(row).T))
            counts = zip(dataset.factor_names, values, strict=True)
            changing = [f"{name} ({count} values)" for name, count in counts if count > 1]
            along = np.stack([images[i] for i in row.tolist()])
            view.strips.append(Strip(int(latent), along, changing, float(distance.max())))


def _middle(dataset: Dataset) -> int:
    """The image whose factors are nearest to the middle of their values."""
    middle = [size // 2 for size in dataset.factor_sizes]
    if dataset.labels is None:
        return int(np.ravel_multi_index(middle, dataset.factor_sizes))
    away = np.abs(dataset.labels - middle) / dataset.factor_sizes
    return int(away.sum(axis=1).argmin())
