"""A sample of images that is no whole grid, as disentanglement_lib's GroundTruthData: its codes."""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from submission.metrics.library import ground_truth_data


class SampleRepresentations(ground_truth_data.GroundTruthData):
    """A GroundTruthData over N rows of codes and factors whose combinations need not all be there.

    A metric asks in one of two ways, and is answered from the rows alone:

    - `sample` (DCI, SAP, MIG, IRS): rows without replacement, in an order that the metric's own
      generator draws, so that what is tested on was not trained on. After N rows it begins again.
    - `sample_factors`, whose answer the metric changes before it asks for the observations
      (FactorVAE, the beta-VAE score): rows with replacement. A row in which the metric has set a
      factor to another value becomes a random row with that value of that factor. On a whole grid
      the other factors would be kept; there and here they are random.

    Args:
        codes: (N, C) float32.
        factors: (N, F) int64, each factor's values numbered from 0 without a gap.
    """

    def __init__(self, codes: NDArray[np.float32], factors: NDArray[np.int64]) -> None:
        self.codes, self.factors = codes, factors
        self._sizes = [int(size) for size in factors.max(axis=0) + 1]
        # Of each factor the rows, sorted by its values, and where in these each value begins.
        self._sorted = [np.argsort(column, kind="stable") for column in factors.T]
        self._counts = [np.bincount(column) for column in factors.T]
        self._begins = [np.cumsum(counts) - counts for counts in self._counts]
        self._generator: object = None
        self._order, self._place = np.zeros(0, np.int64), 0
        # What `sample_factors` has answered last; the beta-VAE score asks twice before it changes.
        self._handed: deque[tuple[NDArray[np.int64], NDArray[np.int64]]] = deque(maxlen=2)

    @property
    def num_factors(self) -> int:
        return len(self._sizes)

    @property
    def factors_num_values(self) -> list[int]:
        return self._sizes

    @property
    def observation_shape(self) -> list[int]:
        return [self.codes.shape[1]]

    def rarest(self) -> tuple[int, int]:
        """The factor that has the rarest value, and the number of its rows."""
        fewest = [int(counts.min()) for counts in self._counts]
        return int(np.argmin(fewest)), min(fewest)

    def not_learned(self, num_train: int) -> int | None:
        """A factor that has one value only among the rows that a metric with the generator
        RandomState(0) trains on, if there is one."""
        rows = np.random.RandomState(0).permutation(len(self.codes))[:num_train]
        constant = np.flatnonzero(np.ptp(self.factors[rows], axis=0) == 0)
        return int(constant[0]) if constant.size else None

    def sample(
        self, num: int, random_state: np.random.RandomState
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Factors (num, F) and codes (num, C) of the next rows. A generator that has not been here
        before begins another order."""
        if random_state is not self._generator:
            self._generator, self._place = random_state, 0
            self._order = random_state.permutation(len(self.codes))
        rows = np.take(self._order, np.arange(self._place, self._place + num), mode="wrap")
        self._place += num
        return self.factors[rows], self.codes[rows]

    def sample_factors(self, num: int, random_state: np.random.RandomState) -> NDArray[np.int64]:
        """The factors (num, F) int64 of random rows; they may be changed."""
        rows = random_state.randint(len(self.codes), size=num)
        factors = self.factors[rows]
        self._handed.append((factors, rows))
        return factors

    def sample_observations_from_factors(
        self, factors: NDArray[np.int64], random_state: np.random.RandomState
    ) -> NDArray[np.float32]:
        """The codes (N, C) of what `sample_factors` has answered, changed or not in one factor."""
        rows = next(rows for handed, rows in self._handed if handed is factors)
        changed = factors != self.factors[rows]
        for factor in np.flatnonzero(changed.any(axis=0)):
            where = changed[:, factor]
            values = factors[where, factor]
            steps = random_state.random_sample(len(values)) * self._counts[factor][values]
            rows = rows.copy()
            rows[where] = self._sorted[factor][self._begins[factor][values] + steps.astype(int)]
        return self.codes[rows]


def lowered(num_rows: int, settings: dict[str, Any]) -> dict[str, int]:
    """Of the settings ("dci.num_train": 10000) those that ask for more rows than there are, with
    the counts that there are. What a metric trains on and what it tests on are different rows: two
    thirds and one third of all where both together are too many."""
    changed: dict[str, int] = {}
    for key, asked in settings.items():
        metric, _, name = key.partition(".")
        test = settings.get(f"{metric}.num_test")
        if name == "num_train" and test is not None and asked + test > num_rows:
            train = min(asked, num_rows * 2 // 3)
            changed |= {key: train, f"{metric}.num_test": min(test, num_rows - train)}
        elif (key in _ROWS or name == "num_variance_estimate") and asked > num_rows:
            changed[key] = num_rows
    return {key: value for key, value in changed.items() if value != settings[key]}


# Others' `num_train` counts batches.
_ROWS = ("irs.num_train", "mig.num_train", "infomec.num_train")
