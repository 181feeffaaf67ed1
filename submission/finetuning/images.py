"""Labelled images to finetune on: from the official files, or rendered on the fly."""

import logging
import mmap
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import gin
import numpy as np
import numpy.typing as npt
import torch

from submission.data.dataset import Dataset, md5_warning, open_dataset, verify
from submission.finetuning.network import AXES, FACTOR_SIZES, WIDE_SIZES
from submission.finetuning.processes import process_rank
from submission.render.rig import AXIS_VALUES
from submission.render.scene import axis_indices
from submission.runtime.config import configurable
from submission.runtime.errors import UserError
from submission.runtime.kinds import Count, CountOrNone, Share, Shares, Text, Texts, Weight, Whole

log = logging.getLogger(__name__)
# Rendered images for validation are numbered from here on; training never gets so far.
_VALIDATION = 2**40
Numbers = npt.NDArray[np.int64]
Batch = tuple[npt.NDArray[np.uint8], Numbers]


@dataclass(frozen=True)
class Source:
    """Numbered images to train on and to validate on.

    Attributes:
        load: image numbers int64 (n,) -> images uint8 (n, 64, 64, 3) and factors int64 (n, 7), in
            the order of rig.FACTOR_NAMES.
        epoch: number of an epoch, from 0 -> its images' numbers in the order of training; those of
            `validation` are in none.
        description: for the weight file. identity: the files' md5, where that does not tell.
        values: of each factor, FACTOR_SIZES or WIDE_SIZES.
    """

    load: Callable[[Numbers], Batch]
    epoch: Callable[[int], Numbers]
    validation: Numbers
    description: str
    identity: str = ""
    values: tuple[int, ...] = FACTOR_SIZES


@configurable
def open_source(folder: Path, threads: int = 1, images: Text = gin.REQUIRED) -> Source:
    """The images that the configuration asks for: "files" in `folder`, or "rendered" by so many
    threads."""
    if images not in ("files", "rendered"):
        raise UserError(f"open_source.images is {images!r}, it must be 'files' or 'rendered'")
    return file_source(folder) if images == "files" else rendered_source(threads)


@configurable
def file_source(
    folder: Path,
    datasets: Texts = gin.REQUIRED,
    training_share: Share = gin.REQUIRED,
    validation_images: CountOrNone = gin.REQUIRED,
    seed: Whole = gin.REQUIRED,
) -> Source:
    """Official files `folder`/<name>/<name>.npz, each split at random; shuffled anew every epoch.

    Args:
        training_share: of each file's images; the rest validates.
        validation_images: use only this many of the rest, None for all.

    Raises UserError for a file that is missing, compressed, damaged, or not of the 2019 grid, and a
    share that leaves none to validate.
    """
    files = [open_dataset(folder, name) for name in datasets]
    arrays = [file.array() for file in files]
    for array in arrays:
        # Random access: reading ahead would read images that are not asked for.
        array._mmap.madvise(mmap.MADV_RANDOM)  # type: ignore[attr-defined]
    first = np.cumsum([0, *(file.num_images for file in files)])
    parts = []
    for i, file in enumerate(files):
        labels(file, np.zeros(1, np.int64))  # refuses other grids before the work begins
        order = first[i] + np.random.default_rng([seed, i]).permutation(file.num_images)
        parts.append(np.split(order, [round(training_share * file.num_images)]))
    training, validation = map(np.concatenate, zip(*parts, strict=True))

    def load(numbers: Numbers) -> Batch:
        images = np.empty((len(numbers), 64, 64, 3), np.uint8)
        factors = np.empty((len(numbers), 7), np.int64)
        for i, file in enumerate(files):
            here = (first[i] <= numbers) & (numbers < first[i + 1])
            rows = numbers[here] - first[i]
            images[here], factors[here] = arrays[i][rows], labels(file, rows)
        return images, factors

    if not len(validation):
        what = f"file_source.training_share is {training_share}, which leaves no image to validate"
        raise UserError(f"{what} on: lower it")
    md5s = []
    for file in files:
        md5s.append(verify(file, progress=process_rank() == 0))
        if warning := md5_warning(file, md5s[-1]):
            log.warning(warning)
    rest = np.random.default_rng([seed, len(files)]).permutation(validation)[:validation_images]
    what = "; ".join([*(file.description for file in files), f"{training_share:.0%} of each"])

    def epoch(number: int) -> Numbers:
        return np.random.default_rng([seed, len(files) + 1, number]).permutation(training)

    return Source(load, epoch, rest, what, " ".join(md5s))


@configurable
def rendered_source(
    threads: int = 1,
    images_per_epoch: Count = gin.REQUIRED,
    validation_images: Count = gin.REQUIRED,
    mix: Shares = gin.REQUIRED,
    strength: Weight = gin.REQUIRED,
    free_objects: Share = gin.REQUIRED,
    seed: Whole = gin.REQUIRED,
) -> Source:
    """Renders of randomised appearance, none shown twice; see randomize.Look. The heads are wide as
    soon as any image may show other objects than the six simple solids."""
    # Imported here because its compiler is slow to import and every command imports this module.
    from submission.render.randomize import Look, render_random

    look = Look(mix, strength, free_objects)

    def load(numbers: Numbers) -> Batch:
        return render_random(seed, numbers, look, threads)

    def epoch(number: int) -> Numbers:
        return np.arange(number * images_per_epoch, (number + 1) * images_per_epoch)

    what = f"rendered; toy, realistic, real, complex look {tuple(mix)}, randomisation {strength}"
    what += f", free objects {free_objects}" if free_objects else ""
    values = WIDE_SIZES if mix[3] or free_objects else FACTOR_SIZES
    validation = np.arange(_VALIDATION, _VALIDATION + validation_images)
    return Source(load, epoch, validation, what, values=values)


def rendering_threads(device: torch.device, processes: int) -> int:
    """Threads that a process may render with. On a GPU all cores but one are idle; on a CPU one
    thread keeps up: it takes a thirtieth of the training's time."""
    cores = len(os.sched_getaffinity(0))
    return max(1, (cores - 1) // processes) if device.type == "cuda" else 1


def labels(dataset: Dataset, rows: Numbers, values: tuple[int, ...] = FACTOR_SIZES) -> Numbers:
    """The factors of a file's rows, int64 (n, 7): its own columns, in its own order.

    Both axes count 0..39 also in a thinned stand-in. The sixth column is tilt in toy, realistic
    and every stand-in. UserError if the factors have not so many `values` (an axis: at most): the
    first release had four colours and four shapes.
    """
    sizes = dataset.factor_sizes
    if sizes[:5] != values[:5] or max(sizes[5:]) > AXIS_VALUES:
        what = f"{dataset.path} has the grid {sizes}, the heads read {values}"
        raise UserError(f"{what}: use today's release of the data set")
    factors = dataset.factors(rows)
    for axis in AXES:
        if sizes[axis] > 1:
            factors[:, axis] = axis_indices(sizes[axis])[factors[:, axis]]
    return factors


def batches(
    source: Source, numbers: Numbers, batch_size: int, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """This process's share of each batch, loaded in a thread while the network works: reading and
    rendering release Python's lock."""
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for begin in range(0, len(numbers), batch_size):
            share = numbers[begin : begin + batch_size][rank::world]
            if len(share):
                waiting.append(pool.submit(source.load, share))
            if len(waiting) > 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
