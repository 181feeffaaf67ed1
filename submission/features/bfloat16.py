"""The extractor in bfloat16; where that is faster says runtime.device.bfloat16_is_faster."""

import copy

import torch
from torch import Tensor, nn

from submission.features.extractor import Extractor


class InBfloat16(nn.Module):
    """forward: float32 (N, 3 or 1, H, W) in [0, 1] -> float32 (N, 512), nearly as Extractor's.

    The first convolution and the aggregation stay in float32. They are 2 % of the arithmetic; in
    bfloat16 they would more than double the vectors' error (root mean square 2.4e-4 in place of
    1e-4), for the pixels' own eight bits do not fit and the last sums are not averaged any more.
    """

    def __init__(self, extractor: Extractor) -> None:
        super().__init__()
        self.float32 = extractor
        self.first = extractor.features[:1]
        self.others = copy.deepcopy(extractor.features[1:]).to(torch.bfloat16)

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(self.float32.normalised(images))
        vectors: Tensor = self.float32.aggregation(self.others(x.bfloat16()).float())
        return vectors
