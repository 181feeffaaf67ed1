"""Small grids of factors, and the metrics' settings changed for them."""

from collections.abc import Sequence
from typing import Any

import gin
import numpy as np
from numpy.typing import NDArray

SMALL = (3, 2, 2, 2, 2, 3, 3)
NO_DCI = ("factor_vae", "sap", "irs", "mig")


def bind(**counts: int) -> None:
    """Bind `configurable__parameter=value` over what is bound."""
    with gin.unlock_config():
        for key, value in counts.items():
            gin.bind_parameter(key.replace("__", "."), value)


def factors_of(sizes: Sequence[int]) -> NDArray[np.int64]:
    """Every factor vector in data-set order, by plain nested counting (last factor fastest)."""
    grids = np.meshgrid(*[np.arange(size) for size in sizes], indexing="ij")
    return np.stack([grid.reshape(-1) for grid in grids], axis=1)


def standardised(codes: NDArray[Any]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = (codes - codes.mean(axis=0)) / codes.std(axis=0)
    return result
