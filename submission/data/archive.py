"""What an npz file says of itself, read without numpy's trust in it."""

import io
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from submission.runtime.errors import UserError

# numpy reads headers of at most 10,000 characters; one that claims more must not fill the memory.
HEADER_BYTES = 12 + 10_000

# `factor_sizes` and `stand_in` are far smaller; what is not was made to fill the memory.
_SMALL_BYTES = 1 << 20


def broken(path: Path) -> str:
    return f"{path} is truncated or corrupt: download (or render) it again"


def read_npy_header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    if version not in ((2, 0), (3, 0)):  # 3.0 differs in the encoding of field names only
        raise ValueError(f"npy format {version}")
    return np.lib.format.read_array_header_2_0(member)


def small_member(archive: zipfile.ZipFile, key: str, path: Path) -> np.ndarray | None:
    """A small extra array of the file, or None; never a pickle."""
    if f"{key}.npy" not in archive.namelist():
        return None
    try:
        with archive.open(f"{key}.npy") as member:
            content = member.read(_SMALL_BYTES + 1)
        if len(content) > _SMALL_BYTES:
            raise ValueError("too large")
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # as in open_file
        raise UserError(
            f"{path}: the array {key!r} cannot be read; download (or render) the file again"
        ) from error


def data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Byte at which a member's data begins.

    The directory's copy of the extra field may differ in length from the local one (it does in
    files that numpy writes), so the local header has to be asked.
    """
    with open(path, "rb") as file:
        return info.header_offset + _local_header_bytes(file, info)


def _local_header_bytes(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    file.seek(info.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile("no local header")
    name_bytes = int.from_bytes(header[26:28], "little")
    extra_bytes = int.from_bytes(header[28:30], "little")
    return 30 + name_bytes + extra_bytes
