"""Section 2.2: every image of the data set becomes one feature vector, once, in bounded memory.

The vectors go to `<cache>/features/<key>.npy`, float32 (num_images, 512), in data-set order. The
key hashes the data file and the weights, so that runs with other VAE settings share one extraction.
"""

import hashlib
import mmap
import os
import shutil
from io import BytesIO, FileIO
from pathlib import Path

import gin
import numpy as np
import torch

from submission.data.dataset import Dataset
from submission.features.extractor import FEATURE_SIZE, Extractor
from submission.runtime import paths, signals
from submission.runtime.config import configurable
from submission.runtime.device import fast_cpu
from submission.runtime.errors import UserError
from submission.runtime.files import locked
from submission.runtime.kinds import Count
from submission.runtime.limits import mib
from submission.runtime.progress import progress_bar

_ROW_BYTES = FEATURE_SIZE * 4


def cache_key(data_md5: str, weights_sha256: str, extractor: Extractor) -> str:
    """Name of the cached features: 24 hex digits of what they are computed from."""
    kind = f"{type(extractor.aggregation).__name__}-{extractor.resolution}"
    return hashlib.sha256(f"{data_md5}-{weights_sha256}-{kind}".encode()).hexdigest()[:24]


def cached_features(key: str) -> Path:
    return paths.cache_folder() / "features" / f"{key}.npy"


@configurable
def extract_features(
    dataset: Dataset,
    extractor: Extractor,
    path: Path,
    device: torch.device,
    batch_size: Count = gin.REQUIRED,
    progress: bool = True,
) -> None:
    """Writes the features of all images to `path` (npy, float32 (num_images, 512)), which appears
    only when the file is complete; a finished one is left alone. Killed at any moment, the next
    call goes on from the last whole batch; SIGTERM and Ctrl-C wait for the end of a batch.

    Args:
        extractor: in evaluation mode, as load_extractor returns it.
        device: where the network runs: channels_last, and on a GPU bfloat16 autocast.

    Raises UserError if the disk is full, another run is writing the same file, or a finished file
    has been cut short since; Stopped for a signal: what was computed is in `<path>.part`.
    """
    part = path.with_suffix(".part")
    header = _npy_header((dataset.num_images, FEATURE_SIZE))
    if path.exists():
        if path.stat().st_size != len(header) + dataset.num_images * _ROW_BYTES:
            raise UserError(f"{path} is damaged: delete it, and the features are extracted again")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock")), open(part, "a+b", buffering=0) as file:
        done = min(_whole_batches(file, header, batch_size) * batch_size, dataset.num_images)
        file.truncate(len(header) + done * _ROW_BYTES)
        _refuse_full_disk(path.parent, (dataset.num_images - done) * _ROW_BYTES)
        network = extractor.to(device).to(memory_format=torch.channels_last)
        settings = {"total": dataset.num_images, "initial": done, "disable": not progress}
        bar = progress_bar(desc="features", unit=" images", **settings)
        with bar, signals.held(), torch.inference_mode(), fast_cpu(device):
            for images in dataset.batches(batch_size, start=done):
                batch = to_float(images, device).contiguous(memory_format=torch.channels_last)
                with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
                    vectors = network(batch)
                _write(file, vectors.float().cpu().numpy().tobytes())
                done += len(images)
                bar.update(len(images))
                if (asked := signals.asked()) and done < dataset.num_images:
                    what = f"features of {done:,} of {dataset.num_images:,} images are in {part}"
                    signals.stop(asked, what)
        os.fsync(file.fileno())
        os.replace(part, path)


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
    """uint8 (N, 64, 64, 3) -> float32 (N, 3, 64, 64) in [0, 1] on `device`."""
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
