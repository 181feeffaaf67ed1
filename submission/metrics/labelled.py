"""Codes with the factors that made their images: two arrays, checked before hours of scoring."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from submission.metrics.grids import GridRepresentations, ideal_code
from submission.metrics.samples import SampleRepresentations
from submission.runtime.errors import UserError


@dataclass(frozen=True)
class LabelledCodes:
    """Attributes:
    codes: (N, C) float32; on a grid in C order over the factors.
    factor_sizes: the number of values of each factor.
    names: one for each factor.
    factors: (N, F) int64, each factor's values numbered from 0 in ascending order; None on a
        whole grid, where the row says them.
    discrete: the codes were whole numbers.
    """

    codes: NDArray[np.float32]
    factor_sizes: tuple[int, ...]
    names: tuple[str, ...]
    factors: NDArray[np.int64] | None
    discrete: bool

    def data(self) -> GridRepresentations | SampleRepresentations:
        """What disentanglement_lib draws from."""
        if self.factors is None:
            return GridRepresentations(self.codes, self.factor_sizes)
        return SampleRepresentations(self.codes, self.factors)

    def ideal(self) -> "LabelledCodes":
        """One ordinal latent for each factor in the place of the codes: mean 0, variance 1."""
        if self.factors is None:
            codes = ideal_code(self.factor_sizes)
        else:
            values = self.factors.astype(np.float64)
            codes = ((values - values.mean(0)) / values.std(0)).astype(np.float32)
        return LabelledCodes(codes, self.factor_sizes, self.names, self.factors, False)


def labelled(
    codes: ArrayLike,
    factors: ArrayLike | None = None,
    factor_sizes: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
) -> LabelledCodes:
    """Codes (N, C) of any real numbers in any memory order, C >= 2, with either `factors` (N, F),
    whole numbers, or `factor_sizes` of a whole grid whose images are in C order; at least two
    factors of at least two values each. Factors of which every combination is there exactly once
    are a whole grid too: the rows are put into C order. Raises UserError for everything else."""
    matrix, discrete = _codes(codes)
    if (factors is None) == (factor_sizes is None):
        have = "neither 'factors' nor 'factor_sizes'" if factors is None else "both"
        what = "the codes need 'factors' (N, F) or the 'factor_sizes' of a whole grid"
        raise UserError(f"{what}, and there {'is' if factors is None else 'are'} {have}: give one")
    if factor_sizes is not None:
        sizes = _sizes(factor_sizes, len(matrix))
        return LabelledCodes(matrix, sizes, _names(names, len(sizes)), None, discrete)
    table, known = numbered_factors(factors, len(matrix), names)
    sizes = tuple(int(size) for size in table.max(axis=0) + 1)
    if math.prod(sizes) == len(matrix):
        places = np.ravel_multi_index(tuple(table.T), sizes)
        if len(np.unique(places)) == len(matrix):
            order = np.argsort(places)
            return LabelledCodes(matrix[order], sizes, known, None, discrete)
    return LabelledCodes(matrix, sizes, known, table, discrete)


def _codes(given: ArrayLike) -> tuple[NDArray[np.float32], bool]:
    array = _array(given, "the codes")
    if array.ndim != 2 or array.shape[1] < 2 or len(array) < 2:
        must = "they must be (N, C): a row for each image and at least two latents C"
        raise UserError(f"the codes have the shape {array.shape}, but {must}")
    if array.dtype.kind not in "iuf":
        must = "they must be real numbers, one for each image and latent"
        raise UserError(f"the codes are {_kind(array)}, but {must}")
    with np.errstate(over="ignore"):  # what overflows is refused in the next line
        matrix = np.ascontiguousarray(array, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if bad.size:
        what = f"the codes hold NaN, or numbers beyond float32, in {bad.size:,} of {len(matrix):,}"
        raise UserError(f"{what} rows, the first of them row {bad[0]} (from 0): leave these out")
    if (constant := np.ptp(matrix, axis=0) == 0).any():
        # IRS divides by the rounding error of the mean of a constant that is not zero. For every
        # other metric a constant is as good as another.
        matrix = np.where(constant, np.float32(0), matrix)
    return matrix, array.dtype.kind in "iu"


def _array(given: ArrayLike, what: str) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:  # rows of many lengths; a GPU's tensor
        how = "give a numpy array, or a tensor as tensor.detach().cpu().numpy()"
        raise UserError(f"{what} cannot be made an array: {how}") from error


def _kind(array: NDArray[Any]) -> str:
    return {"U": "text", "S": "text", "O": "Python objects", "b": "true and false"}.get(
        array.dtype.kind, str(array.dtype)
    )


def _sizes(given: Sequence[int], rows: int) -> tuple[int, ...]:
    array = _array(given, "'factor_sizes'")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        must = "it must be whole numbers in a row, as (6, 6, 2)"
        raise UserError(f"'factor_sizes' is {str(array.tolist())[:80]}, but {must}")
    sizes = tuple(int(size) for size in array)
    if len(sizes) < 2:
        raise UserError(one_factor(len(sizes)))
    if min(sizes) < 2:
        what = f"'factor_sizes' is {str(list(sizes))[:80]} with a factor of fewer than two values"
        raise UserError(f"{what}, which no metric can score: leave that factor out")
    if math.prod(sizes) != rows:
        grid = f"a grid of {str(list(sizes))[:80]} has {math.prod(sizes):,} images"
        how = "give 'factors' (N, F) for codes of a part of a grid"
        raise UserError(f"there are {rows:,} rows of codes, but {grid}: {how}")
    return sizes


def one_factor(count: int) -> str:
    what = "there is one factor" if count == 1 else "there is no factor"
    return f"{what}, but the metrics compare factors with each other: give at least two"


def numbered_factors(
    given: Any, rows: int, names: Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The factors' values (N, F) numbered from 0 in ascending order, and their names. Raises
    UserError for what no metric can score, whatever the codes."""
    array = _array(given, "the factors")
    if array.ndim != 2:
        must = "they must be (N, F): a row for each image, a column for each factor"
        raise UserError(f"the factors have the shape {array.shape}, but {must}")
    if len(array) != rows:
        what = f"there are {rows:,} rows of codes, but {len(array):,} rows of factors"
        raise UserError(f"{what}: both must be of the same images, in the same order")
    if array.shape[1] < 2:
        raise UserError(one_factor(array.shape[1]))
    known = _names(names, array.shape[1])
    if array.dtype.kind not in "iuf":
        raise UserError(f"the factors are {_kind(array)}: number each factor's values from 0")
    columns = [_numbered(array[:, i], name) for i, name in enumerate(known)]
    return np.stack(columns, axis=1), known


