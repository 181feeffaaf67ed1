"""Which images the metrics draw: known before any code is computed, since no draw depends on codes.

Of the full grid's 1,036,800 images, at the official counts, FactorVAE draws 629,568. DCI and SAP
draw the same 14,893, for they draw in the same way by the same seed; IRS and MIG the first 9,949 of
them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from submission.metrics.grids import Grid, identity
from submission.metrics.library import factor_vae, utils
from submission.metrics.settings import bound_settings


class _Drawing(Grid):
    """A GroundTruthData that notes which rows are asked for. Its codes say nothing, but vary, so
    that FactorVAE goes on to its end."""

    def __init__(
        self, factor_sizes: Sequence[int], num_rows: int, observed: Sequence[int] | None
    ) -> None:
        super().__init__(factor_sizes, num_rows, "The data set", observed)
        self.drawn = np.zeros(num_rows, dtype=bool)

    @property
    def observation_shape(self) -> list[int]:
        return [2]

    def sample_observations_from_factors(
        self, factors: NDArray[np.int64], random_state: np.random.RandomState
    ) -> NDArray[np.float64]:
        rows = self.rows(factors, random_state)
        self.drawn[rows] = True
        return np.stack([rows % 7, rows % 11], axis=1).astype(np.float64)


def drawn_rows(
    factor_sizes: Sequence[int], metrics: Sequence[str], observed: Sequence[int] | None = None
) -> dict[str, NDArray[np.int64]]:
    """Of each metric the rows of a whole grid, ascending, whose codes `score` will ask for under
    the settings bound in gin (`load_settings`)."""
    settings = bound_settings()
    return {metric: _drawn(factor_sizes, metric, observed, settings) for metric in metrics}


def _drawn(
    factor_sizes: Sequence[int],
    metric: str,
    observed: Sequence[int] | None,
    settings: dict[str, Any],
) -> NDArray[np.int64]:
    data = _Drawing(factor_sizes, int(np.prod(factor_sizes)), observed)
    random_state = np.random.RandomState(0)
    if metric == "factor_vae":
        factor_vae.compute_factor_vae(data, identity, random_state)
    else:
        own = {"sap": "sap_score"}.get(metric, metric)
        for count in ("num_train", "num_test"):
            if number := settings.get(f"{own}.{count}"):
                batch = settings[f"{own}.batch_size"]
                utils.generate_batch_factor_code(data, identity, number, random_state, batch)
    return np.flatnonzero(data.drawn)
