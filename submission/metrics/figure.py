"""scores.png: a run's scores and learning curves in one figure."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from submission.metrics.settings import TITLES
from submission.runtime.files import read_csv, replacing


def draw_run(folder: Path) -> None:
    """Draws the scores (scores.json) beside the ideal code's and the paper's, and the learning
    curves (losses.csv, if the run was trained here) into scores.png of the same folder."""
    losses = folder / "losses.csv"
    columns, width = (2, 11) if losses.exists() else (1, 6)
    figure = Figure(figsize=(width, 3.8))
    axes = figure.subplots(1, columns, squeeze=False)[0]
    _bars(axes[0], json.loads((folder / "scores.json").read_text()))
    if losses.exists():
        _curves(axes[1], losses)
    figure.tight_layout()
    with replacing(folder / "scores.png") as file:
        figure.savefig(file, dpi=110, format="png")


def _bars(axis: Axes, scores: dict[str, Any]) -> None:
    data = scores["data"]
    shown = [name for name in TITLES if name in scores["scores"]["headline"]]
    places = np.arange(len(shown))
    columns = {
        "this run" + (" (stand-in)" if data["stand_in"] else ""): scores["scores"]["headline"],
        "ideal code": scores["ideal_code"]["headline"],
    }
    if paper := scores["paper"]:
        columns[f"paper, {paper['measured_on'].split(',')[0]}"] = paper["headline"]
    colors, edges = ("#1f6fb4", "#9db8c9", "none"), (None, None, "#555555")
    for i, (label, column) in enumerate(columns.items()):
        heights = [column[name] for name in shown]
        look: dict[str, Any] = {"label": label, "color": colors[i], "edgecolor": edges[i]}
        bars = axis.bar(places + 0.27 * (i - 1), heights, 0.25, **look)
        if i == 0:
            axis.bar_label(bars, fmt="%.2f", fontsize=7)
    axis.set_xticks(places, [TITLES[name] for name in shown])
    axis.set_ylim(0, 1.32)
    axis.set_yticks(np.linspace(0, 1, 6))
    axis.legend(fontsize=7, loc="upper right", frameon=False)
    what = "stand-in, NOT MPI3D" if data["stand_in"] else data["name"]
    said = {"official": "", "sample": ", no grid"}
    counts = said.get(scores["scores"]["counts"], ", QUICK counts")
    axis.set_title(f"{what}: {data['num_images']:,} images{counts}", fontsize=9)


def _curves(axis: Axes, losses: Path) -> None:
    rows = read_csv(losses)
    epochs = [int(row["epoch"]) for row in rows]
    axis.plot(epochs, [float(row["squared_error"]) for row in rows], label="squared error")
    axis.plot(epochs, [float(row["kl"]) / 100 for row in rows], label="KL / 100")
    axis.set_yscale("log")
    axis.set_xlabel("epoch")
    right = axis.twinx()
    right.plot(epochs, [float(row["beta"]) for row in rows], color="#999999", linestyle=":")
    right.set_ylabel("beta (dotted)", fontsize=8)
    axis.legend(fontsize=7, frameon=False, loc="center right")
    axis.set_title("training", fontsize=9)
