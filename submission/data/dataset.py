"""A data set as a file that is read from disk; and the official MPI3D files: found by name,
checked, and read in order without loading them.

A file is `<folder>/<name>/<name>.npz` with one array `images`, uint8 (num_images, 64, 64, 3), in C
order over the seven factors (last factor fastest). Unpacked it takes 12.7 GB, more memory than the
machine that reads it has, so nothing in this project ever holds the whole array.
"""

import hashlib
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from submission.data.archive import Headers, broken, read_headers, read_images, stored_images
from submission.data.factors import FACTOR_NAMES, IMAGE_SHAPE, SIZES_BY_COUNT
from submission.runtime.errors import UserError
from submission.runtime.progress import progress_bar

# Each data set under the names it downloads as, too.
FILE_NAMES: dict[str, tuple[str, ...]] = {
    "mpi3d_toy": ("mpi3d_toy",),
    "mpi3d_realistic": ("mpi3d_realistic",),
    "mpi3d_real": ("mpi3d_real", "real"),
    "mpi3d_real_complex": ("mpi3d_real_complex", "real3d_complicated_shapes_ordered"),
}

# md5 of the 2019 files. Later uploads may differ (mpi3d_real.npz was corrupt on its host until
# April 2025), so another sum earns a warning, not a refusal.
KNOWN_MD5: dict[str, str] = {
    "mpi3d_toy": "55889cb7c7dfc655d6e0277beee88868",
    "mpi3d_realistic": "59a6225b88b635365f70c91b3e52f70f",
    "mpi3d_real": "0f33f609918fb5c97996692f91129802",
}


_READ_BYTES = 1 << 24


