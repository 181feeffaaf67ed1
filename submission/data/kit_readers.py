"""The data sets that the challenge's starter kit knows beside MPI3D, read from the files that
disentanglement_lib 1.5 reads: the same images in C order over the same factors, in bounded memory.
The files are not trusted: shapes and kinds are read before pixels, and nothing is unpickled."""

import io
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from submission.data.conversion import Source
from submission.runtime.errors import UserError
from submission.runtime.progress import progress_bar

# Factors and their sizes, in the order of the library's own classes.
GRIDS: dict[str, dict[str, int]] = {
    "cars3d": {"elevation": 4, "azimuth": 24, "object_type": 183},
    "dsprites_full": {
        **{"shape": 3, "scale": 6, "orientation": 40},
        **{"position_x": 32, "position_y": 32},
    },
    "shapes3d": {
        **{"floor_color": 10, "wall_color": 10, "object_color": 10},
        **{"object_size": 8, "object_type": 4, "azimuth": 15},
    },
    "smallnorb": {"category": 5, "instance": 10, "elevation": 9, "azimuth": 18, "lighting": 6},
}
SIDE = 64
BATCH = 1024
# Rows of 3dshapes.h5 that are held at once, at most: 500 MB.
_H5_ROWS = 40_000
# numpy reads headers of at most 10,000 characters; one that claims more must not fill the memory.
_HEADER_BYTES = 12 + 10_000


def remedy(name: str) -> str:
    return f"`python -m submission data {name}` says where it is to be had and where it goes"


def cars3d(files: Sequence[Path]) -> Source:
    """Cars3D from its MATLAB files, one for each car in the order given: `im`, uint8 (128, 128, 3,
    azimuths, elevations). All images are held, 216 MB, since each file has every 183rd of them.

    Raises UserError for a file without such an array. MATLAB's own objects and function handles
    are never made: the array's kind and shape are read first, and it alone.
    """
    sizes = tuple(GRIDS["cars3d"].values())
    shape = (128, 128, 3, sizes[1], sizes[0])
    for file in files:
        with reading(file, "cars3d"):
            _check_car(file, shape)

    def batches() -> Iterator[NDArray[np.uint8]]:
        from scipy.io import loadmat

        images = np.empty((*sizes, SIDE, SIDE, 3), np.uint8)
        for i, file in enumerate(progress_bar(iterable=files, desc="opening cars", delay=2)):
            with reading(file, "cars3d"):
                car = loadmat(file, variable_names=["im"])["im"]
                if type(car) is not np.ndarray or car.dtype != np.uint8 or car.shape != shape:
                    raise ValueError("not as its header says")
                for azimuth, elevation in np.ndindex(shape[3:]):
                    view = np.ascontiguousarray(car[..., azimuth, elevation])
                    small = Image.fromarray(view).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
                    images[elevation, azimuth, i] = np.asarray(small)
        flat = images.reshape(-1, SIDE, SIDE, 3)
        yield from (flat[begin : begin + BATCH] for begin in range(0, len(flat), BATCH))

    return kit_source("cars3d", 3, batches)


def _check_car(file: Path, shape: tuple[int, ...]) -> None:
    from scipy.io import whosmat

    found = [(size, kind) for key, size, kind in whosmat(file) if key == "im"]
    if found != [(shape, "uint8")]:
        what = " and ".join(f"{kind} {size}" for size, kind in found) or "not there"
        must = f"it must be uint8 {shape}"
        raise UserError(f"{file}: the array 'im' is {what}, {must}: {remedy('cars3d')}")


def dsprites(file: Path) -> Source:
    """dSprites from its npz file: `imgs`, uint8 (N, 64, 64) of 0 and 1, which become 0 and 255.
    Streamed; its member `metadata`, a pickle, is not touched. Raises UserError for another array.
    """
    count = math.prod(GRIDS["dsprites_full"].values())
    skip = _npz_header(file, "imgs", (count, SIDE, SIDE), "dsprites_full")

    def batches() -> Iterator[NDArray[np.uint8]]:
        for images in _npz_rows(file, "imgs", skip, count, (SIDE, SIDE, 1), "dsprites_full"):
            if images.max() > 1:
                what = f"{file}: 'imgs' holds other values than 0 and 1"
                raise UserError(f"{what}: {remedy('dsprites_full')}")
            yield images * np.uint8(255)

    return kit_source("dsprites_full", 1, batches)


def shapes3d_npz(file: Path) -> Source:
    """3D Shapes from the npz file that the library reads: `images`, uint8, (64, 64, 3) below the
    six factors' axes. Streamed. Raises UserError for another array."""
    sizes = tuple(GRIDS["shapes3d"].values())
    skip = _npz_header(file, "images", (*sizes, SIDE, SIDE, 3), "shapes3d")
    rows = (file, "images", skip, math.prod(sizes), (SIDE, SIDE, 3), "shapes3d")
    return kit_source("shapes3d", 3, lambda: _npz_rows(*rows))


