"""Some images of a data set, read from its file without the others."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from submission.data.dataset import Dataset
from submission.runtime.errors import UserError

SEED = 0


class Images(Protocol):
    """What reading images in order needs: a Dataset, or a Subset of one."""

    @property
    def num_images(self) -> int: ...

    def batches(self, batch_size: int, start: int = 0) -> Iterator[np.ndarray]:
        """As Dataset.batches."""
        ...


@dataclass(frozen=True)
class Subset:
    """The images of `whole` in these rows, ascending: (n,) int64."""

    whole: Dataset
    rows: npt.NDArray[np.int64] = field(compare=False)

    @property
    def num_images(self) -> int:
        return len(self.rows)

    @property
    def part(self) -> str:
        """What tells its features from those of all images."""
        told = hashlib.sha256(self.rows.astype("<i8").tobytes()).hexdigest()[:12]
        return f"-{self.num_images}-{told}"

    @property
    def path(self) -> Path:
        return self.whole.path

    def batches(self, batch_size: int, start: int = 0) -> Iterator[np.ndarray]:
        """Yields uint8 (<= batch_size, *shape) in ascending order, from the subset's image `start`
        on. Of a file that is not compressed only these images are read."""
        if self.whole.offset is not None:
            for begin in range(start, len(self.rows), batch_size):
                yield self.whole.images_at(self.rows[begin : begin + batch_size])
            return
        wanted, first = self.rows[start:], 0
        held: list[npt.NDArray[np.uint8]] = []
        for images in self.whole.batches(batch_size):
            inside = wanted[(wanted >= first) & (wanted < first + len(images))] - first
            held.extend(images[inside])
            first += len(images)
            while len(held) >= batch_size:
                yield np.stack(held[:batch_size])
                del held[:batch_size]
            if first > self.rows[-1]:
                break
        if held:
            yield np.stack(held)


def random_subset(dataset: Dataset, count: int) -> Subset:
    """So many images, drawn without replacement by SEED. Raises UserError for fewer than two, or
    more than there are."""
    if not 2 <= count <= dataset.num_images:
        what = f"--images {count:,} must be from 2 to the {dataset.num_images:,} images"
        raise UserError(f"{what} of {dataset.path}")
    drawn = np.random.default_rng(SEED).choice(dataset.num_images, count, replace=False)
    return Subset(dataset, np.sort(drawn))
