"""A whole grid of factors as disentanglement_lib's GroundTruthData: its codes, or its images."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from submission.metrics.library import ground_truth_data, util
from submission.runtime.errors import UserError

RepresentationFunction = Callable[[NDArray[Any]], NDArray[Any]]


def check_grid(factor_sizes: Sequence[int]) -> None:
    """Raises UserError if the metrics cannot score a grid of these sizes, whatever the codes."""
    if min(factor_sizes, default=0) < 2:
        what = f"The grid {list(factor_sizes)} has a factor with fewer than two values, which the"
        raise UserError(f"{what} metrics cannot score; use at least two steps on every axis.")


class Grid(ground_truth_data.GroundTruthData):
    """Every combination of the factors, the last one fastest. The metrics see the `observed`
    factors (None: all); the library draws the others for each image at random."""

    def __init__(
        self,
        factor_sizes: Sequence[int],
        num_rows: int,
        what: str,
        observed: Sequence[int] | None = None,
    ) -> None:
        self.factor_sizes = [int(size) for size in factor_sizes]
        seen = list(range(len(self.factor_sizes)) if observed is None else observed)
        self._sizes_seen = [self.factor_sizes[i] for i in seen]
        check_grid(self._sizes_seen)
        expected = math.prod(self.factor_sizes)
        if num_rows != expected:
            has = f"{num_rows:,} rows but the grid {self.factor_sizes} has {expected:,} images"
            raise UserError(f"{what} has {has}; compute it for this data set again.")
        self._space = util.SplitDiscreteStateSpace(self.factor_sizes, seen)

    @property
    def num_factors(self) -> int:
        return len(self._sizes_seen)

    @property
    def factors_num_values(self) -> list[int]:
        return self._sizes_seen

    def sample_factors(self, num: int, random_state: np.random.RandomState) -> NDArray[np.int64]:
        """`num` factor vectors, drawn uniformly by the library: (num, num_factors) int64."""
        factors: NDArray[np.int64] = self._space.sample_latent_factors(num, random_state)
        return factors

    def rows(
        self, factors: NDArray[np.int64], random_state: np.random.RandomState
    ) -> NDArray[np.int64]:
        """The row (N,) int64 in data-set order of each factor vector (N, num_factors) int64; draws
        only where a factor is not observed."""
        drawn = self._space.sample_all_factors(factors, random_state).astype(np.int64)
        return np.asarray(np.ravel_multi_index(tuple(drawn.T), tuple(self.factor_sizes)))


class GridRepresentations(Grid):
    """A GroundTruthData whose observations are the representations themselves.

    Args:
        representations: (num_images, C) floats in data-set order (C order over the factors, last
            factor fastest), C >= 2; kept as float32.
        factor_sizes: number of values of each factor, each at least 2.
        observed: the factors that the metrics see, ascending; None for all.

    Raises UserError for a wrong shape or number of rows, and values that are not finite.
    """

    def __init__(
        self,
        representations: NDArray[Any],
        factor_sizes: Sequence[int],
        observed: Sequence[int] | None = None,
    ) -> None:
        if representations.ndim != 2 or representations.shape[1] < 2:
            need = "the metrics need (num_images, C) with at least two latents C"
            what = f"The representation has shape {representations.shape}"
            raise UserError(f"{what}, but {need}; export at least two.")
        super().__init__(factor_sizes, representations.shape[0], "The representation", observed)
        with np.errstate(over="ignore"):  # what overflows is refused in the next line
            self.representations = np.ascontiguousarray(representations, dtype=np.float32)
        bad = np.flatnonzero(~np.isfinite(self.representations).all(axis=1))
        if bad.size:
            where = f"{bad.size:,} rows, the first of them row {bad[0]}"
            what = f"The representation holds NaN or infinite values in {where}"
            raise UserError(f"{what}; the encoder has diverged, so train it again.")

    @property
    def observation_shape(self) -> list[int]:
        return [self.representations.shape[1]]

    def sample_observations_from_factors(
        self, factors: NDArray[np.int64], random_state: np.random.RandomState
    ) -> NDArray[np.float32]:
        """The representations (N, C) float32 of the factor vectors (N, num_factors) int64."""
        return self.representations[self.rows(factors, random_state)]


class ImageRows(Protocol):
    """What `GridImages` needs of its images, such as a memory-mapped array."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]: ...


class GridImages(Grid):
    """A GroundTruthData over images: the stock route, through the representation function.

    `images` are (num_images, height, width, 3) uint8 in data-set order, each factor of at least 2
    values; single rows are read, in any order and with repetitions. Raises UserError for a wrong
    number of rows.
    """

    def __init__(
        self, images: ImageRows, factor_sizes: Sequence[int], observed: Sequence[int] | None = None
    ) -> None:
        super().__init__(factor_sizes, len(images), "The image array", observed)
        self.images = images

    @property
    def observation_shape(self) -> list[int]:
        return list(self.images[np.zeros(1, dtype=np.int64)].shape[1:])

    def sample_observations_from_factors(
        self, factors: NDArray[np.int64], random_state: np.random.RandomState
    ) -> NDArray[np.float64]:
        """Images (N, height, width, 3) float64 in [0, 1] of the factors (N, num_factors) int64.

        FactorVAE asks for `num_variance_estimate` images at once: 1 GB at the official 10,000.
        """
        rows = self.rows(factors, random_state)
        return np.asarray(self.images[rows] / 255.0, dtype=np.float64)


def identity(observations: NDArray[Any]) -> NDArray[Any]:
    """The representation function that goes with `GridRepresentations`."""
    return observations


def torchscript_function(module: Callable[[Any], Any]) -> RepresentationFunction:
    """The representation function that goes with `GridImages`: from images (N, height, width, 3) in
    [0, 1] to representations (N, C) float32, by an exported module that takes a float32 tensor
    (N, 3, height, width) in [0, 1] on the CPU, as the server calls it."""
    # Imported here for the memory of the DCI workers, which import this module and need no torch.
    import torch

    from submission.latents.codes import call_model

    def represent(images: NDArray[Any]) -> NDArray[Any]:
        channels_first = np.ascontiguousarray(np.moveaxis(images, 3, 1), dtype=np.float32)
        return call_model(module, torch.from_numpy(channels_first))

    return represent


def ideal_code(
    factor_sizes: Sequence[int], observed: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """One ordinal latent per observed factor, for what the metrics give for perfect
    disentanglement: (num_images, num_factors) float32 in data-set order; each latent rises evenly
    with its factor and has mean 0 and variance 1 over the grid (SAP, IRS depend on the scale)."""
    values = np.stack(np.unravel_index(np.arange(math.prod(factor_sizes)), tuple(factor_sizes)), 1)
    values = values if observed is None else values[:, list(observed)]
    return np.asarray((values - values.mean(axis=0)) / values.std(axis=0), dtype=np.float32)
