"""Latents that are found one by one, side by side."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Columns(nn.Module):
    """forward: features (B, 512) -> means (B, C), a column of each of C modules (B, 512) ->
    (B, 1)."""

    def __init__(self, columns: Iterable[nn.Module]) -> None:
        super().__init__()
        self.columns = nn.ModuleList(columns)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([column(x) for column in self.columns], dim=1)
