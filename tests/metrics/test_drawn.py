"""The images that the metrics draw, against those that they ask for when they are computed."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from submission.metrics.compute import score
from submission.metrics.drawn import drawn_rows
from submission.metrics.grids import GridRepresentations
from submission.metrics.settings import load_settings

SIZES = (4, 3, 2, 2, 5, 6, 7, 8)  # 80,640 images


class Noting(GridRepresentations):
    """Notes the rows of the factors that are asked for."""

    asked: set[int]

    def sample_observations_from_factors(
        self, factors: NDArray[np.int64], random_state: np.random.RandomState
    ) -> NDArray[np.float32]:
        found = super().sample_observations_from_factors(factors, random_state)
        self.asked.update(found[:, 0].astype(int).tolist())
        return found


def noting(observed: Sequence[int] | None) -> Noting:
    """Codes of which the first is the row."""
    count = int(np.prod(SIZES))
    values = np.stack(np.unravel_index(np.arange(count), SIZES), axis=1)
    codes = np.concatenate([np.arange(count)[:, None], values], axis=1)
    data = Noting(codes, SIZES, observed)
    data.asked = set()
    return data


@pytest.mark.parametrize(
    ("metric", "observed"),
    [("factor_vae", None), ("sap", None), ("irs", None), ("mig", None), ("mig", (0, 2, 5))],
)
def test_the_drawn_rows_are_those_that_the_metric_asks_for(
    metric: str, observed: Sequence[int] | None
) -> None:
    load_settings(quick=True)
    data = noting(observed)
    score(data, metrics=(metric,))
    (rows,) = drawn_rows(SIZES, (metric,), observed).values()
    assert rows.tolist() == sorted(data.asked)
    assert len(rows) < len(data.representations), "there are others"


def test_dci_draws_what_sap_draws() -> None:
    """Its trees take long; it draws by the same function, counts and seed."""
    load_settings(quick=True)
    drawn = drawn_rows(SIZES, ("dci", "sap"))
    np.testing.assert_array_equal(drawn["dci"], drawn["sap"])