def shapes3d_h5(file: Path) -> Source:
    """3D Shapes from the HDF5 file that is published: `images`, uint8 (N, 64, 64, 3). It is read in
    blocks of its chunks' rows, 184 MB if h5py chose these, so that each is unpacked once. Raises
    UserError for another array, and for one whose pixels lie in other files."""
    import h5py

    count = math.prod(GRIDS["shapes3d"].values())

    @contextmanager
    def opened() -> Iterator[Any]:
        with reading(file, "shapes3d"), h5py.File(file, "r") as archive:
            # Links lead to other files, and so do external and virtual arrays.
            here = isinstance(archive.get("images", getlink=True), h5py.HardLink)
            images = archive["images"] if here else None
            if not isinstance(images, h5py.Dataset) or images.external or images.is_virtual:
                raise UserError(f"{file} holds no array 'images' of its own: {remedy('shapes3d')}")
            _must_be(
                file, "images", (images.dtype, images.shape), (count, SIDE, SIDE, 3), "shapes3d"
            )
            yield images

    with opened():
        pass

    def batches() -> Iterator[NDArray[np.uint8]]:
        with opened() as images:
            rows = min(max((images.chunks or (0,))[0], BATCH), _H5_ROWS)
            for begin in range(0, count, rows):
                block = images[begin : begin + rows]
                for i in range(0, len(block), BATCH):
                    yield block[i : i + BATCH].copy()  # a view would keep the block
                del block  # before the next is read

    return kit_source("shapes3d", 3, batches)


def kit_source(
    name: str,
    channels: int,
    batches: Callable[[], Iterator[NDArray[np.uint8]]],
    observed: tuple[int, ...] | None = None,
) -> Source:
    """A Source of 64x64 images in C order over the grid of that name."""
    names, sizes = tuple(GRIDS[name]), tuple(GRIDS[name].values())
    shape = (SIDE, SIDE, channels)
    return Source(math.prod(sizes), shape, batches, sizes, None, names, observed)


def _npz_header(file: Path, key: str, shape: tuple[int, ...], name: str) -> int:
    """The bytes before the pixels of an array; UserError unless it is uint8 of this shape."""
    with reading(file, name), zipfile.ZipFile(file) as archive:
        if f"{key}.npy" not in archive.namelist():
            others = ", ".join(repr(one[:40]) for one in archive.namelist()[:4]) or "nothing"
            raise UserError(f"{file} holds no array {key!r} (but {others}): {remedy(name)}")
        with archive.open(f"{key}.npy") as member:
            head = io.BytesIO(member.read(_HEADER_BYTES))
        version = np.lib.format.read_magic(head)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        found, fortran, dtype = readers[version](head)
        _must_be(file, key, (dtype, found), shape, name, fortran)
        if archive.getinfo(f"{key}.npy").file_size != head.tell() + math.prod(shape):
            raise ValueError("another length")
    return head.tell()


def _must_be(
    file: Path,
    key: str,
    found: tuple[np.dtype[Any], tuple[int, ...]],
    shape: tuple[int, ...],
    name: str,
    fortran: bool = False,
) -> None:
    if found != (np.uint8, shape) or fortran:
        kind = "pickled Python objects" if found[0].hasobject else f"{found[0]}"
        what = f"{kind} {found[1]}{' in Fortran order' if fortran else ''}"
        must = f"it must be uint8 {shape}"
        raise UserError(f"{file}: the array {key!r} is {what}, {must}: {remedy(name)}")


def _npz_rows(
    file: Path, key: str, skip: int, count: int, shape: tuple[int, ...], name: str
) -> Iterator[NDArray[np.uint8]]:
    with (
        reading(file, name),
        zipfile.ZipFile(file) as archive,
        archive.open(f"{key}.npy") as member,
    ):
        member.read(skip)
        for begin in range(0, count, BATCH):
            rows = (min(BATCH, count - begin), *shape)
            yield np.frombuffer(member.read(math.prod(rows)), np.uint8).reshape(rows)
        member.read(1)  # the checksum is compared when the member's end is reached


@contextmanager
def reading(file: Path, name: str) -> Iterator[None]:
    """Around the reading of a file that may be damaged: what it leads to is one sentence."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # libraries raise whatever damaged bytes lead them to
        if isinstance(error, OSError) and error.strerror:
            why = f"cannot be read ({error.strerror}): give this user access"
            raise UserError(f"{file} {why}") from error
        what = f"{file} is truncated, corrupt or another file"
        raise UserError(f"{what}: download it again ({remedy(name)})") from error