def _numbered(column: NDArray[Any], name: str) -> NDArray[np.int64]:
    """A factor's values (N,) as 0, 1, ... in ascending order."""
    if column.dtype.kind == "f":
        bad = np.flatnonzero(column != np.floor(column))  # a NaN is not equal to itself
        if bad.size or not np.isfinite(column).all():
            row = bad[0] if bad.size else np.flatnonzero(~np.isfinite(column))[0]
            what = f"the factor {name!r} is {column[row]} in row {row} (from 0)"
            must = "it must be whole numbers: number its values, or sort them into a few steps"
            raise UserError(f"{what}, but {must}")
    values, numbered = np.unique(column, return_inverse=True)
    if len(values) < 2:
        what = f"the factor {name!r} has the same value in all rows"
        raise UserError(f"{what}, which no metric can score: leave that factor out")
    if 2 * len(values) > len(column):
        what = f"the factor {name!r} has {len(values):,} values in {len(column):,} rows"
        how = "a running number or a name is no factor: leave it out, or sort it into a few steps"
        raise UserError(f"{what}, fewer than two rows for each: {how}")
    return np.asarray(numbered, dtype=np.int64).reshape(-1)


def _names(given: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if given is None:
        return tuple(f"factor_{i}" for i in range(count))
    names = tuple(str(name) for name in given)
    if len(names) != count or len(set(names)) < count:
        must = f"there must be {count} different ones, one for each factor"
        raise UserError(f"'factor_names' are {', '.join(map(repr, names))[:120]}, but {must}")
    return names
