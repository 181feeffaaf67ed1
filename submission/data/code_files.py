"""Codes and factors from files of the user's: npz archives and CSV tables; nothing is unpickled."""

import csv
import zipfile
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from submission.runtime.errors import UserError

FACTOR_PREFIX = "factor_"
_FILE = "file"  # the column of the images' names


@dataclass(frozen=True)
class CodeFile:
    """What a file says, unchecked but for its form.

    Attributes:
        codes: (N, C) as stored. factors: (N, F), or None. factor_sizes: (F,), or None.
        factor_names: one for each factor, or None.
        stand_in: what a rendered data set says of itself, if the codes are of one.
    """

    codes: NDArray[Any]
    factors: NDArray[Any] | None = None
    factor_sizes: NDArray[Any] | None = None
    factor_names: tuple[str, ...] | None = None
    stand_in: str | None = None


def read_codes(path: Path, factors: Path | None = None) -> CodeFile:
    """Reads `codes` with `factors` or `factor_sizes`, `factor_names` and `stand_in` of an npz file;
    or of a CSV file with a header the columns `factor_*` as factors and all others as codes.
    `factors`, a CSV file of factors only, takes the place of those in the file. Raises UserError
    for no such file, another form, and arrays of Python objects."""
    readers = {".npz": _read_npz, ".csv": _read_csv}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path} is neither .npz nor .csv: save the codes as one of these")
    _must_be_there(path)
    found = readers[path.suffix.lower()](path)
    if factors is None:
        return found
    _must_be_there(factors)
    names, table = read_table(factors)
    names = [name.removeprefix(FACTOR_PREFIX) for name in names]
    return CodeFile(found.codes, table, None, tuple(names), found.stand_in)


def _must_be_there(path: Path) -> None:
    if not path.is_file():  # a folder, or a pipe, which would be waited for without end
        raise UserError(f"no file {path}: check its name")


def _read_npz(path: Path) -> CodeFile:
    try:
        with zipfile.ZipFile(path):  # an npy or a pickle by another name is none
            pass
        with np.load(path, allow_pickle=False) as archive:
            there = list(archive)
            kept = ("codes", "factors", "factor_sizes", "factor_names", "stand_in")
            arrays = {name: _array(archive, name, path) for name in kept if name in there}
    except (UserError, MemoryError, PermissionError):
        raise
    except Exception as error:  # zipfile and numpy raise whatever damaged bytes lead them to
        raise UserError(f"{path} is no npz archive, or a damaged one: write it again") from error
    if "codes" not in arrays:
        names = ", ".join(repr(name[:40]) for name in there[:6]) or "nothing"
        how = "save the codes with numpy.savez(FILE, codes=..., factors=...)"
        raise UserError(f"{path} holds no array 'codes' (but {names}): {how}")
    titles, stand_in = arrays.get("factor_names"), arrays.get("stand_in")
    return CodeFile(
        arrays["codes"],
        arrays.get("factors"),
        arrays.get("factor_sizes"),
        None if titles is None else tuple(map(str, titles.reshape(-1).tolist())),
        None if stand_in is None else str(stand_in),
    )


def _array(archive: Any, name: str, path: Path) -> NDArray[Any]:
    try:
        return np.asarray(archive[name])
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        what = f"{path}: the array {name!r} is pickled Python objects, which could run any code"
        raise UserError(f"{what}: save it as an array of numbers") from error


def _read_csv(path: Path) -> CodeFile:
    names, table = read_table(path)
    is_factor = np.array([name.startswith(FACTOR_PREFIX) for name in names])
    if not is_factor.any():
        return CodeFile(table)
    factors = [name.removeprefix(FACTOR_PREFIX) for name in names if name.startswith(FACTOR_PREFIX)]
    return CodeFile(table[:, ~is_factor], table[:, is_factor], None, tuple(factors))


def read_table(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """The header and the numbers (rows, columns) of a CSV file, as `read_named_table`; a column
    `file` is left out."""
    names, table, _ = read_named_table(path)
    return names, table


def read_named_table(path: Path) -> tuple[list[str], NDArray[np.float64], list[str] | None]:
    """The header and the numbers (rows, columns) of a CSV file, and what a column `file` holds,
    which may be text. Raises UserError if it has no header, rows of another length, or other
    text."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            names = [name.strip() for name in next(reader, [])]
            if not names or all(map(_is_number, names)):
                how = "begin it with the columns' names, those of factors as factor_NAME"
                raise UserError(f"{path} has no header: {how}")
            column = names.index(_FILE) if _FILE in names else None
            cells = array("d")  # a list of numbers would take four times the memory
            files = []
            for row in reader:
                if row and column is not None and len(row) == len(names):
                    files.append(row[column].strip())
                    row[column] = "0"
                cells.extend(_numbers(row, names, path, reader.line_num) if row else ())
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV text (UTF-8): write it again") from error
    if not cells:
        raise UserError(f"{path} has a header and no rows: write one row for each image")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path} has two columns {twice!r}: rename one")
    table = np.array(cells).reshape(-1, len(names))
    if column is None:
        return names, table, None
    names.pop(column)
    return names, np.delete(table, column, axis=1), files


def _numbers(row: list[str], names: list[str], path: Path, line: int) -> list[float]:
    if len(row) != len(names):
        what = f"{path}:{line} has {len(row)} columns, but the header has {len(names)}"
        raise UserError(f"{what}: write the file again")
    try:
        return [float(cell) for cell in row]
    except ValueError as error:
        name, cell = next((n, c) for n, c in zip(names, row, strict=True) if not _is_number(c))
        what = f"{path}:{line}: the column {name!r} holds {cell[:40]!r}, which is no number"
        raise UserError(f"{what}: leave the column out, or number its values from 0") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
