"""Section 2.1's network for finetuning, and its loss."""

from collections.abc import Sequence

import gin
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from submission.features.extractor import FEATURE_SIZE, Extractor
from submission.render.rig import COLOURS, COMPLEX_COLOURS, COMPLEX_SOLIDS, SOLIDS
from submission.render.scene import factor_sizes
from submission.runtime.config import configurable
from submission.runtime.kinds import Rate, Share, Switch

FACTOR_SIZES = factor_sizes("real")  # (6, 6, 2, 3, 3, 40, 40), one head each
COMPLEX_SIZES = factor_sizes("complex")
# Heads of a network that has seen complex objects, too: all colours and solids of the four looks.
# The first six of either are the simple objects'.
WIDE_SIZES = (len(COLOURS), len(SOLIDS), *FACTOR_SIZES[2:])
AXES = (5, 6)  # tilt, pan


def readable(complex_objects: bool, wide: bool) -> range:
    """Columns of the factors that heads know: narrow ones not the complex objects' colours and
    shapes."""
    return range(2 if complex_objects and not wide else 0, len(FACTOR_SIZES))


def named_values(complex_objects: bool, wide: bool) -> list[tuple[int, ...]]:
    """For each factor what the heads call its values, in the order of the data set's own."""
    values = [tuple(range(size)) for size in (COMPLEX_SIZES if complex_objects else FACTOR_SIZES)]
    if complex_objects and wide:
        values[:2] = [COMPLEX_COLOURS, COMPLEX_SOLIDS]
    return values


@configurable
class Network(nn.Module):
    """Extractor and heads.

    Args:
        dropout: probability that a channel is dropped before each aggregation convolution.
        head_scale: the heads are applied to this multiple of the unit vector. 1 is the paper's;
            with more the softmax can be sharp while the heads' weights are still small.
        bfloat16: multiply in bfloat16 (autocast) where that is faster (device.bfloat16_is_faster).
        values: of each factor, FACTOR_SIZES or WIDE_SIZES.

    forward: float (N, 3, 64, 64) in [0, 1] -> seven logits, float32 (N, values of the factor).
    """

    def __init__(
        self,
        extractor: Extractor,
        dropout: Share = gin.REQUIRED,
        head_scale: Rate = gin.REQUIRED,
        bfloat16: Switch = gin.REQUIRED,
        values: tuple[int, ...] = FACTOR_SIZES,
    ) -> None:
        super().__init__()
        self.extractor, self.autocast, self.head_scale = extractor, bfloat16, head_scale
        self.heads = nn.ModuleList(nn.Linear(FEATURE_SIZE, size) for size in values)
        for layer in self.modules():
            if isinstance(layer, nn.Dropout2d):
                layer.p = dropout
        for head in self.heads:
            assert isinstance(head, nn.Linear)
            nn.init.kaiming_uniform_(head.weight, nonlinearity="relu")
            nn.init.zeros_(head.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast):
            vectors = self.extractor(images)
        # The heads cost nothing, and bfloat16's three digits would blur their scaled input.
        vectors = self.head_scale * vectors.to(next(self.heads.parameters()).dtype)
        return [head(vectors).float() for head in self.heads]


def finetuning_loss(logits: Sequence[Tensor], factors: Tensor, axis_smoothing: float) -> Tensor:
    """Sum over the seven factors of the cross entropy, each the mean over the batch.

    `logits`: seven float32 (N, values); `factors`: int64 (N, 7), -1 where an image shows none of
    the values: there the factor is left out, and its mean is over the other images. The axes'
    targets are normal distributions about the true value, cut off at the ends of the axis, whose
    standard deviation is `axis_smoothing` steps; 0 for the value alone.
    """
    total = torch.zeros((), device=factors.device)
    for i, values in enumerate(logits):
        target = factors[:, i]
        if i in AXES and axis_smoothing > 0:
            steps = torch.arange(values.shape[1], device=values.device) - target[:, None]
            target = torch.softmax(-0.5 * (steps / axis_smoothing) ** 2, dim=1)
        labelled = (factors[:, i] >= 0).sum().clamp(min=1)
        total = total + F.cross_entropy(values, target, ignore_index=-1, reduction="sum") / labelled
    return total
