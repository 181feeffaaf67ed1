"""`probe`: what the extractor and its heads read in labelled images, factor by factor.

It tells whether a weight file fits one's data before a submission is spent on them. The axes'
columns are tilt and pan, in this order, as in all of this project.
"""

import json
import textwrap
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from submission.data.dataset import Dataset
from submission.data.factors import IMAGE_SHAPE
from submission.features.extraction import to_float
from submission.features.extractor import Extractor, channels_last
from submission.features.weights import load_extractor
from submission.finetuning import animation
from submission.finetuning.images import labels
from submission.finetuning.network import AXES, COMPLEX_SIZES, FACTOR_SIZES, named_values, readable
from submission.finetuning.scores import scores, table
from submission.finetuning.weights import read_heads
from submission.render.rig import COLOURS, FACTOR_NAMES
from submission.runtime.errors import UserError
from submission.runtime.progress import progress_bar
from submission.runtime.text import aligned

BATCH_SIZE = 64
Images = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reader:
    """Extractor and heads of two files. UserError for a file that does not hold them."""

    weights: Path
    heads: Path
    device: torch.device

    @cached_property
    def wide(self) -> bool:
        """Whether the heads know complex objects' colours and shapes."""
        return len(read_heads(self.heads)[0][1]) == len(COLOURS)

    def read(self, images: Images, batch_size: int = BATCH_SIZE) -> Numbers:
        """The most likely value of each factor: uint8 (n, 64, 64, 3) -> int64 (n, 7)."""
        extractor = load_extractor(self.weights, Extractor(aggregation="learned", resolution=64))
        channels_last(extractor.to(self.device))
        heads = read_heads(self.heads)
        layers = [(weight.to(self.device), bias.to(self.device)) for weight, bias in heads]
        read = []
        bar = progress_bar(total=len(images), desc="reading", unit=" images", delay=2)
        with bar, torch.inference_mode():
            for begin in range(0, len(images), batch_size):
                batch = to_float(images[begin : begin + batch_size], self.device)
                vectors = extractor(batch.contiguous(memory_format=torch.channels_last))
                best = [(vectors @ weight.T + bias).argmax(dim=1) for weight, bias in layers]
                read.append(torch.stack(best, dim=1).cpu().numpy())
                bar.update(len(batch))
        return np.concatenate(read)


@dataclass(frozen=True)
class Probe:
    """Labelled images and what is read in them: the factors, int64 (n, 7), as the heads call them,
    and the columns that these know."""

    what: str  # the images are
    true: Numbers
    read: Numbers
    columns: range
    note: str = ""  # how the labels were found, if they were not given
    moved: dict[str, dict[str, float]] = field(default_factory=dict)  # see on_own_panel

    def as_json(self) -> str:
        answer: dict[str, Any] = {"images": len(self.true), "what": self.what}
        answer["scores"] = scores(self.read, self.true, self.columns)
        answer |= {"on_own_panel": self.moved} if self.moved else {}
        answer |= {"note": self.note} if self.note else {}
        return json.dumps(answer, indent=2)

    def as_text(self) -> str:
        parts = [self.what, table(scores(self.read, self.true, self.columns))]
        if self.moved:
            rows = []
            for name, row in self.moved.items():
                (score,) = row.values()
                rows.append([name, f"{score:.2f} steps" if "error" in row else f"{score:.1%}"])
            title = "on the panel that moves the factor, mean over values or mean abs. error"
            parts.append("\n".join([title, *aligned(rows)]))
        if self.note:
            parts.append(textwrap.fill(self.note, 100))
        return "\n\n".join(parts)


def probe_animation(path: Path, complex_objects: bool, reader: Reader) -> Probe:
    """A sample animation of MPI3D; UserError as read_animation."""
    frames = animation.read_animation(path)
    read = reader.read(frames.reshape(-1, *IMAGE_SHAPE))
    panels = read.reshape(*frames.shape[:2], len(FACTOR_SIZES))
    found = animation.inferred_labels(panels, named_values(complex_objects, reader.wide))
    columns = readable(complex_objects, reader.wide)
    note = (
        "An animation carries no labels: each factor's course follows from where it starts, "
        "and the start was taken that agrees best with what was read in its panel. All panels "
        f"start at {animation.described(found, columns)}: look whether that is so. The "
        "first table counts all frames, most of which show this one configuration."
    )
    what = f"{path.name}: {len(frames)} frames of {animation.PANELS} panels"
    moved = on_own_panel(panels, found, columns)
    return Probe(what, found.factors.reshape(read.shape), read, columns, note, moved)


