"""The page's figures."""

import base64
import io
import math
import re
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from submission.data.dataset import Dataset
from submission.data.factors import FACTOR_NAMES
from submission.report.analysis import traverse
from submission.report.runs import Run

_INK = "#123456"  # placeholder for the page's text colour, which _svg puts in its place
_BLUE, _GREY = "#3d8fd6", "#8a8a8a"


def traversals(
    dataset: Dataset, codes: NDArray[np.float32], active: NDArray[np.bool_]
) -> dict[str, Any]:
    """The anchor's and each active latent's strip of images, and what changes along it."""
    sizes = dataset.factor_sizes
    # The same image in every report on a data set, so that reports can be laid side by side.
    anchor = int(np.ravel_multi_index([size // 2 for size in sizes], sizes))
    rows, far = traverse(codes, active, anchor)
    wanted = np.unique(np.append(rows, anchor))
    images = dict(zip(wanted.tolist(), dataset.images_at(wanted), strict=True))
    strips = []
    for latent, row, distance in zip(np.flatnonzero(active), rows, far, strict=True):
        values = map(len, map(np.unique, dataset.factors(row).T))
        counts = zip(FACTOR_NAMES, values, strict=True)
        changing = [f"{name} ({count} values)" for name, count in counts if count > 1]
        png = _png(np.concatenate([images[i] for i in row.tolist()], axis=1))
        strip = {"latent": int(latent), "far": float(distance.max())}
        strips.append(strip | {"png": png, "changing": changing})
    return {"anchor": anchor, "anchor_png": _png(images[anchor]), "strips": strips}


def curves(this: Run, baseline: Run | None) -> Markup:
    """The losses over the epochs; the baseline dashed."""
    panels = {"squared error": "squared_error", "KL, summed over latents": "kl"}
    panels |= {"beta": "beta", "active latents": "active_latents"}
    with _style("curves"):
        figure = Figure(figsize=(11.5, 2.6))
        axes = figure.subplots(1, 4)
        for axis, (title, column) in zip(axes, panels.items(), strict=True):
            # The baseline below, so that a curve on top of it is still seen.
            for name, rows in baseline.losses.items() if baseline else ():
                label = f"{baseline.name} {name}".strip() if baseline else ""
                _curve(axis, rows, column, color=_GREY, linestyle="--", label=label)
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
        if len(this.losses) + len(baseline.losses if baseline else ()) > 1:
            axes[0].legend(fontsize=6, frameon=False)
        figure.tight_layout()
        return _svg(figure, "Learning curves")


def _curve(axis: Axes, rows: list[dict[str, float]], column: str, **style: Any) -> None:
    epochs = [row["epoch"] + 1 for row in rows]
    axis.plot(epochs, [row[column] for row in rows], linewidth=1.6, **style)


def histograms(codes: NDArray[np.float32], active: NDArray[np.bool_]) -> Markup:
    edge = float(np.quantile(np.abs(codes[:: max(1, len(codes) // 100_000)]), 0.999)) or 1.0
    bins = np.linspace(-edge, edge, 60)
    lines = math.ceil(len(active) / 8)
    with _style("histograms"):
        figure = Figure(figsize=(11.5, 1.35 * lines + 0.3))
        axes = figure.subplots(lines, 8, squeeze=False)
        for axis in axes.flat[len(active) :]:
            axis.set_axis_off()
        for j, axis in enumerate(axes.flat[: len(active)]):
            counts, _ = np.histogram(codes[:, j].clip(-edge, edge), bins)
            axis.stairs(counts, bins, fill=True, color=_BLUE if active[j] else _GREY)
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


def _png(image: NDArray[np.uint8]) -> str:
    """An image (h, w, 3) as the address of an <img>."""
    file = io.BytesIO()
    imsave(file, image, format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
