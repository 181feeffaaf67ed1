"""A user's own set, of any size and any factors: an npz or npy file, or a folder of images; and
which set a command line means."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from submission.data.archive import MOST_FACTORS, Headers, read_headers
from submission.data.dataset import FILE_NAMES, Dataset, open_dataset, open_file, stand_in_note
from submission.data.factors import FACTOR_NAMES, IMAGE_SHAPE, SIZES_BY_COUNT
from submission.data.folder import converted_folder, image_files
from submission.data.kit import KIT_NAMES, open_kit
from submission.runtime import paths
from submission.runtime.errors import UserError


def open_any(data: Path | None, name: str | None = None) -> Dataset:
    """The data set that --data and --dataset mean.

    Args:
        data: a file, or a folder with PNG or JPEG files in it: a set of one's own. Any other
            folder holds sets by name; None for DISENTANGLEMENT_LIB_DATA.
        name: of one of these, MPI3D's or the kit's; None for AICROWD_DATASET_NAME.

    Raises UserError for no such set, one of a wrong form, and a name beside a set of one's own.
    """
    if data is None or not _is_own(data, name):
        folder, name = data or paths.data_folder(), name or paths.dataset_name()
        return open_own(open_kit(folder, name)) if name in KIT_NAMES else open_dataset(folder, name)
    if name is not None:
        what = f"--data {data} is a set of its own, and --dataset {name} one of a folder's"
        raise UserError(f"{what}: leave one of them out")
    return open_own(data)


def _is_own(data: Path, name: str | None) -> bool:
    if data.is_dir():
        return name is None and bool(image_files(data))
    return data.exists() or (name is None and data.suffix in (".npz", ".npy"))


def open_own(path: Path) -> Dataset:
    """Reads what an npz or npy file says of its images, or of a folder's, which are first written
    into the cache in that form; not the images.

    An npz file holds `images` (read_headers) and, if anything is known of factors, either
    `factor_sizes` (F,), values per factor of a whole grid whose images are in C order, or `factors`
    (num_images, F), whole numbers; and `factor_names`. A file of MPI3D by one of its names is that.
    Raises UserError if these do not fit the images.
    """
    if path.is_dir():
        path = converted_folder(path)
    known = next((k for k, names in FILE_NAMES.items() if path.stem in names), None)
    headers = read_headers(path)
    if known and _is_mpi3d(headers):
        return open_file(path, known)
    return _own(path, headers)


def _is_mpi3d(headers: Headers) -> bool:
    """Whether a file by one of MPI3D's names has its form, too."""
    if headers.shape != IMAGE_SHAPE or "factors" in headers.arrays:
        return False
    sizes = headers.arrays.get("factor_sizes")
    return headers.count in SIZES_BY_COUNT if sizes is None else sizes.shape == (len(FACTOR_NAMES),)


def _own(path: Path, headers: Headers) -> Dataset:
    arrays = headers.arrays
    name = str(arrays["name"]) if "name" in arrays else path.stem
    _check_text((name,), "name", path)
    if "factor_sizes" in arrays and "factors" in arrays:
        what = f"{path} holds 'factor_sizes' and 'factors'"
        raise UserError(f"{what}: keep the first for a whole grid, the other for any other set")
    sizes: tuple[int, ...] = ()
    labels = None
    if "factor_sizes" in arrays:
        sizes = _sizes(arrays["factor_sizes"], headers.count, path)
    elif "factors" in arrays:
        sizes, labels = _labels(arrays["factors"], headers.count, path)
    stand_in = stand_in_note(headers)
    rendered = stand_in and len(sizes) == len(FACTOR_NAMES)
    titles = arrays.get("factor_names", np.array(FACTOR_NAMES) if rendered else None)
    names = _names(titles, len(sizes), path)
    observed = _observed(arrays.get("observed"), len(sizes), path)
    if observed is not None and labels is not None:
        what = f"{path} holds 'observed' and 'factors'"
        raise UserError(f"{what}: leave the factors out that are not to be seen, and the former")
    form = (headers.count, sizes, stand_in, headers.offset, headers.shape)
    return Dataset(name, path, *form, names, labels, observed, official=False)


def _sizes(own: npt.NDArray[Any], count: int, path: Path) -> tuple[int, ...]:
    whole = own.ndim == 1 and own.dtype.kind in "iu" and 0 < own.size <= MOST_FACTORS
    if not whole or np.any(own < 1) or math.prod(own.tolist()) != count:
        found = repr(own.tolist()) if own.size <= 10 else f"of shape {own.shape}"
        must = f"whole numbers whose product is the number of images, {count:,}"
        what = f"{path}: 'factor_sizes' is {found[:200]}, it must be {must}"
        raise UserError(f"{what}; give 'factors' in its place for a set that is no whole grid")
    return tuple(own.tolist())


def _labels(
    given: npt.NDArray[Any], count: int, path: Path
) -> tuple[tuple[int, ...], npt.NDArray[np.int32] | None]:
    """Sizes and numbered values; without the latter if the images are a whole grid in C order."""
    whole = given.ndim == 2 and given.dtype.kind in "iu"
    if not whole or not 0 < given.shape[1] <= MOST_FACTORS:
        must = f"whole numbers (num_images, F), a column for each factor, {MOST_FACTORS} at most"
        raise UserError(f"{path}: 'factors' is {given.dtype} {given.shape}, it must be {must}")
    if len(given) != count:
        what = f"{path} holds {count:,} images and {len(given):,} rows of 'factors'"
        raise UserError(f"{what}: give one row for each image")
    columns = [np.unique(column, return_inverse=True)[1] for column in given.T]
    labels = np.stack(columns, axis=1).astype(np.int32)
    sizes = tuple(int(size) for size in labels.max(axis=0) + 1)
    if math.prod(sizes) == count:
        places = np.ravel_multi_index(tuple(labels.T), sizes)
        if np.array_equal(places, np.arange(count)):
            return sizes, None
    return sizes, labels


def _names(given: npt.NDArray[Any] | None, count: int, path: Path) -> tuple[str, ...]:
    if given is None:
        return tuple(f"factor_{i}" for i in range(count))
    names = tuple(str(name) for name in given.reshape(-1).tolist())
    _check_text(names, "factor_names", path)
    if len(names) != count or len(set(names)) < count:
        what = f"{path}: 'factor_names' are {', '.join(map(repr, names))[:120]}"
        raise UserError(f"{what}, it must be {count} different ones, one for each factor")
    return names


def _check_text(names: Sequence[str], key: str, path: Path) -> None:
    """What is printed in tables and logs; a name may hold anything, a terminal's commands too."""
    if odd := next((name for name in names if len(name) > 64 or not name.isprintable()), None):
        how = "give at most 64 printable characters"
        raise UserError(f"{path}: {key!r} is {odd[:64]!r}: {how}")


def _observed(given: npt.NDArray[Any] | None, count: int, path: Path) -> tuple[int, ...] | None:
    if given is None:
        return None
    found = tuple(int(i) for i in given.reshape(-1).tolist()) if given.dtype.kind in "iu" else ()
    if not found or sorted({*found}) != [*found] or not 0 <= found[0] <= found[-1] < count:
        must = f"ascending numbers of factors, from 0 to {count - 1}"
        raise UserError(f"{path}: 'observed' is {str(given.tolist())[:80]}, it must be {must}")
    return found
