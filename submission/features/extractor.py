"""Section 2.1: the frozen feature extractor, VGG19-BN and an aggregation module: images
(N, 3 or 1, H, W) -> 64x64 -> backbone (N, 512, 2, 2) -> aggregation (N, 512) -> unit length."""

import gin
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import vgg

from submission.runtime.config import configurable
from submission.runtime.errors import UserError
from submission.runtime.kinds import Count, Text

FEATURE_SIZE = 512
# ImageNet statistics per channel, for images in [0, 1] (section 2.1).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def l2_normalize(x: Tensor) -> Tensor:
    """(N, D) -> (N, D), each row divided by its L2 norm; an all-zero row stays zero."""
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    # Not ones_like, which would bake the device into the exported file when it is traced.
    return x / norm.masked_fill(norm == 0, 1.0)


class Aggregation(nn.Module):
    """The learned aggregation of section 2.1: (N, 512, 2, 2) -> (N, 512), unit length.

    Three blocks of [dropout, convolution, batch norm, ReLU]: 1024, 2048, 512 channels, kernel
    sizes 1, 2, 1. Whole channels are dropped, as in the authors' release.
    """

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before = 512
        for channels, kernel in ((1024, 1), (2048, 2), (FEATURE_SIZE, 1)):
            conv = nn.Conv2d(before, channels, kernel, bias=False)
            nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
            blocks += [nn.Dropout2d(dropout), conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            before = channels
        self.aggregator = nn.Sequential(*blocks)

    def forward(self, maps: Tensor) -> Tensor:
        return l2_normalize(self.aggregator(maps.contiguous()).flatten(1))  # see channels_last


class RMAC(nn.Module):
    """Stage 1 (arXiv 2002.10003): regional maximum activations, (N, 512, H, W) -> (N, 512).

    Regions 1-3-5-G: maxima over windows of 1 (stride 1), 3 and 5 (stride 2) positions and over
    the whole map; each maximum vector is L2-normalised, all are added, the sum is normalised.
    """

    def forward(self, maps: Tensor) -> Tensor:
        total = l2_normalize(F.adaptive_max_pool2d(maps, (1, 1))).flatten(1)
        for size, stride in ((1, 1), (3, 2), (5, 2)):
            total = total + l2_normalize(F.max_pool2d(maps, size, stride)).sum(dim=(2, 3))
        return l2_normalize(total)


@configurable
class Extractor(nn.Module):
    """forward: float (N, 3 or 1, H, W) in [0, 1] -> float (N, 512), each row of unit length.

    Args:
        aggregation: "learned" (stage 2) or "rmac" (stage 1; has no weights of its own).
        resolution: images of another size are resized to so many pixels a side: bilinear, and with
            a filter as wide as the pixels that it makes where it makes larger ones (antialiasing).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, aggregation: Text = gin.REQUIRED, resolution: Count = gin.REQUIRED) -> None:
        super().__init__()
        if aggregation not in ("learned", "rmac"):
            what = f"Extractor.aggregation is {aggregation!r}"
            raise UserError(f"{what}, it must be 'learned' or 'rmac'")
        # Five pools halve the image; the learned aggregation takes a 2x2 map and nothing else, the
        # largest region of RMAC is five positions wide.
        learned, side = aggregation == "learned", resolution // 32
        if (learned and side != 2) or (not learned and side < 5):
            needed = "64 to 95" if learned else "at least 160"
            what = f"Extractor.resolution is {resolution}, it must be {needed}"
            raise UserError(f"{what} for the aggregation {aggregation!r}")
        self.resolution = resolution
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        # The convolutional part alone: vgg19_bn() would first make half a gigabyte of classifier.
        self.features = vgg.make_layers(vgg.cfgs["E"], batch_norm=True)
        self.aggregation: nn.Module = Aggregation() if learned else RMAC()

    def forward(self, images: Tensor) -> Tensor:
        return self.aggregation(self.features(self.normalised(images)))

    def normalised(self, images: Tensor) -> Tensor:
        """The images at the network's resolution, in three channels, each by ImageNet's
        statistics."""
        height, width = int(images.shape[2]), int(images.shape[3])
        if height != self.resolution or width != self.resolution:
            size = [self.resolution, self.resolution]
            smaller = max(height, width) > self.resolution
            images = F.interpolate(
                images, size=size, mode="bilinear", align_corners=False, antialias=smaller
            )
        # A grey image's only channel becomes three here.
        return (images - self.mean) / self.std


def channels_last(extractor: Extractor) -> Extractor:
    """Puts the backbone's weights, in place, into the memory format that a CPU is fastest in. The
    aggregation's stay: from a 2x2 map to one position, oneDNN takes four times as long in it."""
    extractor.features.to(memory_format=torch.channels_last)
    return extractor
