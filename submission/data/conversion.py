"""Images that lie in any other form, written once into the cache as an npz file that is read as
MPI3D's: mapped, in bounded memory, with one checksum."""

import hashlib
import json
import logging
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from submission.runtime import paths
from submission.runtime.errors import UserError
from submission.runtime.files import replacing
from submission.runtime.limits import mib
from submission.runtime.progress import progress_bar

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A set of images in another form, and how to read it.

    Attributes:
        count: the number of images. shape: of each, (height, width, 1 or 3).
        batches: yields all of them in order, uint8 (n, height, width, 1 or 3) in 0..255; raises
            UserError for what cannot be read.
        factor_sizes: of a whole grid in C order (the last factor changes fastest), else None.
        factors: int64 (count, F) of a set that is no whole grid, else None.
        factor_names: F names; None if nobody says.
        observed: the grid's factors that the metrics see, ascending; None for all. Over the others
            disentanglement_lib draws at random (smallNORB's instances).
    """

    count: int
    shape: tuple[int, int, int]
    batches: Callable[[], Iterator[NDArray[np.uint8]]]
    factor_sizes: tuple[int, ...] | None = None
    factors: NDArray[np.int64] | None = None
    factor_names: tuple[str, ...] | None = None
    observed: tuple[int, ...] | None = None


def converted(name: str, files: Sequence[Path], reader: str, source: Callable[[], Source]) -> Path:
    """The npz file in the cache that holds what `source()` reads from `files`; written unless it is
    there for these very files, by size and time of change.

    Args:
        name: of the set, for the file's name and the log.
        reader: who reads them; another reader's result is another file.

    Raises UserError if the cache cannot be written, or for what the source refuses.
    """
    state = [[str(file.resolve()), (s := file.stat()).st_size, s.st_mtime_ns] for file in files]
    key = hashlib.sha256(json.dumps([reader, state]).encode()).hexdigest()[:24]
    path = paths.cache_folder() / "sets" / f"{name}-{key}.npz"
    if path.is_file():
        return path
    paths.make_folder(path.parent, "set SUBMISSION_CACHE to a folder that can")
    given = source()
    needed = given.count * int(np.prod(given.shape))
    log.info("%s: %s images are written once to %s (%s)", name, given.count, path, mib(needed))
    try:
        with replacing(path) as file:
            if shutil.disk_usage(path.parent).free < needed + 2**20:
                raise OSError(28, f"it needs {mib(needed)}")
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                _write(archive, given, name)
    except OSError as error:
        if error.filename in map(str, files):
            raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error
        what = f"{path} could not be written ({error.strerror})"
        raise UserError(f"{what}: free disk space, or set SUBMISSION_CACHE") from error
    return path


def _write(archive: zipfile.ZipFile, source: Source, name: str) -> None:
    small: dict[str, Any] = {"name": name, "factor_sizes": source.factor_sizes}
    small |= {"factor_names": source.factor_names, "observed": source.observed}
    for key, value in [*small.items(), ("factors", source.factors)]:
        if value is not None:
            with archive.open(npz_entry(key), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)
    bar = progress_bar(total=source.count, unit=" images", desc=f"reading {name}", delay=2)
    with archive.open(npz_entry("images"), "w", force_zip64=True) as member, bar:
        shape = (source.count, *source.shape)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)
        for images in source.batches():
            member.write(np.ascontiguousarray(images).data)
            bar.update(len(images))


def npz_entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))  # equal bytes each time
