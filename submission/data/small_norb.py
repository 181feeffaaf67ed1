"""smallNORB's files, plain binary matrices, read as disentanglement_lib 1.5 reads them."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from submission.data.conversion import Source
from submission.data.kit_readers import BATCH, GRIDS, SIDE, kit_source, reading, remedy
from submission.runtime.errors import UserError

# What a file begins with, and the kind of its numbers.
_KINDS: dict[int, np.dtype[Any]] = {0x1E3D4C55: np.dtype("u1"), 0x1E3D4C54: np.dtype("<i4")}
_VIEW = (96, 96)
_PAIR_BYTES = 2 * math.prod(_VIEW)


def smallnorb(chunks: Sequence[tuple[Path, Path, Path]]) -> Source:
    """smallNORB from its chunks, each in three files: pairs of images, uint8 (n, 2, 96, 96), of
    which the library takes the first; their categories, int32 (n,); and their instance, elevation,
    azimuth (even numbers) and lighting, int32 (n, 4). The metrics see all factors but the instance,
    which the library draws at random. Images are read when they are asked for.

    The library resizes whole numbers without limits, so some of its pixels lie just outside of
    0..255; here they are 0 or 255. Raises UserError for other matrices, and if the chunks are not
    each combination of the factors once.
    """
    sizes = tuple(GRIDS["smallnorb"].values())
    count = math.prod(sizes) // len(chunks)
    cells = np.concatenate([_cells(*chunk, count, sizes) for chunk in chunks])
    order = np.argsort(cells)
    if not np.array_equal(cells[order], np.arange(math.prod(sizes))):
        what = "the smallNORB files do not hold each combination of the factors once"
        raise UserError(f"{chunks[0][0].parent}: {what}: {remedy('smallnorb')}")

    def batches() -> Iterator[NDArray[np.uint8]]:
        with ExitStack() as stack:
            files = [stack.enter_context(open(pairs, "rb")) for pairs, *_ in chunks]
            for begin in range(0, len(order), BATCH):
                rows = order[begin : begin + BATCH].tolist()
                images = np.empty((len(rows), SIDE, SIDE, 1), np.uint8)
                for image, (chunk, row) in zip(
                    images, (divmod(row, count) for row in rows), strict=True
                ):
                    with reading(chunks[chunk][0], "smallnorb"):
                        image[..., 0] = _resized(files[chunk], row)
                yield images

    return kit_source("smallnorb", 1, batches, observed=(0, 2, 3, 4))


def _cells(
    pairs: Path, categories: Path, infos: Path, count: int, sizes: tuple[int, ...]
) -> NDArray[np.int64]:
    """The place in C order of each of a chunk's images; -1 for factors that the grid has not."""
    with reading(pairs, "smallnorb"):
        _must_be(pairs, np.dtype("u1"), (count, 2, *_VIEW))
    columns = []
    for file, shape in ((categories, (count,)), (infos, (count, 4))):
        with reading(file, "smallnorb"):
            begin = _must_be(file, np.dtype("<i4"), shape)
            columns.append(np.fromfile(file, "<i4", offset=begin).reshape(count, -1))
    factors = np.concatenate(columns, axis=1).astype(np.int64)
    inside = factors[:, 3] % 2 == 0
    factors[:, 3] //= 2
    inside &= ((factors >= 0) & (factors < sizes)).all(axis=1)
    factors[~inside] = 0
    return np.where(inside, np.ravel_multi_index(tuple(factors.T), sizes), -1)


def _must_be(file: Path, kind: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """The byte at which a matrix of this kind and shape begins; UserError for another, ValueError
    for no matrix."""
    found, sizes, begin = _header(file)
    if (found, sizes) != (kind, shape):
        what = f"{file} holds {found} {sizes}, it must be {kind} {shape}"
        raise UserError(f"{what}: {remedy('smallnorb')}")
    if os.path.getsize(file) != begin + math.prod(shape) * kind.itemsize:
        raise ValueError("another length")
    return begin


def _header(file: Path) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """A matrix's kind, its shape, and the byte at which it begins. The file begins with the number
    of the kind, the number of dimensions, and at least three of these, each an int32."""
    with open(file, "rb") as opened:
        words: list[int] = np.frombuffer(opened.read(24), "<i4").tolist()
    kind, ndim, a, b, c, d = words
    return _KINDS[kind], (a, b, c, d)[:ndim], 8 + 4 * max(3, ndim)


def _resized(file: BinaryIO, row: int) -> NDArray[np.uint8]:
    """The first image of a pair, resized as the library does it: as 32-bit whole numbers, by
    Lanczos' filter."""
    file.seek(8 + 4 * 4 + row * _PAIR_BYTES)  # after the header of four dimensions
    pixels = np.frombuffer(file.read(_PAIR_BYTES // 2), np.uint8).reshape(_VIEW)
    image = Image.fromarray(pixels).convert("I").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image).clip(0, 255).astype(np.uint8)
