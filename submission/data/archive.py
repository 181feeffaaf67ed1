"""The forms of file that are taken, npz and bare npy: their headers, where their images lie, and
reading them; without numpy's trust in them: a file may be damaged, or made to do damage."""

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from submission.runtime.errors import UserError

SIDES = (16, 512)  # of an image: the least and the most pixels
_IMAGES = "images.npy"
# numpy reads headers of at most 10,000 characters; one that claims more must not fill the memory.
_HEADER_BYTES = 12 + 10_000
# The other arrays are far smaller; a larger one was made to fill the memory.
_SMALL_BYTES = 1 << 20
_SMALL = ("name", "stand_in", "factor_sizes", "factor_names", "observed")
MOST_FACTORS = 32


@dataclass(frozen=True)
class Headers:
    """What a file says of itself.

    Attributes:
        count: the number of images. shape: of each, (height, width, 1 or 3).
        offset: the byte at which their pixels begin in the file; None if they are compressed.
        arrays: those of `name`, `stand_in`, `factor_sizes`, `factor_names`, `observed` and
            `factors` that are there; unchecked.
    """

    count: int
    shape: tuple[int, int, int]
    offset: int | None
    arrays: dict[str, np.ndarray]


def read_headers(path: Path) -> Headers:
    """Reads an npz file's directory, headers and small arrays, not its images; or the header of an
    npy file, which is the images alone.

    Raises UserError for no file, no archive, a truncated one, one in a form that Python cannot
    read, and one without a uint8 array `images` (num_images, height, width, 3 or 1), or without the
    last dimension, of 16 to 512 pixels a side.
    """
    try:
        if not path.is_file():  # a folder, or a pipe, which would be waited for without end
            raise UserError(f"no file {path}: check its name")
        if _is_npy(path):
            with open(path, "rb") as file:
                start = file.read(_HEADER_BYTES)
            shape, header_bytes = _images_header(start, path.stat().st_size, path)
            return Headers(shape[0], _of_each(shape), header_bytes, {})
        _refuse_other_kinds(path)
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
            shape, header_bytes = _read_images_header(archive, path)
            there = [key for key in (*_SMALL, "factors") if f"{key}.npy" in archive.namelist()]
            # Not a count that the file only claims: its images are larger than its factors.
            most = min(shape[0] * 8 * MOST_FACTORS, math.prod(shape)) + _SMALL_BYTES
            arrays = {
                key: _small_array(archive, key, path, _SMALL_BYTES if key in _SMALL else most)
                for key in there
            }
        stored = stored_images(path)
        if stored and stored[1] > path.stat().st_size:
            raise UserError(broken(path))
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: give this user permission to read it") from error
    except Exception as error:  # zipfile and numpy raise whatever damaged bytes lead them to
        raise UserError(broken(path)) from error
    offset = stored[0] + header_bytes if stored else None
    return Headers(shape[0], _of_each(shape), offset, arrays)