@dataclass(frozen=True)
class Dataset:
    """An opened data file; its images are read from disk when asked for.

    Attributes:
        name: one of FILE_NAMES, or what a user's own set is called.
        factor_sizes: values per factor; for a whole grid their product is num_images. Empty if
            nothing is known of factors.
        stand_in: None for a file that does not say it was rendered, else what it says of itself.
        offset: byte at which the images begin in the file; None if they are compressed and can
            only be streamed.
        shape: of an image: (height, width, 1 or 3).
        factor_names: one for each factor.
        labels: int32 (num_images, F), each factor's values numbered from 0, of a set that is no
            whole grid in C order; None for a grid.
        observed: the grid's factors that the metrics see; None for all. The others are drawn at
            random for each image, as disentanglement_lib does with smallNORB's instances.
        official: has MPI3D's form and one of its names, so that the paper's scores stand beside.
    """

    name: str
    path: Path
    num_images: int
    factor_sizes: tuple[int, ...]
    stand_in: str | None
    offset: int | None
    shape: tuple[int, int, int] = IMAGE_SHAPE
    factor_names: tuple[str, ...] = FACTOR_NAMES
    labels: npt.NDArray[np.int32] | None = field(default=None, compare=False)
    observed: tuple[int, ...] | None = None
    official: bool = True

    @property
    def description(self) -> str:
        """One line for logs and tables; a rendered file is called a stand-in."""
        sizes = " x ".join(map(str, self.factor_sizes)) or "factors unknown"
        sizes += "" if self.labels is None else ", given for each image"
        kind = f"STAND-IN for {self.name}, not MPI3D" if self.stand_in else self.name
        return f"{kind}: {self.num_images:,} images ({sizes})"

    @property
    def observed_names(self) -> tuple[str, ...]:
        """Of the factors that the metrics see."""
        seen = range(len(self.factor_names)) if self.observed is None else self.observed
        return tuple(self.factor_names[i] for i in seen)

    @property
    def part(self) -> str:
        """See Subset.part: these are all images."""
        return ""

    @property
    def image_bytes(self) -> int:
        return math.prod(self.shape)

    @property
    def mapped_bytes(self) -> int:
        """Address space of its images while they are mapped; 0 if they can only be streamed."""
        return self.num_images * self.image_bytes if self.offset is not None else 0

    def array(self) -> np.memmap[Any, np.dtype[np.uint8]]:
        """The images as a read-only memory map, uint8 (num_images, *shape). Raises UserError if the
        member is compressed, so that no part of it can be addressed."""
        if self.offset is None:
            how = "rewrite it with numpy.savez (not savez_compressed) to address single images"
            raise UserError(f"{self.path} is compressed and can only be read in order; {how}")
        return np.memmap(self.path, np.uint8, "r", self.offset, (self.num_images, *self.shape))

    def batches(self, batch_size: int, start: int = 0) -> Iterator[np.ndarray]:
        """Yields uint8 (<= batch_size, *shape) in data-set order from image `start` on.

        Holds one batch in memory. A compressed member is decompressed from its beginning (that
        is how deflate works), so a late `start` costs time, not memory. Raises UserError if the
        file ends early or its checksum is wrong.
        """
        if self.offset is not None:
            begin, left = self.offset + start * self.image_bytes, self.num_images - start
            yield from read_images(self.path, self.shape, begin, left, batch_size)
            return
        for images in read_images(self.path, self.shape, None, self.num_images, batch_size):
            if start < len(images):
                yield images[start:]
            start = max(start - len(images), 0)

    def images_at(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """The images (n, *shape) of ascending rows; a compressed file is read up to the last."""
        if self.offset is not None:
            return np.array(self.array()[rows])
        found, begin = [], 0
        for images in self.batches(max(1, _READ_BYTES // self.image_bytes)):
            if begin > rows[-1]:
                break
            found.append(images[rows[(rows >= begin) & (rows < begin + len(images))] - begin])
            begin += len(images)
        return np.concatenate(found)

    def factors(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The factors' values (n, F) of the images in these rows, counted from 0."""
        if self.labels is not None:
            return self.labels[rows].astype(np.int64)
        return np.stack(np.unravel_index(rows, self.factor_sizes), axis=1).astype(np.int64)

    def first(self, count: int) -> np.ndarray:
        """The first `count` images, uint8 (count, *shape)."""
        return next(self.batches(count))


def find_file(folder: Path, name: str) -> tuple[str, Path | None]:
    """The data set's challenge name, and its file under one of its names or None. `folder` is what
    DISENTANGLEMENT_LIB_DATA names, with the file in it or in a folder of a name of its own below
    it; `name` is one of FILE_NAMES or a name it downloads as; raises UserError for another."""
    known = next((k for k, names in FILE_NAMES.items() if name in names), None)
    if known is None:
        others = "or cars3d, dsprites_full, shapes3d, smallnorb, which are not MPI3D"
        raise UserError(
            f"unknown data set {name!r}: the names are {', '.join(FILE_NAMES)}; {others}"
        )
    stems = FILE_NAMES[known]
    candidates = [folder / below / f"{stem}.npz" for below in (*stems, "") for stem in stems]
    return known, next((path for path in candidates if path.is_file()), None)


def open_dataset(folder: Path, name: str) -> Dataset:
    """Finds `<folder>/<name>/<name>.npz` and checks its form. Raises UserError for an unknown name,
    no such file, or one that is not of the official form."""
    known, path = find_file(folder, name)
    if path is None:
        files = [*folder.glob("*.npz"), *folder.glob("*/*.npz")]
        there = ", ".join(repr(str(file.relative_to(folder))) for file in sorted(files)[:4])
        what = f"no file {folder / known / known}.npz, but {there or 'no npz file'} in that folder"
        how = "point DISENTANGLEMENT_LIB_DATA (--data) at the folder that holds it"
        raise UserError(f"{what}; place the data set there or {how}")
    return open_file(path, known)


def open_file(path: Path, name: str) -> Dataset:
    """Reads an npz file's directory and headers, or an npy file's, not the images; checks them.

    Raises UserError if it is no archive of the official form: read_headers, 64x64 pixels in three
    channels, and a number of images that its own `factor_sizes` or the official sizes explain.
    """
    headers = read_headers(path)
    if headers.shape != IMAGE_SHAPE:
        has, must = (headers.count, *headers.shape), "(num_images, 64, 64, 3)"
        how = "give a set of your own as --data FILE, without --dataset"
        raise UserError(f"{path}: 'images' has shape {has}, for {name} it must be {must}: {how}")
    sizes = _factor_sizes(headers, path)
    return Dataset(name, path, headers.count, sizes, stand_in_note(headers), headers.offset)


def stand_in_note(headers: Headers) -> str | None:
    """What a rendered file says of itself."""
    note = headers.arrays.get("stand_in")
    return None if note is None else str(note)


def verify(dataset: Dataset, progress: bool = True) -> str:
    """Reads the file once from end to end and returns its md5 (the features' cache key).

    The same pass compares a stored array's CRC-32 (a compressed one's is compared while it is
    decompressed, an npy file has none) and raises UserError, so that a damaged download is refused
    before hours of work rest on it.
    """
    md5 = hashlib.md5(usedforsecurity=False)
    position = crc = 0
    first, last, expected = stored_images(dataset.path) or (0, 0, 0)
    total, what = dataset.path.stat().st_size, "checking the file"
    bar = progress_bar(
        total=total, unit="B", unit_scale=True, desc=what, disable=not progress, delay=2
    )
    with open(dataset.path, "rb") as file, bar:
        while chunk := file.read(1 << 22):
            md5.update(chunk)
            inside = memoryview(chunk)[max(first - position, 0) : max(last - position, 0)]
            crc = zlib.crc32(inside, crc)
            position += len(chunk)
            bar.update(len(chunk))
    if crc != expected:
        raise UserError(broken(dataset.path))
    return md5.hexdigest()


def md5_warning(dataset: Dataset, md5: str) -> str | None:
    """A sentence if this is an official file whose md5 is not the one known from 2019."""
    known = KNOWN_MD5.get(dataset.name)
    if dataset.official and dataset.stand_in is None and known is not None and md5 != known:
        return f"md5 of {dataset.path} is {md5}, the 2019 file's was {known}; going on"
    return None


def _factor_sizes(headers: Headers, path: Path) -> tuple[int, ...]:
    own, count = headers.arrays.get("factor_sizes"), headers.count
    if own is not None:
        valid = own.shape == (len(FACTOR_NAMES),) and own.dtype.kind in "iu"
        if not valid or np.any(own < 1) or math.prod(own.tolist()) != count:
            found = repr(own.tolist()) if own.size <= 10 else f"of shape {own.shape}"
            must = f"seven whole numbers whose product is the number of images, {count:,}"
            raise UserError(f"{path}: 'factor_sizes' is {found[:200]}, it must be {must}")
        return tuple(own.tolist())
    if count not in SIZES_BY_COUNT:
        known = " or ".join(f"{n:,}" for n in SIZES_BY_COUNT)
        how = "add an array 'factor_sizes' to the file, or download it again"
        raise UserError(f"{path} holds {count:,} images; official files hold {known}: {how}")
    return SIZES_BY_COUNT[count]
