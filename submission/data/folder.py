"""A folder of PNG or JPEG files as a set, with what a `factors.csv` in it says of each."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from submission.data.archive import SIDES
from submission.data.code_files import read_named_table
from submission.data.conversion import Source, converted
from submission.runtime.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg")
FACTORS = "factors.csv"
_BATCH = 64
_GREY = ("1", "L")


def image_files(folder: Path) -> list[Path]:
    """The images right in the folder, sorted by name; hidden files are none."""
    files = [f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES]
    return sorted(f for f in files if not f.name.startswith("."))


def converted_folder(folder: Path) -> Path:
    """The npz file in the cache with the folder's images, in the order of their names: three
    channels, or one if all are grey. The rows of `factors.csv`, whole numbers under the factors'
    names, are in the same order, or a column `file` names the image of each.

    Raises UserError for no images, one that cannot be read or has another size than the first, is
    transparent, or has more than 8 bits a channel, and for factors that do not fit the images.
    """
    files, table = image_files(folder), folder / FACTORS
    if not files:
        what = f"there is no PNG or JPEG file in {folder}"
        raise UserError(f"{what}: name the folder that they lie in, without folders between")
    given = [*files, *([table] if table.is_file() else [])]
    return converted(folder.resolve().name, given, "folder, 1", lambda: _source(files, table))


def _source(files: Sequence[Path], table: Path) -> Source:
    names, factors = _factors(table, files) if table.is_file() else (None, None)
    headers = [_header(file) for file in files]
    (width, height), grey = headers[0][0], all(mode in _GREY for _, mode in headers)
    for file, (size, _) in zip(files, headers, strict=True):
        if size != (width, height):
            what = f"{file} has {size[0]}x{size[1]} pixels, {files[0].name} has {width}x{height}"
            raise UserError(f"{what}: all images must have the same size, so resize or remove it")
    if not SIDES[0] <= min(width, height) <= max(width, height) <= SIDES[1]:
        what = f"the images in {files[0].parent} have {width}x{height} pixels"
        raise UserError(f"{what}, they must have {SIDES[0]} to {SIDES[1]} a side: resize them")
    shape = (height, width, 1 if grey else 3)

    def batches() -> Iterator[npt.NDArray[np.uint8]]:
        for begin in range(0, len(files), _BATCH):
            part = [_pixels(file, grey) for file in files[begin : begin + _BATCH]]
            yield np.stack(part).reshape(-1, *shape)

    return Source(len(files), shape, batches, factors=factors, factor_names=names)


def _header(file: Path) -> tuple[tuple[int, int], str]:
    """(width, height) and mode; reads no pixels."""
    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            size, mode = image.size, image.mode
        with open(file, "rb") as opened:  # Pillow cuts colours of 16 bits to 8 without a word
            start = opened.read(25)
        if start[:4] == b"\x89PNG" and start[24:] == b"\x10":
            mode = "I;16"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{file} is no PNG or JPEG image: remove it, or save it again") from error
    if mode.startswith(("I", "F")):
        what = f"{file} has more than 8 bits a pixel and channel (mode {mode})"
        raise UserError(f"{what}: save it with 8")
    return size, mode


def _pixels(file: Path, grey: bool) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            if (
                image.has_transparency_data
                and np.asarray(image.convert("RGBA"))[..., 3].min() < 255
            ):
                raise UserError(f"{file} is transparent in places: save it without transparency")
            return np.asarray(image.convert("L" if grey else "RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{file} is damaged: remove it, or save it again") from error


def _by_number(file: Path) -> list[tuple[bool, int, str]]:
    """Sorts "2.png" before "10.png"."""
    parts = re.split(r"(\d+)", file.name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _factors(table: Path, files: Sequence[Path]) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Names and values (N, F) of the factors, a row for each file."""
    names, values, said = read_named_table(table)
    if not names:
        raise UserError(f"{table} has no factor: add a column for each beside 'file'")
    for name, column in zip(names, values.T, strict=True):
        whole = np.isfinite(column) & (column == np.floor(column)) & (abs(column) < 2**53)
        if not whole.all():
            row = int(np.argmin(whole))
            what = f"{table}: {name!r} is {column[row]:g} in row {row + 1}"
            how = "number its values, or sort them into a few steps"
            raise UserError(f"{what}, and a factor must be whole numbers: {how}")
    if said is not None:
        place = {name: row for row, name in enumerate(said)}
        if len(place) < len(said):
            twice = next(name for name in said if said.count(name) > 1)
            raise UserError(f"{table} has two rows of {twice!r}: keep one")
        missing = [file.name for file in files if file.name not in place]
        if missing:
            raise UserError(f"{table} has no row of {missing[0]!r}: add it, or remove the image")
        if unknown := {*place} - {file.name for file in files}:
            what = f"{table} has a row of {min(unknown)!r}, which is not in the folder"
            raise UserError(f"{what}: remove the row, or add the image")
        values = values[[place[file.name] for file in files]]
    elif [*files] != (counted := sorted(files, key=_by_number)):
        first = next(f for f, g in zip(files, counted, strict=True) if f != g)
        what = f"the images in {first.parent} are read in the order of their names, which is not"
        how = f"that of their numbers ({first.name}): name each row's image in a column 'file'"
        raise UserError(f"{what} {how} of {table.name}")
    if len(values) != len(files):
        what = f"{table} has {len(values):,} rows, and the folder {len(files):,} images"
        raise UserError(f"{what}: write one row for each image, in the order of their names")
    return tuple(names), values.astype(np.int64)
