"""Rendered stand-ins for the MPI3D files, in the official format: `python -m submission render`.

They let everything run that reads MPI3D where the real files (12.7 GB each) are not at hand.
A stand-in only resembles MPI3D: no score computed on it is a score on MPI3D.
"""

import contextlib
import shutil
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from submission.data.conversion import npz_entry
from submission.render.raycast import render
from submission.render.rig import DATASET_NAMES, DOMAINS
from submission.render.scene import axis_indices, factor_sizes, parameters
from submission.render.vectors import SIZE
from submission.runtime.errors import UserError
from submission.runtime.files import locked, replacing
from submission.runtime.progress import progress_bar

STAND_IN_NOTE = (
    "This file is a rendered stand-in made by this project's ray caster; it is not MPI3D, "
    "and results on it are not results on MPI3D."
)
_CHUNK = 4096  # images rendered and written at a time: 50 MB


def render_images(
    domain: str, factors: npt.NDArray[np.int64], seed: int = 0, threads: int | None = None
) -> npt.NDArray[np.uint8]:
    """Images uint8 (n, 64, 64, 3), 0..255, of factors (n, 7) in the order of rig.FACTOR_NAMES.

    The axes are indices 0..39 of the full grid. The noise of an image depends on domain, seed and
    its own factors alone. UserError: an unknown domain. ValueError: factors out of range.
    """
    index = np.ravel_multi_index(tuple(factors.T), factor_sizes(domain)).astype(np.uint64)
    stream = seed * len(DOMAINS) + DOMAINS.index(domain)
    keys = index + np.uint64(stream * 0x9E3779B97F4A7C15 % 2**64)
    return render(parameters(domain, factors), keys, threads)


def write_stand_in(
    out: Path, domain: str, axis_steps: int, seed: int, threads: int | None = None
) -> Path:
    """Write `out`/<name>/<name>.npz, name as in rig.DATASET_NAMES, and return its path.

    Members: `images` uint8 (n, 64, 64, 3) in C order over the factors, the last one fastest, as
    in the official files; and, which those lack, `factor_sizes` int64 (7,), `stand_in` (a
    sentence that says what the file is), `domain`, `seed` and `axis_steps` (see axis_indices).
    Equal arguments give equal bytes, whatever `threads` is.

    UserError: an unknown domain, a bad `axis_steps` or `seed`, a folder that cannot be written, too
    little room, another run that is writing the file, or a file in the way that is no stand-in.
    """
    sizes, axis = factor_sizes(domain, axis_steps), axis_indices(axis_steps)
    if not 0 <= seed < 2**32:
        raise UserError(f"Seed {seed} is out of range: choose one of 0 to {2**32 - 1}.")
    name = DATASET_NAMES[domain]
    path = out / name / f"{name}.npz"
    _refuse_foreign(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            _write_archive(path, domain, seed, sizes, axis, threads)
    except OSError as error:
        what = f"Cannot write the stand-in {path} ({error.strerror or error})"
        raise UserError(f"{what}: choose a folder with --out that can be written.") from error
    return path


def _write_archive(
    path: Path,
    domain: str,
    seed: int,
    sizes: tuple[int, ...],
    axis: npt.NDArray[np.int64],
    threads: int | None,
) -> None:
    images = int(np.prod(sizes))
    numbers = {"seed": seed, "axis_steps": len(axis), "factor_sizes": sizes}
    with replacing(path) as file:
        # Only now: what a killed run left has been emptied.
        _require_room(path.parent, images * SIZE * SIZE * 3)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, value in {"stand_in": STAND_IN_NOTE, "domain": domain, **numbers}.items():
                with archive.open(npz_entry(name), "w") as member:
                    np.lib.format.write_array(member, np.array(value), allow_pickle=False)
            bar = progress_bar(total=images, unit=" images", desc="rendering")
            with archive.open(npz_entry("images"), "w", force_zip64=True) as member, bar:
                header = dict(descr="|u1", fortran_order=False, shape=(images, SIZE, SIZE, 3))
                np.lib.format.write_array_header_1_0(member, header)
                for start in range(0, images, _CHUNK):
                    flat = np.arange(start, min(start + _CHUNK, images))
                    factors = np.stack(np.unravel_index(flat, sizes), axis=1)
                    factors[:, 5:] = axis[factors[:, 5:]]
                    member.write(render_images(domain, factors, seed, threads).tobytes())
                    bar.update(len(flat))


def _refuse_foreign(path: Path) -> None:
    """UserError if something other than a stand-in lies at the path: it may be the real MPI3D."""
    if not path.exists():
        return
    with contextlib.suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as archive:
        if "stand_in.npy" in archive.namelist():
            return
    what = f"{path} exists and is not a stand-in (it may be your MPI3D download)"
    raise UserError(f"{what}: choose another folder with --out, or move that file away.")


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        room = f"needs {needed / 1e9:.1f} GB but {folder} has {free / 1e9:.1f} GB free"
        raise UserError(
            f"The stand-in {room}: choose another folder with --out or fewer --axis-steps."
        )


def write_samples(path: Path) -> None:
    """Write a PNG sheet of rendered samples: one row a domain, magnified twice."""
    from matplotlib import image

    looks = np.zeros((6, 7), np.int64)  # one a column of the sheet; shape and colour follow it
    looks[:, 0] = looks[:, 1] = range(6)
    looks[:, 2] = 1
    looks[:, 3] = [1, 1, 1, 0, 2, 1]
    looks[:, 4] = [0, 1, 2, 0, 1, 0]
    looks[:, 5] = [19, 8, 28, 14, 25, 33]
    looks[:, 6] = [10, 20, 0, 30, 35, 8]
    rows = []
    for domain in DOMAINS:
        rows.append(np.hstack([*render_images(domain, looks % factor_sizes(domain))]))
    sheet = np.concatenate(rows).repeat(2, axis=0).repeat(2, axis=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            image.imsave(file, sheet, format="png")
    except OSError as error:
        what = f"Cannot write the samples {path} ({error.strerror or error})"
        raise UserError(f"{what}: choose another file with --picture.") from error