def _of_each(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(height, width, channels) of an array of images; grey ones may lack the last dimension."""
    return shape[1], shape[2], shape[3] if len(shape) == 4 else 1


def broken(path: Path) -> str:
    return f"{path} is truncated or corrupt: download (or render) it again"


def _is_npy(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(6) == b"\x93NUMPY"


def _refuse_other_kinds(path: Path) -> None:
    """What was never an archive is not a damaged one."""
    with open(path, "rb") as file:
        start = file.read(23)
    if start == b"version https://git-lfs":
        raise UserError(f"{path} is a git-lfs pointer, not the images: run `git lfs pull`")
    if start and not start.startswith(b"PK") and not zipfile.is_zipfile(path):
        how = "download (or render) it again, or write it with numpy.savez(FILE, images=...)"
        raise UserError(f"{path} is neither an npz nor an npy file: {how}")


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    names = archive.namelist()
    if _IMAGES not in names:
        # Names may hold anything, line ends and a terminal's commands too.
        others = ", ".join(repr(name[:40]) for name in names[:4]) or "nothing"
        how = "write yours with numpy.savez(FILE, images=...)"
        what = f"{path} holds no array 'images' (but {others}), so it is not an MPI3D file"
        raise UserError(f"{what}: download that again, or {how}")
    if len(set(names)) < len(names):
        what = f"{path} holds an array twice, and readers differ in which one they take"
        raise UserError(f"{what}: download (or render) it again")
    for info in archive.infolist():
        # Opening compares the name in the directory with the one beside the data: damage must not
        # cost a stand-in the note that it is one.
        try:
            archive.open(info).close()
        except RuntimeError as error:  # encrypted, or compressed by a method unknown to zipfile
            what = f"{path} is in a form of zip that Python cannot read ({error})"
            raise UserError(
                f"{what}: write it anew with numpy.savez, or download it again"
            ) from error


def _read_images_header(archive: zipfile.ZipFile, path: Path) -> tuple[tuple[int, ...], int]:
    """The shape of the images' array, and the bytes of the npy header before their pixels."""
    with archive.open(_IMAGES) as member:
        return _images_header(member.read(_HEADER_BYTES), archive.getinfo(_IMAGES).file_size, path)


def _images_header(start: bytes, size: int, path: Path) -> tuple[tuple[int, ...], int]:
    """The same, of an npy file of `size` bytes that begins so."""
    head = io.BytesIO(start)
    shape, fortran, dtype = _read_npy_header(head)
    if dtype != np.uint8:
        raise UserError(f"{path}: 'images' is {dtype}, it must be uint8 (0..255)")
    channels = shape[3] if len(shape) == 4 else 1
    sides = len(shape) in (3, 4) and all(SIDES[0] <= side <= SIDES[1] for side in shape[1:3])
    if not sides or channels not in (1, 3) or shape[0] == 0 or fortran:
        has = f"{shape}{' in Fortran order' if fortran else ''}"
        must = f"(num_images, height, width, 3 or 1), {SIDES[0]} to {SIDES[1]} pixels a side"
        raise UserError(f"{path}: 'images' has shape {has}, it must be {must}, in C order")
    if size != head.tell() + math.prod(shape):
        raise UserError(broken(path))
    return shape, head.tell()


def _read_npy_header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    if version not in ((2, 0), (3, 0)):  # 3.0 differs in the encoding of field names only
        raise ValueError(f"npy format {version}")
    return np.lib.format.read_array_header_2_0(member)


def _small_array(archive: zipfile.ZipFile, key: str, path: Path, most: int) -> np.ndarray:
    """An extra array of the file, of `most` bytes; never a pickle."""
    try:
        with archive.open(f"{key}.npy") as member:
            content = member.read(most + 1)
        if len(content) > most:
            raise ValueError("too large")
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # as in read_headers
        what = f"{path}: the array {key!r} cannot be read"
        raise UserError(f"{what}; download (or render) the file again") from error


def stored_images(path: Path) -> tuple[int, int, int] | None:
    """First byte of the member `images` in the file, the byte after its last, and its CRC-32; None
    if it is compressed, or in an npy file, which has no checksum."""
    if _is_npy(path):
        return None
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(_IMAGES)
    if info.compress_type != zipfile.ZIP_STORED:
        return None
    # The directory's copy of the extra field may differ in length from the local one (it does in
    # files that numpy writes), so the local header has to be asked.
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile("no local header")
    name_bytes, extra_bytes = (int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
    begin = info.header_offset + 30 + name_bytes + extra_bytes
    return begin, begin + info.file_size, info.CRC


def read_images(
    path: Path, shape: tuple[int, int, int], offset: int | None, count: int, batch: int
) -> Iterator[np.ndarray]:
    """Yields `count` images, uint8 (<= batch, *shape), from the byte `offset` on, or, if that is
    None, all of a compressed member. Raises UserError if the file ends early, or the checksum of a
    compressed member is wrong."""
    try:
        with _pixels(path, offset) as file:
            for begin in range(0, count, batch):
                images = np.empty((min(batch, count - begin), *shape), np.uint8)
                if file.readinto(images.data) < images.nbytes:
                    raise EOFError
                yield images
            if offset is None:
                file.read(1)  # the checksum is compared when the member's end is reached
    except Exception as error:  # zipfile raises whatever its decompressors raise
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(broken(path)) from error


@contextmanager
def _pixels(path: Path, offset: int | None) -> Iterator[Any]:
    if offset is None:
        with zipfile.ZipFile(path) as archive, archive.open(_IMAGES) as member:
            _read_npy_header(member)
            yield member
    else:
        # Not mapped: a file that is cut short while it is mapped kills who touches it (SIGBUS).
        with open(path, "rb") as file:
            file.seek(offset)
            yield file
