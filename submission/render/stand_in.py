"""Rendered stand-ins for the MPI3D files, in the official format: `python -m submission render`.

They let everything run that reads MPI3D where the real files (12.7 GB each) are not at hand.
A stand-in only resembles MPI3D: no score computed on it is a score on MPI3D.
"""

import contextlib
import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from submission.render.raycast import render
from submission.render.rig import DATASET_NAMES, DOMAINS
from submission.render.scene import axis_indices, factor_sizes, parameters
from submission.render.vectors import SIZE
from submission.runtime.errors import UserError
from submission.runtime.files import locked, replacing
from submission.runtime.progress import progress_bar

IMAGE_BYTES = SIZE * SIZE * 3
STAND_IN_NOTE = (
    "This file is a rendered stand-in made by this project's ray caster; it is not MPI3D, "
    "and results on it are not results on MPI3D."
)
_CHUNK = 4096  # images rendered and written at a time: 50 MB


def render_images(
    domain: str, factors: npt.NDArray[np.int64], seed: int = 0, threads: int | None = None
) -> npt.NDArray[np.uint8]:
    """Render the images of the given factors.

    `factors` is int (n, 7) in the order of rig.FACTOR_NAMES (column 5 tilt, column 6 pan), the
    axes as indices 0..39 of the full grid. Returns uint8 (n, 64, 64, 3), 0..255. The noise of an
    image depends on domain, seed and its own factors, on nothing else. UserError for an unknown
    domain or a seed out of range, ValueError for factors out of range.
    """
    sizes = factor_sizes(domain)
    _refuse_seed(seed)
    factors = np.asarray(factors, np.int64)
    index = np.ravel_multi_index(tuple(factors.T), sizes).astype(np.uint64)
    stream = seed * len(DOMAINS) + DOMAINS.index(domain)
    keys = index + np.uint64(stream * 0x9E3779B97F4A7C15 % 2**64)
    return render(parameters(domain, factors), keys, threads)


def write_stand_in(
    out: Path, domain: str, axis_steps: int, seed: int, threads: int | None = None
) -> Path:
    """Write `out`/<name>/<name>.npz, name as in rig.DATASET_NAMES, and return its path.

    Members: `images` uint8 (n, 64, 64, 3) in C order over the factors, the last one fastest, as
    in the official files; and, which those lack, `factor_sizes` int64 (7,), `stand_in` (a
    sentence that says what the file is), `domain`, `seed` and `axis_steps`. `axis_steps` thins
    both axes (see scene.axis_indices); 40 is the full set. Equal arguments give equal bytes,
    whatever `threads` is. Nothing appears under the final name until the file is whole.

    UserError for an unknown domain, a bad `axis_steps` or `seed`, a folder that cannot be
    written, too little room on the disk, another run that is writing the file, or a file in the
    way that is not itself a stand-in.
    """
    sizes = factor_sizes(domain, axis_steps)
    _refuse_seed(seed)
    axis = axis_indices(axis_steps)
    name = DATASET_NAMES[domain]
    path = out / name / f"{name}.npz"
    _refuse_foreign(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            _write_archive(path, domain, sizes, axis, seed, threads)
    except OSError as error:
        raise UserError(
            f"Cannot write the stand-in {path} ({error.strerror or error}): choose a folder with "
            "--out that can be written."
        ) from error
    return path


def _write_archive(
    path: Path,
    domain: str,
    sizes: tuple[int, ...],
    axis: npt.NDArray[np.int64],
    seed: int,
    threads: int | None,
) -> None:
    images = int(np.prod(sizes))
    with replacing(path) as file:
        # Only now: what a killed run left has been emptied.
        _require_room(path.parent, images * IMAGE_BYTES)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            numbers = {"seed": seed, "axis_steps": len(axis), "factor_sizes": sizes}
            for name, value in {"stand_in": STAND_IN_NOTE, "domain": domain, **numbers}.items():
                _write_member(archive, name, np.array(value))
            with (
                archive.open(_entry("images"), "w", force_zip64=True) as member,
                progress_bar(total=images, unit=" images", desc="rendering") as bar,
            ):
                shape = (images, SIZE, SIZE, 3)
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
                for start in range(0, images, _CHUNK):
                    flat = np.arange(start, min(start + _CHUNK, images))
                    factors = np.stack(np.unravel_index(flat, sizes), axis=1)
                    factors[:, 5:] = axis[factors[:, 5:]]
                    member.write(render_images(domain, factors, seed, threads).tobytes())
                    bar.update(len(flat))


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))  # equal bytes each time


def _write_member(archive: zipfile.ZipFile, name: str, value: npt.NDArray[np.generic]) -> None:
    content = io.BytesIO()
    np.lib.format.write_array(content, value, allow_pickle=False)
    archive.writestr(_entry(name), content.getvalue())


def _refuse_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise UserError(f"Seed {seed} is out of range: choose one of 0 to {2**32 - 1}.")


def _refuse_foreign(path: Path) -> None:
    """UserError if something other than a stand-in lies at the path: it may be the real MPI3D."""
    if not path.exists():
        return
    with contextlib.suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as archive:
        if "stand_in.npy" in archive.namelist():
            return
    raise UserError(
        f"{path} exists and is not a stand-in (it may be your MPI3D download): choose another "
        "folder with --out, or move that file away."
    )


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"The stand-in needs {needed / 1e9:.1f} GB but {folder} has {free / 1e9:.1f} GB free: "
            "choose another folder with --out or fewer --axis-steps."
        )


def write_samples(path: Path) -> None:
    """Write a PNG sheet of rendered samples: one row a domain, magnified twice."""
    from matplotlib import image

    # Columns: colour, size, height, background, tilt, pan; the shape follows the column.
    looks = np.array(
        [
            [0, 1, 1, 0, 19, 10],
            [1, 1, 1, 1, 8, 20],
            [2, 1, 1, 2, 28, 0],
            [3, 1, 0, 0, 14, 30],
            [4, 1, 2, 1, 25, 35],
            [5, 1, 1, 0, 33, 8],
        ]
    )
    rows = []
    for domain in DOMAINS:
        sizes = np.array(factor_sizes(domain))
        factors = np.insert(looks, 1, np.arange(len(looks)), axis=1) % sizes
        rows.append(np.concatenate(list(render_images(domain, factors)), axis=1))
    sheet = np.concatenate(rows).repeat(2, axis=0).repeat(2, axis=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            image.imsave(file, sheet, format="png")
    except OSError as error:
        raise UserError(
            f"Cannot write the samples {path} ({error.strerror or error}): choose another file "
            "with --picture."
        ) from error
