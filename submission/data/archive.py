"""The forms of file that are taken, npz and bare npy: their headers, where their images lie, and
reading them; without numpy's trust in them: a file may be damaged, or made to do damage."""

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from submission.data.factors import IMAGE_SHAPE
from submission.runtime.errors import UserError

IMAGE_BYTES = math.prod(IMAGE_SHAPE)
_IMAGES = "images.npy"
# numpy reads headers of at most 10,000 characters; one that claims more must not fill the memory.
_HEADER_BYTES = 12 + 10_000
# `factor_sizes` and `stand_in` are far smaller; a larger one was made to fill the memory.
_SMALL_BYTES = 1 << 20


def read_headers(path: Path) -> tuple[int, int | None, np.ndarray | None, np.ndarray | None]:
    """Reads an npz file's directory, headers and small arrays, not its images; or the header of an
    npy file, which is the images alone.

    Returns:
        The number of images; the byte at which their pixels begin in the file, None if they are
        compressed; the arrays `factor_sizes` and `stand_in`, None if they are not there.

    Raises UserError for no file, no archive, a truncated one, one in a form that Python cannot
    read, and one without a uint8 array `images` (num_images, 64, 64, 3).
    """
    try:
        if not path.is_file():  # a folder, or a pipe, which would be waited for without end
            raise UserError(f"no file {path}: check its name")
        if _is_npy(path):
            with open(path, "rb") as file:
                return (
                    *_images_header(file.read(_HEADER_BYTES), path.stat().st_size, path),
                    None,
                    None,
                )
        _refuse_other_kinds(path)
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
            num_images, header_bytes = _read_images_header(archive, path)
            factor_sizes = _small_array(archive, "factor_sizes", path)
            stand_in = _small_array(archive, "stand_in", path)
        stored = stored_images(path)
        if stored and stored[1] > path.stat().st_size:
            raise UserError(broken(path))
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: give this user permission to read it") from error
    except Exception as error:  # zipfile and numpy raise whatever damaged bytes lead them to
        raise UserError(broken(path)) from error
    return num_images, stored[0] + header_bytes if stored else None, factor_sizes, stand_in


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


def _read_images_header(archive: zipfile.ZipFile, path: Path) -> tuple[int, int]:
    """The number of images, and the bytes of the npy header before their pixels."""
    with archive.open(_IMAGES) as member:
        return _images_header(member.read(_HEADER_BYTES), archive.getinfo(_IMAGES).file_size, path)


def _images_header(start: bytes, size: int, path: Path) -> tuple[int, int]:
    """The same, of an npy file of `size` bytes that begins so."""
    head = io.BytesIO(start)
    shape, fortran, dtype = _read_npy_header(head)
    if dtype != np.uint8:
        raise UserError(f"{path}: 'images' is {dtype}, it must be uint8 (0..255)")
    if len(shape) != 4 or shape[1:] != IMAGE_SHAPE or shape[0] == 0 or fortran:
        has = f"{shape}{' in Fortran order' if fortran else ''}"
        must = "it must be (num_images, 64, 64, 3) in C order"
        raise UserError(f"{path}: 'images' has shape {has}, {must}")
    if size != head.tell() + math.prod(shape):
        raise UserError(broken(path))
    return shape[0], head.tell()


def _read_npy_header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    if version not in ((2, 0), (3, 0)):  # 3.0 differs in the encoding of field names only
        raise ValueError(f"npy format {version}")
    return np.lib.format.read_array_header_2_0(member)


def _small_array(archive: zipfile.ZipFile, key: str, path: Path) -> np.ndarray | None:
    """A small extra array of the file, or None; never a pickle."""
    if f"{key}.npy" not in archive.namelist():
        return None
    try:
        with archive.open(f"{key}.npy") as member:
            content = member.read(_SMALL_BYTES + 1)
        if len(content) > _SMALL_BYTES:
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


def read_images(path: Path, offset: int | None, count: int, batch: int) -> Iterator[np.ndarray]:
    """Yields `count` images, uint8 (<= batch, 64, 64, 3), from the byte `offset` on, or, if that is
    None, all of a compressed member. Raises UserError if the file ends early, or the checksum of a
    compressed member is wrong."""
    try:
        with _pixels(path, offset) as file:
            for begin in range(0, count, batch):
                images = np.empty((min(batch, count - begin), *IMAGE_SHAPE), np.uint8)
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
