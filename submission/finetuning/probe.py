"""`probe`: what the extractor and its heads read in labelled images, factor by factor.

It tells whether a weight file fits one's data before a submission is spent on them. The axes'
columns are tilt and pan, in this order, as in all of this project.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from submission.data.dataset import Dataset
from submission.data.factors import IMAGE_SHAPE
from submission.features.extraction import to_float
from submission.features.weights import load_extractor
from submission.finetuning import animation
from submission.finetuning.configuration import load_finetuning
from submission.finetuning.images import labels
from submission.finetuning.network import AXES, FACTOR_SIZES
from submission.finetuning.weights import read_heads
from submission.render.domains import REAL
from submission.render.rig import AXIS_VALUES, FACTOR_NAMES
from submission.render.scene import factor_sizes
from submission.runtime.errors import UserError
from submission.runtime.files import replacing
from submission.runtime.progress import progress_bar

BATCH_SIZE = 64
COMPLEX_SIZES = factor_sizes("complex")
Numbers = npt.NDArray[np.int64]


def scores(read: Numbers, true: Numbers, complex_objects: bool) -> dict[str, dict[str, float]]:
    """How well `read` agrees with `true`, both int64 (n, 7) in the order of scene.FACTOR_NAMES.

    Returns:
        For each discrete factor `mean_over_values` (the accuracy on the images of one value,
        averaged over the values that occur), `accuracy` (over all images) and `constant_guess`
        (the accuracy of always naming the most frequent value). For tilt and pan `error` (mean
        absolute, in steps), `within_one_step` (share), and `constant_guess` (the mean absolute
        error of the median). For `arm` the `median_angle` and the share `within_10_degrees`
        between read and true arm direction. Complex objects have no colour and no shape here:
        they are not the ones that the heads know.
    """
    result: dict[str, dict[str, float]] = {}
    for i, name in enumerate(FACTOR_NAMES):
        r, t = read[:, i], true[:, i]
        if i in AXES:
            error = np.abs(r - t)
            result[name] = {
                "error": float(error.mean()),
                "within_one_step": float((error <= 1).mean()),
                "constant_guess": float(np.abs(t - np.median(t)).mean()),
            }
        elif not (complex_objects and i < 2):
            values, counts = np.unique(t, return_counts=True)
            result[name] = {
                "mean_over_values": float(np.mean([(r[t == v] == v).mean() for v in values])),
                "accuracy": float((r == t).mean()),
                "constant_guess": float(counts.max() / len(t)),
            }
    cosine = np.sum(arm_direction(*read[:, AXES].T) * arm_direction(*true[:, AXES].T), axis=1)
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    result["arm"] = {
        "median_angle": float(np.median(angle)),
        "within_10_degrees": float((angle <= 10).mean()),
    }
    return result


def arm_direction(tilt: Numbers, pan: Numbers) -> npt.NDArray[np.float64]:
    """Unit vectors (n, 3) along the arm for axis indices 0..39 (n,).

    By the real rig's numbers; the other rigs' differ by less than a degree.
    """
    middle = (AXIS_VALUES - 1) / 2
    theta = np.radians((tilt - middle) * REAL.tilt_step + REAL.tilt_zero)
    phi = np.radians((pan - middle) * REAL.pan_step + REAL.pan_zero)
    return np.stack(
        [np.sin(theta) * np.sin(phi), np.sin(theta) * np.cos(phi), np.cos(theta)], axis=1
    )


def read_factors(
    weights: Path, heads: Path, images: npt.NDArray[np.uint8], device: torch.device
) -> Numbers:
    """The most likely value of each factor: uint8 (n, 64, 64, 3) -> int64 (n, 7)."""
    load_finetuning(Path("finetune.gin"))
    extractor = load_extractor(weights).to(device).to(memory_format=torch.channels_last)
    layers = [(weight.to(device), bias.to(device)) for weight, bias in read_heads(heads)]
    read = []
    bar = progress_bar(total=len(images), desc="reading", unit=" images", delay=2)
    with bar, torch.inference_mode():
        for begin in range(0, len(images), BATCH_SIZE):
            batch = to_float(images[begin : begin + BATCH_SIZE], device)
            vectors = extractor(batch.contiguous(memory_format=torch.channels_last))
            best = [(vectors @ weight.T + bias).argmax(dim=1) for weight, bias in layers]
            read.append(torch.stack(best, dim=1).cpu().numpy())
            bar.update(len(batch))
    return np.concatenate(read)


def labelled_frames(path: Path, complex_objects: bool) -> tuple[npt.NDArray[np.uint8], Numbers]:
    """The arrays `images` uint8 (n, 64, 64, 3) and `factors` whole numbers (n, 7) of an npz file.

    Raises:
        UserError: no such file, an array missing or of another form, or a value that no factor
            has.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            images, factors = file["images"], file["factors"]
    except FileNotFoundError as error:
        raise UserError(f"no file {path}: check its name") from error
    except (
        KeyError, ValueError, TypeError, EOFError, OSError, AttributeError, NotImplementedError,
        RuntimeError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise UserError(
            f"{path} is no npz file with plain arrays 'images' and 'factors' ({error}): write it "
            "with numpy.savez"
        ) from error
    if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE or len(images) == 0:
        raise UserError(
            f"{path}: 'images' is {images.dtype} {images.shape}, it must be uint8 (n, 64, 64, 3)"
        )
    if factors.shape != (len(images), 7) or not np.issubdtype(factors.dtype, np.integer):
        raise UserError(
            f"{path}: 'factors' is {factors.dtype} {factors.shape}, it must be whole numbers "
            f"({len(images)}, 7)"
        )
    sizes = COMPLEX_SIZES if complex_objects else FACTOR_SIZES
    if np.any(factors < 0) or np.any(factors >= np.array(sizes)):
        raise UserError(
            f"{path}: 'factors' must lie within {sizes}; they are, in this order, "
            f"{', '.join(FACTOR_NAMES)} (--complex for complex objects)"
        )
    return images, factors.astype(np.int64)


def labelled_sample(dataset: Dataset, count: int) -> tuple[npt.NDArray[np.uint8], Numbers]:
    """`count` images of a data file, drawn with a fixed seed, and their factors, int64 (n, 7).

    The factors are the file's own columns, axes counted 0..39. A compressed file is read whole,
    once.

    Raises:
        UserError: a grid that is neither MPI3D's of six colours and shapes nor the complex one.
    """
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


def table(result: dict[str, dict[str, float]]) -> str:
    """The scores as aligned text."""
    lines = [f"{'':<18}{'mean over values':>18}{'accuracy':>12}{'constant guess':>17}"]
    for name, row in result.items():
        if "accuracy" in row:
            lines.append(
                f"{name:<18}{row['mean_over_values']:>16.1%}  {row['accuracy']:>11.1%} "
                f"{row['constant_guess']:>16.1%}"
            )
    lines += ["", f"{'':<18}{'mean abs. error':>18}{'within 1':>12}{'constant guess':>17}"]
    for name in ("tilt", "pan"):
        row = result[name]
        lines.append(
            f"{name:<18}{row['error']:>12.2f} steps{row['within_one_step']:>12.1%}"
            f"{row['constant_guess']:>11.2f} steps"
        )
    arm = result["arm"]
    lines.append(
        f"\narm direction: median {arm['median_angle']:.1f} degrees off, "
        f"{arm['within_10_degrees']:.1%} within 10 degrees"
    )
    return "\n".join(lines)


def on_own_panel(
    read: Numbers, found: animation.Labels, complex_objects: bool
) -> dict[str, dict[str, float]]:
    """Each factor on the frames of the panel that moves it, where a constant guess is no help:
    `mean_over_values`, and for tilt and pan the `error`, as in `scores`."""
    result: dict[str, dict[str, float]] = {}
    for panel, factor in enumerate(found.moves):
        name, key = FACTOR_NAMES[factor], "error" if factor in AXES else "mean_over_values"
        own = scores(read[:, panel], found.factors[:, panel], complex_objects)
        if name in own:
            result[name] = {key: own[name][key]}
    return result


def own_panels(moved: dict[str, dict[str, float]]) -> str:
    """What on_own_panel found, as aligned text."""
    lines = ["on the panel that moves the factor, mean over values or mean abs. error"]
    for name, row in moved.items():
        score = (
            f"{row['error']:>12.2f} steps"
            if "error" in row
            else f"{row['mean_over_values']:>16.1%}"
        )
        lines.append(f"{name:<18}{score}")
    return "\n".join(lines)


def draw_confusion(
    read: Numbers, true: Numbers, complex_objects: bool, what: str, path: Path
) -> None:
    """A PNG: for each factor the share of each true value (row) that was read as each value.

    Its title is `what` the images are, so that a stand-in's is not taken for MPI3D's.
    """
    import matplotlib

    matplotlib.use("Agg")  # no screen is needed, nor is one there on a server
    import matplotlib.pyplot as plt

    shown = [i for i in range(7) if not (complex_objects and i < 2)]
    figure, panels = plt.subplots(1, len(shown), figsize=(2.4 * len(shown), 2.8), squeeze=False)
    for panel, i in zip(panels[0], shown, strict=True):
        counts = np.zeros((FACTOR_SIZES[i], FACTOR_SIZES[i]))
        np.add.at(counts, (true[:, i], read[:, i]), 1)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        panel.set_title(FACTOR_NAMES[i], fontsize=9)
        panel.set_xlabel("read", fontsize=8)
        panel.tick_params(labelsize=7)
        if i not in AXES:
            panel.set_xticks(range(FACTOR_SIZES[i]))
            panel.set_yticks(range(FACTOR_SIZES[i]))
    panels[0, 0].set_ylabel("true", fontsize=8)
    figure.suptitle(what, fontsize=8)
    figure.tight_layout()
    with replacing(path) as file:
        figure.savefig(file, dpi=110, format="png")
    plt.close(figure)
