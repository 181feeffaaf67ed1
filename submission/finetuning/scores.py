"""How well readings of labelled images agree with the labels: scores, their table, a figure."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from submission.finetuning.network import AXES, FACTOR_SIZES
from submission.render.rig import AXIS_VALUES, FACTOR_NAMES
from submission.render.scene import rig_of
from submission.runtime.files import replacing
from submission.runtime.text import aligned

Numbers = npt.NDArray[np.int64]


def scores(read: Numbers, true: Numbers, columns: range) -> dict[str, dict[str, float]]:
    """How well `read` agrees with `true`, both int64 (n, 7) in the order of rig.FACTOR_NAMES, in
    the `columns` that the heads know.

    For each discrete factor `mean_over_values` (the accuracy on the images of one value, averaged
    over the values that occur), `accuracy` (over all images) and `constant_guess` (the accuracy of
    always naming the most frequent value). For tilt and pan `error` (mean absolute, in steps),
    `within_one_step` (share), and `constant_guess` (the mean absolute error of the median). For
    `arm` the `median_angle` and the share `within_10_degrees` between read and true arm direction.
    """
    result: dict[str, dict[str, float]] = {}
    for i in columns:
        name, r, t = FACTOR_NAMES[i], read[:, i], true[:, i]
        if i in AXES:
            error, guess = np.abs(r - t), np.abs(t - np.median(t)).mean()
            near = (error <= 1).mean()
            row = dict(error=error.mean(), within_one_step=near, constant_guess=guess)
        else:
            values, counts = np.unique(t, return_counts=True)
            mean, guess = np.mean([(r[t == v] == v).mean() for v in values]), counts.max() / len(t)
            row = dict(mean_over_values=mean, accuracy=(r == t).mean(), constant_guess=guess)
        result[name] = {key: float(value) for key, value in row.items()}
    cosine = np.sum(arm_direction(*read[:, AXES].T) * arm_direction(*true[:, AXES].T), axis=1)
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    near = float((angle <= 10).mean())
    return result | {"arm": {"median_angle": float(np.median(angle)), "within_10_degrees": near}}


def arm_direction(tilt: Numbers, pan: Numbers) -> npt.NDArray[np.float64]:
    """Unit vectors (n, 3) along the arm for axis indices 0..39 (n,), by the real rig's numbers; the
    other rigs' differ by less than a degree."""
    rig, middle = rig_of("real"), (AXIS_VALUES - 1) / 2
    theta = np.radians((tilt - middle) * rig.tilt_step + rig.tilt_zero)
    phi = np.radians((pan - middle) * rig.pan_step + rig.pan_zero)
    level = np.sin(theta)
    return np.stack([level * np.sin(phi), level * np.cos(phi), np.cos(theta)], axis=1)


def table(result: dict[str, dict[str, float]]) -> str:
    rows = [["", "mean over values", "accuracy", "constant guess"]]
    for name, row in result.items():
        if "accuracy" in row:
            rows.append([name, *(f"{share:.1%}" for share in row.values())])
    rows += [[""] * 4, ["", "mean abs. error", "within 1", "constant guess"]]
    for name in ("tilt", "pan"):
        row = result[name]
        error, guess = (f"{row[key]:.2f} steps" for key in ("error", "constant_guess"))
        rows.append([name, error, f"{row['within_one_step']:.1%}", guess])
    angle, near = result["arm"].values()
    arm = f"arm direction: median {angle:.1f} degrees off, {near:.1%} within 10 degrees"
    return "\n".join([*aligned(rows), "", arm])


def draw_confusion(read: Numbers, true: Numbers, columns: range, what: str, path: Path) -> None:
    """A PNG: for each factor the share of each true value (row) that was read as each value, under
    `what` the images are, so that a stand-in's is not taken for MPI3D's."""
    # Imported here: a training that draws nothing does without.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.4 * len(columns), 2.8))
    panels = figure.subplots(1, len(columns), squeeze=False)
    for panel, i in zip(panels[0], columns, strict=True):
        size = int(max(read[:, i].max(), true[:, i].max(), FACTOR_SIZES[i] - 1)) + 1
        counts = np.zeros((size, size))
        np.add.at(counts, (true[:, i], read[:, i]), 1)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        panel.set_title(FACTOR_NAMES[i], fontsize=9)
        panel.set_xlabel("read", fontsize=8)
        panel.tick_params(labelsize=7)
        if i not in AXES:
            panel.set(xticks=range(size), yticks=range(size))
    panels[0, 0].set_ylabel("true", fontsize=8)
    figure.suptitle(what, fontsize=8)
    figure.tight_layout()
    with replacing(path) as file:
        figure.savefig(file, dpi=110, format="png")