def probe_frames(path: Path, complex_objects: bool, reader: Reader) -> Probe:
    """An npz file of labelled frames; UserError as labelled_frames."""
    images, true = labelled_frames(path, complex_objects)
    true = _named(true, complex_objects, reader.wide)
    columns = readable(complex_objects, reader.wide)
    return Probe(f"{path.name}: {len(images)} images", true, reader.read(images), columns)


def probe_dataset(dataset: Dataset, count: int, reader: Reader) -> Probe:
    """`count` images of a data file; UserError as labelled_sample."""
    images, true = labelled_sample(dataset, count)
    read = reader.read(images)
    true, note = axes_as_tilt_and_pan(dataset, read, true)
    objects = dataset.name == "mpi3d_real_complex", reader.wide
    what = f"{len(images)} images of {dataset.description}"
    return Probe(what, _named(true, *objects), read, readable(*objects), note)


def _named(factors: Numbers, complex_objects: bool, wide: bool) -> Numbers:
    """A data set's own values (n, 7) as the heads call them."""
    values = named_values(complex_objects, wide)
    return np.stack([np.array(v)[factors[:, i]] for i, v in enumerate(values)], axis=1)


def labelled_frames(path: Path, complex_objects: bool) -> tuple[Images, Numbers]:
    """The arrays `images` uint8 (n, 64, 64, 3) and `factors` whole numbers (n, 7) of an npz file.
    UserError: no such file, an array missing or of another form, or a value that no factor has."""
    try:
        with np.load(path, allow_pickle=False) as file:
            images, factors = file["images"], file["factors"]
    except FileNotFoundError as error:
        raise UserError(f"no file {path}: check its name") from error
    except Exception as error:  # numpy raises whatever damaged bytes lead it to
        what = f"{path} is no npz file with plain arrays 'images' and 'factors' ({error})"
        raise UserError(f"{what}: write it with numpy.savez") from error
    if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE or len(images) == 0:
        what = f"{path}: 'images' is {images.dtype} {images.shape}"
        raise UserError(f"{what}, it must be uint8 (n, 64, 64, 3)")
    if factors.shape != (len(images), 7) or not np.issubdtype(factors.dtype, np.integer):
        what = f"{path}: 'factors' is {factors.dtype} {factors.shape}"
        raise UserError(f"{what}, it must be whole numbers ({len(images)}, 7)")
    sizes = COMPLEX_SIZES if complex_objects else FACTOR_SIZES
    if np.any(factors < 0) or np.any(factors >= np.array(sizes)):
        what = f"{path}: 'factors' must lie within {sizes}; they are, in this order, "
        raise UserError(f"{what}{', '.join(FACTOR_NAMES)} (--complex for complex objects)")
    return images, factors.astype(np.int64)


def labelled_sample(dataset: Dataset, count: int) -> tuple[Images, Numbers]:
    """`count` images of a data file, drawn with a fixed seed, and their factors, int64 (n, 7), as
    `labels` gives them. A compressed file is read whole, once. UserError as `labels`."""
    sizes = COMPLEX_SIZES if dataset.name == "mpi3d_real_complex" else FACTOR_SIZES
    count = min(count, dataset.num_images)
    rows = np.sort(np.random.default_rng(0).choice(dataset.num_images, count, replace=False))
    return dataset.images_at(rows), labels(dataset, rows, sizes)


def axes_as_tilt_and_pan(dataset: Dataset, read: Numbers, true: Numbers) -> tuple[Numbers, str]:
    """`true` with column 5 tilt and column 6 pan, and a note if that is not the file's order.

    In toy, realistic and every stand-in the file has this order. The makers' real files have no
    settled one, so there the order is taken in which the reading makes smaller errors.
    """
    if dataset.stand_in is not None or dataset.name in ("mpi3d_toy", "mpi3d_realistic"):
        return true, ""
    other = true[:, [0, 1, 2, 3, 4, 6, 5]]
    errors = [int(np.abs(read - t)[:, AXES].sum()) for t in (true, other)]
    if errors[0] <= errors[1]:
        return true, "horizontal_axis was taken for the tilt, which fits better"
    return other, "vertical_axis was taken for the tilt, which fits better"


def on_own_panel(
    read: Numbers, found: animation.Labels, columns: range
) -> dict[str, dict[str, float]]:
    """Each factor on the frames of the panel that moves it, where a constant guess is no help:
    `mean_over_values`, and for tilt and pan the `error`, as in `scores`."""
    result: dict[str, dict[str, float]] = {}
    for panel, factor in enumerate(found.moves):
        name, key = FACTOR_NAMES[factor], "error" if factor in AXES else "mean_over_values"
        own = scores(read[:, panel], found.factors[:, panel], columns)
        if name in own:
            result[name] = {key: own[name][key]}
    return result
