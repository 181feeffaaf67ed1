"""Section 2.2: every image of the data set becomes one feature vector, once, in bounded memory.

The vectors go to `<cache>/features/<key>.npy`, float32 (num_images, 512), in data-set order; those
of a network that multiplied in bfloat16 to `<key>.bfloat16.npy`. The key hashes the data file and
the weights, so that runs with other VAE settings share one extraction.
"""

import hashlib
import logging
import mmap
import os
import shutil
from io import BytesIO, FileIO
from pathlib import Path

import gin
import numpy as np
import torch

from submission.data.subset import Images
from submission.features.bfloat16 import InBfloat16
from submission.features.extractor import FEATURE_SIZE, Extractor, channels_last
from submission.runtime import paths, signals
from submission.runtime.config import configurable
from submission.runtime.device import bfloat16_is_faster, fast_cpu
from submission.runtime.errors import UserError
from submission.runtime.files import locked
from submission.runtime.kinds import Count, Switch
from submission.runtime.limits import mib
from submission.runtime.progress import progress_bar

log = logging.getLogger(__name__)

_ROW_BYTES = FEATURE_SIZE * 4
_BFLOAT16 = ".bfloat16.npy"


def cache_key(data_md5: str, weights_sha256: str, extractor: Extractor) -> str:
    """Name of the cached features: 24 hex digits of what they are computed from."""
    kind = f"{type(extractor.aggregation).__name__}-{extractor.resolution}"
    return hashlib.sha256(f"{data_md5}-{weights_sha256}-{kind}".encode()).hexdigest()[:24]


def cached_features(key: str) -> Path:
    return paths.cache_folder() / "features" / f"{key}.npy"


@configurable
def extract_features(
    dataset: Images,
    extractor: Extractor,
    path: Path,
    device: torch.device,
    batch_size: Count = gin.REQUIRED,
    bfloat16: Switch = gin.REQUIRED,
    began: Path | None = None,
    progress: bool = True,
) -> Path:
    """Writes the features of all images (npy, float32 (num_images, 512)) to `path`, or to the file
    of bfloat16's beside it, and returns which. The file appears only when it is complete; a
    finished one is left alone. Killed at any moment, the next call goes on from the last whole
    batch; SIGTERM and Ctrl-C wait for the end of a batch.

    Args:
        extractor: in evaluation mode, as load_extractor returns it.
        device: where the network runs: channels_last.
        bfloat16: multiply in bfloat16 where that is faster, unless float32's features are there, or
            begun. What is begun is ended in the same precision, on any machine.
        began: what an earlier call returned to the run that goes on with it now.
        progress: show a bar, and log which file it is.

    Raises UserError if the disk is full, the folder cannot be written, another run is writing the
    same file, or a finished file has been cut short since; Stopped for a signal: what was computed
    is in `<file>.part`.
    """
    path = began or _choose(path, bfloat16, device)
    part, fast = path.with_suffix(".part"), path.name.endswith(_BFLOAT16)
    if progress:
        log.info("features: %s, multiplied in %s", path, "bfloat16" if fast else "float32")
    header = _npy_header((dataset.num_images, FEATURE_SIZE))
    if path.exists():
        if path.stat().st_size != len(header) + dataset.num_images * _ROW_BYTES:
            raise UserError(f"{path} is damaged: delete it, and the features are extracted again")
        return path
    # Only now: a cache that has them need not be written.
    paths.make_folder(path.parent, "set SUBMISSION_CACHE to a folder that can")
    with locked(path.with_suffix(".lock")), open(part, "a+b", buffering=0) as file:
        done = min(_whole_batches(file, header, batch_size) * batch_size, dataset.num_images)
        file.truncate(len(header) + done * _ROW_BYTES)
        _refuse_full_disk(path.parent, (dataset.num_images - done) * _ROW_BYTES)
        plain = channels_last(extractor.to(device))
        network = InBfloat16(plain) if fast else plain
        settings = {"total": dataset.num_images, "initial": done, "disable": not progress}
        bar = progress_bar(desc="features", unit=" images", **settings)
        with bar, signals.held(), torch.inference_mode(), fast_cpu(device):
            for images in dataset.batches(batch_size, start=done):
                batch = to_float(images, device).contiguous(memory_format=torch.channels_last)
                _write(file, network(batch).cpu().numpy().tobytes())
                done += len(images)
                bar.update(len(images))
                if (asked := signals.asked()) and done < dataset.num_images:
                    what = f"features of {done:,} of {dataset.num_images:,} images are in {part}"
                    signals.stop(asked, what)
        os.fsync(file.fileno())
        os.replace(part, path)
    return path


def _choose(path: Path, bfloat16: bool, device: torch.device) -> Path:
    """`path` or bfloat16's file beside it: what is there, else what is begun, else the faster."""
    if not bfloat16:
        return path
    both = [path, path.with_suffix(_BFLOAT16)]
    for file in (*both, *(own.with_suffix(".part") for own in both)):
        if file.exists():
            return file.with_suffix(".npy")
    return both[bfloat16_is_faster(device)]


def _whole_batches(file: FileIO, header: bytes, batch_size: int) -> int:
    """How many batches an unfinished file holds; one of another header is begun anew.

    A part of a batch does not count: the last bits of a row depend on the batch it was computed in,
    and a resumed extraction must equal an uninterrupted one.
    """
    have = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(len(header)) != header:
        file.truncate(0)
        _write(file, header)
        return 0
    return (have - len(header)) // (_ROW_BYTES * batch_size)


def _refuse_full_disk(folder: Path, needed: int) -> None:
    if (free := shutil.disk_usage(folder).free) < needed:
        what = f"the features need {mib(needed)} in {folder} and {mib(free)} are free"
        raise UserError(f"{what}: free some, or name another folder in SUBMISSION_CACHE")


def _write(file: FileIO, rows: bytes) -> None:
    left = memoryview(rows)
    try:
        while left:  # a nearly full disk takes only a part at a time
            left = left[file.write(left) :]
    except OSError as error:
        what = f"{file.name} could not be written ({error.strerror}): free disk space there, or"
        how = "name another folder in SUBMISSION_CACHE; what is in it is kept"
        raise UserError(f"{what} {how}") from error


def to_float(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """uint8 (N, H, W, C) -> float32 (N, C, H, W) in [0, 1] on `device`."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div_(255.0)


def open_features(path: Path, device: torch.device, in_memory: bool = False) -> torch.Tensor:
    """The features as a float32 tensor (num_images, 512).

    On a GPU all of it (2.1 GB for a million images) goes to the device once, so that no step waits
    for the bus. On the CPU it is read into memory if `in_memory`, else mapped: the system reads the
    pages that are touched and may drop them again.
    """
    if in_memory and device.type == "cpu":
        return torch.from_numpy(np.load(path, allow_pickle=False))
    mapped = np.load(path, mmap_mode="c", allow_pickle=False)
    if device.type == "cpu":
        # Rows of half a page in random order: reading 128 kB ahead at each would be wasted.
        mapped._mmap.madvise(mmap.MADV_RANDOM)
    features = torch.from_numpy(mapped)
    return features if device.type == "cpu" else features.to(device)


def _npy_header(shape: tuple[int, int]) -> bytes:
    buffer = BytesIO()
    description = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()
