"""Data files of the official form: a tiny one with two visible factors, and one of full size."""

import zipfile
from pathlib import Path

import numpy as np


def write_patches(
    data: Path,
    sizes: tuple[int, ...],
    red: tuple[int, int] = (0, 100),
    blue: tuple[int, int] = (1, 200),
) -> None:
    """Writes `<data>/mpi3d_real/mpi3d_real.npz`: noise, a red square and a blue bar.

    Args:
        red, blue: factor that decides the patch's brightness, and how much a step of it adds.
    """
    factors = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1)
    images = np.random.default_rng(0).integers(0, 40, (len(factors), 64, 64, 3), dtype=np.uint8)
    images[:, 16:48, 16:48, 0] += (factors[:, red[0]] * red[1])[:, None, None].astype(np.uint8)
    images[:, :, :16, 2] += (factors[:, blue[0]] * blue[1])[:, None, None].astype(np.uint8)
    (data / "mpi3d_real").mkdir(parents=True)
    np.savez(
        data / "mpi3d_real" / "mpi3d_real.npz",
        images=images,
        factor_sizes=np.array(sizes),
        stand_in=np.array("patches made by a test"),
    )


def sparse_official_file(path: Path, count: int) -> None:
    """A stored npz of official size that takes no disk space: the images are a hole."""
    header = (
        b"\x93NUMPY\x01\x00"
        + (118).to_bytes(2, "little")
        + (
            f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, 64, 64, 3), }}".ljust(
                117
            )
        ).encode()
        + b"\n"
    )
    size = len(header) + count * 12288
    with open(path, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        info = zipfile.ZipInfo("images.npy")
        with archive.open(info, "w", force_zip64=True) as member:
            member.write(header)
            # zipfile knows only bytes it wrote itself, so the hole is booked by hand.
            member._file_size = size  # type: ignore[attr-defined]
            member._compress_size = size  # type: ignore[attr-defined]
            file.seek(size - len(header), 1)
