"""readout.gin's way from features to latents: what the extractor's own heads answer.

x (N, 512) -> each head's probabilities -> sharpened -> expected value -> drawn to the middle of its
cluster, if it has any

Supervised in simulation: the heads learnt the factors by the labels of rendered images, together
with the extractor. No label of the data is used, and nothing is trained on them.

A head may know values that do not occur in the data, as a colour that no object there has. It is
asked how often it says each value: MPI3D's files are whole grids, in which each value that occurs
does so equally often, so one that is said much less often than that does not.

The images that the heads learnt from are harder than a data set's, whose appearance is one. So the
heads doubt more than they need: their probabilities are raised to a power, except those of the
axes, where neighbouring values share them and their mean is finer than the values.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gin
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from submission.latents.clusters import gaps, to_clusters
from submission.latents.columns import Columns
from submission.latents.training import encode_features
from submission.runtime.config import configurable
from submission.runtime.device import fast_cpu
from submission.runtime.errors import UserError
from submission.runtime.files import write_csv
from submission.runtime.kinds import Rate, Share
from submission.runtime.progress import progress_bar

log = logging.getLogger(__name__)
_ROWS = 4096  # at once


@dataclass(frozen=True)
class Head:
    """What one factor is read with: `weight` (values, 512) and `bias` (values,), float32, whose
    logits are of the factor's values; `ordered` if these are equal steps along an axis."""

    factor: str
    weight: Tensor
    bias: Tensor
    ordered: bool


@configurable
def read_out(
    features: Tensor,
    heads: Sequence[Head],
    folder: Path,
    on_progress: Callable[[float], None] = lambda share: None,
    absent: Share = gin.REQUIRED,
    sharpness: Rate = gin.REQUIRED,
) -> Columns:
    """A latent for each head: (B, 512) -> (B, C), in steps between values, 0 in their middle.

    Args:
        features: float32 (num_images, 512).
        folder: gets readout.csv, what became of each head.
        on_progress: called with the share done, 0..1.
        absent: a value is left out that the head says less often than this share of an even one;
            none of an axis.
        sharpness: the power that probabilities are raised to, those of an axis excepted.

    Returns the latents in evaluation mode; a head with a single value that occurs has none. Raises
    UserError if fewer than two have one.
    """
    shares = _mean_probabilities(features, heads)
    on_progress(0.5)
    rows: list[dict[str, Any]] = []
    columns: list[nn.Sequential] = []
    for head, share in zip(heads, shares, strict=True):
        occurring = share >= (0 if head.ordered else absent / len(share))
        names = "all" if occurring.all() else " ".join(map(str, np.flatnonzero(occurring)))
        row = {"factor": head.factor, "values": len(share), "occurring": names}
        rows.append(row | {"clusters": "", "latent": "left out"})
        if occurring.sum() > 1:
            rows[-1]["latent"] = len(columns)
            column = _expected_value(head, occurring, 1 if head.ordered else sharpness)
            columns.append(column.to(features.device))
    if len(columns) < 2:
        raise UserError(
            f"of {len(heads)} heads {len(columns)} read more than one value in these images, and "
            "the metrics compare two latents: name the weights that saw such images, or refined.gin"
        )
    codes = encode_features(Columns(columns), features).cpu().numpy().astype(np.float64)
    for row in rows:
        if isinstance(place := row["latent"], int):
            borders = gaps(codes[:, place])
            row["clusters"] = len(borders) + 1
            if len(borders) > 0:
                drawn = to_clusters(codes[:, place], borders)
                columns[place].extend(drawn.to(features.device))
    write_csv(folder / "readout.csv", rows)
    for row in rows:
        log.info("%s", ", ".join(f"{name} {value}" for name, value in row.items()))
    on_progress(1.0)
    return Columns(columns).eval()


@torch.no_grad()
def _mean_probabilities(features: Tensor, heads: Sequence[Head]) -> list[npt.NDArray[np.float64]]:
    """How often each head says each of its values, (values,), over all images."""
    said = [torch.zeros(len(head.bias), dtype=torch.float64) for head in heads]
    layers = [_layer(head.weight, head.bias).to(features.device) for head in heads]
    bar = progress_bar(total=len(features), desc="heads", unit=" images", delay=2)
    with bar, fast_cpu(features.device):
        for rows in features.split(_ROWS):
            for total, layer in zip(said, layers, strict=True):
                total += torch.softmax(layer(rows), dim=1).sum(dim=0).cpu()
            bar.update(len(rows))
    return [(total / len(features)).numpy() for total in said]


def _expected_value(
    head: Head, occurring: npt.NDArray[np.bool_], sharpness: float
) -> nn.Sequential:
    """Layers (B, 512) -> (B, 1): the expected number of the value among those that occur, less that
    of the middle."""
    kept = torch.from_numpy(occurring)
    numbers = torch.arange(int(occurring.sum()), dtype=torch.float32)
    expected = _layer(numbers[None], -numbers.mean()[None])
    logits = _layer(sharpness * head.weight[kept], sharpness * head.bias[kept])
    return nn.Sequential(logits, nn.Softmax(dim=1), expected)


def _layer(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.clone(), bias.clone()
    return layer
