"""The page's figures."""

import base64
import io
import math
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from submission.report.runs import Run

_INK = "#123456"  # placeholder for the page's text colour, which _svg puts in its place
_BLUE, _GREYS = "#3d8fd6", ("#8a8a8a", "#b9a27c")


def curves(this: Run, others: Sequence[Run]) -> Markup:
    """The losses over the epochs; the others' dashed."""
    panels = {"squared error": "squared_error", "KL, summed over latents": "kl"}
    panels |= {"beta": "beta", "active latents": "active_latents"}
    with _style("curves"):
        figure = Figure(figsize=(11.5, 2.6))
        axes = figure.subplots(1, 4)
        for axis, (title, column) in zip(axes, panels.items(), strict=True):
            # The others below, so that a curve on top of them is still seen.
            for i, other in enumerate(others):
                for name, rows in other.losses.items():
                    style = {"color": _GREYS[i % 2], "linestyle": "--"}
                    _curve(axis, rows, column, label=f"{other.name} {name}".strip(), **style)
            for i, (name, rows) in enumerate(this.losses.items()):
                colour = _BLUE if name == "" else f"C{i % 10}"
                _curve(axis, rows, column, color=colour, label=name or this.name)
            axis.set_title(title, fontsize=9)
            axis.set_xlabel("epoch", fontsize=8)
            if column in ("squared_error", "kl"):
                axis.set_yscale("log")
                axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.yaxis.set_major_formatter("{x:g}")
                axis.yaxis.set_minor_locator(NullLocator())
            else:
                axis.set_ylim(bottom=0)
        if sum(len(run.losses) for run in (this, *others)) > 1:
            axes[0].legend(fontsize=6, frameon=False)
        figure.tight_layout()
        return _svg(figure, "Learning curves")


def _curve(axis: Axes, rows: list[dict[str, float]], column: str, **style: Any) -> None:
    epochs = [row["epoch"] + 1 for row in rows]
    axis.plot(epochs, [row[column] for row in rows], linewidth=1.6, **style)


def histograms(codes: NDArray[np.float32], active: NDArray[np.bool_], salt: str) -> Markup:
    """Each latent's values; `salt` as for _style."""
    edge = float(np.quantile(np.abs(codes[:: max(1, len(codes) // 100_000)]), 0.999)) or 1.0
    bins = np.linspace(-edge, edge, 60)
    lines = math.ceil(len(active) / 8)
    with _style(salt):
        figure = Figure(figsize=(11.5, 1.35 * lines + 0.3))
        axes = figure.subplots(lines, 8, squeeze=False)
        for axis in axes.flat[len(active) :]:
            axis.set_axis_off()
        for j, axis in enumerate(axes.flat[: len(active)]):
            counts, _ = np.histogram(codes[:, j].clip(-edge, edge), bins)
            axis.stairs(counts, bins, fill=True, color=_BLUE if active[j] else _GREYS[0])
            axis.set_title(f"latent {j}{'' if active[j] else ' inactive'}", fontsize=8)
            axis.set_yticks([])
            axis.tick_params(labelsize=7)
        figure.supxlabel("mean of the latent for an image", fontsize=8)
        figure.supylabel("images", fontsize=8)
        figure.tight_layout()
        return _svg(figure, "Histograms of the latents")


def _style(salt: str) -> Any:
    """Text and lines in _INK on nothing. `salt` keeps the ids of two figures on a page apart."""
    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    style: dict[Any, Any] = {"svg.hashsalt": salt, "font.family": "sans-serif"}
    style |= dict.fromkeys(("svg.fonttype", "figure.facecolor", "axes.facecolor"), "none")
    style |= dict.fromkeys(("axes.spines.top", "axes.spines.right"), False)
    return matplotlib.rc_context(style | dict.fromkeys(ink, _INK))


def _svg(figure: Figure, title: str) -> Markup:
    """A figure as an <svg> element of the page, in the page's text colour."""
    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(text, format="svg", metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor").replace("xlink:href", "href")
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'\sid="[\w.]+_\d+"', "", svg)  # "axes_1", the same in each figure
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1))


def png(image: NDArray[np.uint8]) -> str:
    """An image (h, w, 3) as the address of an <img>."""
    file = io.BytesIO()
    imsave(file, image, format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
