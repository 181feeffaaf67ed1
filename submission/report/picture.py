"""comparison.png: the latents of several runs beside each other, what each knows and shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from submission.report.views import View
from submission.runtime.files import replacing

_ROW, _HEAD, _WIDTH = 0.42, 1.15, 6.2  # inches
_LATENTS = 8  # of a run, at most


def draw_views(views: Sequence[View], file: Path, factors: Sequence[str], what: str) -> None:
    """A panel per view: a row for each active latent, its mutual information with each factor (if
    MIG was computed) and the images along it. Of many latents the 8 that know most are shown.

    Args:
        factors: names of those that the metrics see.
        what: the data set, for the figure's title.
    """
    rows = max(1, *(min(len(view.strips), _LATENTS) for view in views))
    height = _HEAD + _ROW * rows
    figure = Figure(figsize=(_WIDTH * len(views), height))
    for number, view in enumerate(views):
        left = number / len(views)
        _panel(figure, view, (left, 1 / len(views)), height, factors)
    figure.text(0.5, 0.008, what, ha="center", va="bottom", fontsize=8, color="#555555")
    with replacing(file) as written:
        figure.savefig(written, dpi=110, format="png")


def _panel(
    figure: Figure, view: View, place: tuple[float, float], height: float, factors: Sequence[str]
) -> None:
    left, width = place
    known, strips = view.information, view.strips
    if known is not None:
        most = known.max(axis=1)
        strips = sorted(strips, key=lambda strip: -most[strip.latent])
    shown = strips[:_LATENTS]
    more = f", {len(shown)} shown" if len(shown) < len(strips) else ""
    title = f"{view.name}: {len(strips)} of {len(view.active)} latents active{more}"
    figure.text(left + 0.02 * width, 1 - 0.1 / height, title, va="top", fontsize=10)
    tall = _ROW * len(shown) / height
    top = 1 - (_HEAD - 0.25) / height
    if known is not None and shown:
        heat = figure.add_axes((left + 0.11 * width, top - tall, 0.30 * width, tall))
        _heat(heat, np.stack([known[strip.latent] for strip in shown]), factors)
        heat.set_yticks(range(len(shown)), [f"latent {strip.latent}" for strip in shown])
    for line, strip in enumerate(shown):
        low = top - (line + 1) * _ROW / height
        axis = figure.add_axes((left + 0.43 * width, low, 0.55 * width, 0.94 * _ROW / height))
        axis.imshow(np.concatenate([*strip.images], axis=1), aspect="auto")
        axis.set_axis_off()


def _heat(axis: Axes, known: np.ndarray, factors: Sequence[str]) -> None:
    axis.imshow(known, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.xaxis.tick_top()
    names = [name.replace("_", " ") for name in factors]
    axis.set_xticks(range(len(names)), names, rotation=40, ha="left", fontsize=6)
    axis.tick_params(length=0, labelsize=7)
    axis.tick_params(axis="x", labelsize=6, pad=1)
    for (row, column), value in np.ndenumerate(known):
        style: dict[str, Any] = {"color": "white" if value > 0.6 else "#333333", "fontsize": 6}
        text = f"{value:.2f}".removeprefix("0")
        axis.text(column, row, text, ha="center", va="center", **style)
