"""A tiny data set in the official form, in which two factors can be seen."""

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
