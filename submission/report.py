"""`report`: one run as one HTML file that needs nothing else: did this gin line help, and why.

The page holds its pictures and no script, so it can be mailed, and opened without a network.
"""

import argparse
import base64
import io
import json
import logging
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import joblib
import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray
from scipy.stats import t as student_t

from submission import paths, scoring
from submission.data import FACTOR_NAMES, Dataset, find_file, open_dataset, open_file, verify
from submission.encode import codes_of
from submission.errors import UserError
from submission.extractor import check_sha256
from submission.features import pick_device
from submission.picture import NAMES, plt
from submission.progress import progress_bar
from submission.stages import read_csv, write_text
from submission.train import RECORD
from submission.vae import INACTIVE_KL

# These have been imported, under the stand-ins for TensorFlow, by submission.scoring.
from disentanglement_lib.evaluation.metrics import dci, utils  # isort: skip

log = logging.getLogger(__name__)

# DCI's fits on the official 10,000 points take most of the scoring; a picture needs fewer.
IMPORTANCE_POINTS = 2000
QUANTILES = np.linspace(0.02, 0.98, 9)
_INK = "#123456"  # what stands for the page's own text colour until the SVG is written
_BLUE, _GREY = "#3d8fd6", "#8a8a8a"


@dataclass(frozen=True)
class Run:
    """What a run's folder says: scores.json, config.gin, losses.csv, groups.csv, stages.json,
    exported.json and udr.txt (empty where there is no such file). `losses` has the rows of each VAE
    of the exported model: under "" that of a single one, else under the group's name."""

    folder: Path
    scores: dict[str, Any]
    config: str
    losses: dict[str, list[dict[str, float]]]
    groups: list[dict[str, str]]
    stages: dict[str, dict[str, float]]
    made_of: dict[str, Any]
    ranking: str

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def headline(self) -> dict[str, float]:
        values: dict[str, float] = self.scores["scores"]["headline"]
        return values


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run", type=Path, nargs="+", required=True, metavar="DIR",
        help="the run's folder, with scores; further ones are other seeds of it",
    )  # fmt: skip
    parser.add_argument(
        "--baseline", type=Path, nargs="+", default=[], metavar="DIR",
        help="folder of another run to compare it with, or of its seeds",
    )  # fmt: skip
    parser.add_argument("--dataset", help="default: the one that the scores name")
    parser.add_argument(
        "--data", type=Path,
        help="folder of the data sets; default: DISENTANGLEMENT_LIB_DATA, or `run`'s stand-in",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="cpu, cuda ...; default: a GPU if any")
    parser.add_argument(
        "--out", type=Path, help="html file; default: report.html in the (first) run"
    )


def run(args: argparse.Namespace) -> None:
    """Writes the report.

    Raises:
        UserError: no such run, a run without scores or model, scores of another model, or not the
            data set of its scores.
    """
    sides = (args.run, args.baseline)
    # Of several seeds one that has failed must not hide the others; where none is left, all are
    # read, which says what is missing.
    scored = [
        [f for f in side if (f / "scores.json").is_file() or not f.is_dir()] or side
        for side in sides
    ]
    left_out = [f for side, kept in zip(sides, scored, strict=True) for f in side if f not in kept]
    these, baselines = ([read_run(folder) for folder in kept] for kept in scored)
    if left_out:
        log.warning("left out, since not scored (yet): %s", ", ".join(map(str, left_out)))
    this = these[0]
    out = args.out or this.folder / "report.html"
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"--out {out} cannot be written: name a file in a folder that exists")
    dataset, data_md5 = _dataset_of(this, args.data, args.dataset)
    model = paths.model_path(this.folder)
    if model.is_file() and check_sha256(model) != this.scores["model_sha256"]:
        raise UserError(
            f"the scores in {this.folder} are of another model than {model}: run `python -m "
            "submission score` again"
        )
    codes = codes_of(model, dataset, data_md5, pick_device(args.device))
    write_text(out, page(these, baselines, dataset, codes, [one.name for one in left_out]))
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, open it in a browser")


def read_run(folder: Path) -> Run:
    """Reads what a run left in its folder.

    Raises:
        UserError: no such folder, no scores in it, or a file of it is damaged.
    """
    if not folder.is_dir():
        raise UserError(f"no run {folder}: name the folder that `run` or `train` wrote")
    file = folder / "scores.json"
    if not file.is_file():
        if not paths.model_path(folder).is_file():
            raise UserError(
                f"{folder} has neither scores.json nor an exported model: repeat the command that "
                "trains it, which goes on where it was"
            )
        raise UserError(
            f"{folder} has no scores.json: make it by `AICROWD_OUTPUT_PATH={folder.parent} python "
            f"-m submission score --name {folder.resolve().name}` with the run's --data, --dataset"
        )
    config, stages, ranking, record, udr = (
        folder / n for n in ("config.gin", "stages.json", "udr.json", RECORD, "udr.txt")
    )
    try:
        scores = json.loads(file.read_text())
        for part in (scores["scores"], scores["paper"], scores["ideal_code"] or scores["paper"]):
            if not all(isinstance(value, float) for value in part["headline"].values()):
                raise ValueError("a score is no number")
        if scores["scores"]["settings"].keys() != scoring.OFFICIAL.keys():
            raise ValueError("settings are missing")
        if len(scores["data"]["factor_sizes"]) != len(FACTOR_NAMES):
            raise ValueError("factor_sizes are missing")
        if not all(isinstance(v, str) for v in (scores["data"]["md5"], scores["model_sha256"])):
            raise ValueError("it does not say of which data and model")
        file = config
        text = file.read_text() if file.is_file() else ""
        file = ranking
        trained = folder
        if file.is_file():
            trained = folder / f"seed_{json.loads(file.read_text())['best_seed']}"
        losses = {"": trained / "losses.csv"}
        file = trained / "groups.csv"
        groups = []
        if "train_groups.groups" in text and file.is_file():
            groups = read_csv(file)
            losses = {
                f"group {row['group']}": trained
                / f"group_{row['group']}" / f"start_{row['start']}" / "losses.csv"
                for row in groups
                if int(row["components"]) > 1
            }  # fmt: skip
        rows = {}
        for name, file in losses.items():
            if file.is_file():
                rows[name] = [{k: float(v) for k, v in row.items()} for row in read_csv(file)]
        file = stages
        times = json.loads(file.read_text()) if file.is_file() else {}
        file = record
        made_of = {"weights": "", "seeds": 1, "trained": 1}
        if file.is_file():
            made_of |= json.loads(file.read_text())
        if "unfinished" in made_of:
            raise UserError(
                f"{folder} has been trained anew and not to the end: its scores are of the model "
                "before, its curves are not; repeat the command that trains it"
            )
        file = udr
        ranked = file.read_text() if file.is_file() else ""
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} cannot be read ({type(error).__name__}: {error}): train or score the run again"
        ) from error
    return Run(folder, scores, text, rows, groups, times, made_of, ranked)


def _dataset_of(this: Run, folder: Path | None, name: str | None) -> tuple[Dataset, str]:
    """The data set that the scores were measured on, and its MD5."""
    said = this.scores["data"]
    sizes = tuple(said["factor_sizes"])
    name = name or said["name"].split()[-1]  # "a rendered stand-in for mpi3d_real"
    # Where `run` leaves the stand-in that it renders.
    rendered = paths.home() / "stand_in" / f"real_axis_steps_{sizes[-1]}"
    rendered = rendered / "mpi3d_real" / "mpi3d_real.npz"
    official = find_file(paths.data_folder(), name)[1]
    if folder is None and official is None and said["stand_in"] and rendered.is_file():
        dataset = open_file(rendered, "mpi3d_real")
    else:
        dataset = open_dataset(folder or paths.data_folder(), name)
    md5 = verify(dataset)
    if md5 != said["md5"]:
        raise UserError(
            f"{dataset.path} is not what {this.folder} was scored on ({said['name']}, "
            f"{' x '.join(map(str, sizes))}, MD5 {said['md5'][:8]}...): name its folder with --data"
        )
    return dataset, md5


def page(
    these: Sequence[Run],
    baselines: Sequence[Run],
    dataset: Dataset,
    codes: NDArray[np.float32],
    left_out: Sequence[str] = (),
) -> str:
    """The report as HTML.

    Args:
        these: seeds of a run; all but the scores is shown of the first. baselines: of another.
        dataset: a whole grid.
        codes: (num_images, C) the first run's means, in data-set order.
        left_out: names of seeds without scores.
    """
    this = these[0]
    baseline = baselines[0] if baselines else None
    settings = this.scores["scores"]["settings"]
    scoring.load_settings(quick=this.scores["scores"]["counts"] != "official")
    grid = scoring.GridRepresentations(codes, dataset.factor_sizes)
    information = mutual_information(grid, settings["mig.num_train"], settings["mig.batch_size"])
    points = min(settings["dci.num_train"], IMPORTANCE_POINTS)
    importance = gbt_importance(grid, points, settings["dci.batch_size"])
    active = active_latents(codes)
    top_two = np.sort(information, axis=0)[::-1][:2]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("report.html.j2").render(
        this=this,
        these=these,
        baseline=baseline,
        baselines=baselines,
        stand_in=dataset.stand_in is not None,
        names=NAMES,
        scores=_score_rows(these, baselines),
        left_out=left_out,
        judged=len(these) > 1 and len(baselines) > 1,
        obstacles=_obstacles(these, baselines),
        changes=_changes(these, baselines) if baselines else [],
        unknown=[one.name for one in (*these, *baselines) if not one.config],
        factors=FACTOR_NAMES,
        active=active.tolist(),
        inactive_kl=INACTIVE_KL,
        information=information.tolist(),
        gaps=(top_two[0] - top_two[1]).tolist(),
        mig_points=settings["mig.num_train"],
        importance=importance.tolist(),
        per_latent=dci.disentanglement_per_code(importance).tolist(),
        points=points,
        dci_points=settings["dci.num_train"],
        curves=_curves(this, baseline) if this.losses else None,
        histograms=_histograms(codes, active),
        traversals=_traversals(dataset, codes, active),
        quantiles=QUANTILES.tolist(),
        seconds=sum(row["seconds"] for row in this.stages.values()),
        longest=max((row["seconds"] for row in this.stages.values()), default=0) or 1,
    )


def active_latents(codes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of the latents (n, C) carry something: bool (C,).

    The export holds means and no variances, so the mean KL cannot be had, but a lower bound:
    KL = 1/2 (mu^2 + sigma^2 - log sigma^2 - 1) >= mu^2 / 2, whose mean is at least half the
    variance of mu.
    """
    return np.asarray(codes.var(axis=0, dtype=np.float64) / 2 >= INACTIVE_KL)


def mutual_information(
    grid: scoring.GridRepresentations, points: int, batch_size: int
) -> NDArray[np.float64]:
    """What MIG looks at: (C, 7), each factor's column divided by that factor's entropy.

    The points are those that MIG draws, the functions are the library's, settings bound by gin.
    """
    codes, factors = utils.generate_batch_factor_code(
        grid, scoring.identity, points, np.random.RandomState(0), batch_size
    )
    information = utils.discrete_mutual_info(utils.make_discretizer(codes), factors)
    return np.asarray(information / utils.discrete_entropy(factors))


def gbt_importance(
    grid: scoring.GridRepresentations, points: int, batch_size: int
) -> NDArray[np.float64]:
    """What DCI looks at: (C, 7), how much each latent serves boosted trees that read a factor.

    Each factor's column sums to 1. The points are the first of those that DCI draws, and the fits
    are seeded as in scoring, so with DCI's own number of points this is its own matrix.
    """
    x, y = utils.generate_batch_factor_code(
        grid, scoring.identity, points, np.random.RandomState(0), batch_size
    )
    matrix = np.zeros((x.shape[0], y.shape[0]))
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        # The test points give accuracies that are not shown: a few of the same will do.
        fits = joblib.Parallel(n_jobs=-1, return_as="generator_unordered", max_nbytes=None)(
            joblib.delayed(scoring.factor_importance)(
                i, x, y[i : i + 1], x[:, :9], y[i : i + 1, :9]
            )
            for i in range(len(y))
        )
        for i, column, *_ in progress_bar(
            iterable=fits, total=len(y), desc=f"importance, {points:,} points", unit=" factors"
        ):
            matrix[:, i] = column
    return matrix


def traverse(
    codes: NDArray[np.float32], active: NDArray[np.bool_], anchor: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each active latent the images nearest to codes that differ from an anchor's in it alone.

    Args:
        codes: (n, C). active: (C,), which latents are moved and measured in. anchor: a row.

    Returns:
        rows (A, Q) of the images whose codes are nearest to the anchor's with the one latent at
        QUANTILES of all its values, and how far they are (A, Q): Euclidean, each latent in units
        of its standard deviation.
    """
    scaled = codes[:, active].astype(np.float64)
    scaled /= scaled.std(axis=0)
    latents = scaled.shape[1]
    if latents == 0:
        return np.empty((0, len(QUANTILES)), np.int64), np.empty((0, len(QUANTILES)))
    targets = np.tile(scaled[anchor], (latents, len(QUANTILES), 1))
    for j in range(latents):
        targets[j, :, j] = np.quantile(scaled[:, j], QUANTILES)
    targets = targets.reshape(-1, latents)
    best = np.full(len(targets), np.inf)
    rows = np.zeros(len(targets), dtype=np.int64)
    for begin in range(0, len(scaled), 8192):
        part = scaled[begin : begin + 8192]
        # Without the targets' own squares, which decide nothing.
        distance = (part**2).sum(axis=1)[:, None] - 2 * part @ targets.T
        nearest = distance.argmin(axis=0)
        value = distance[nearest, np.arange(len(targets))]
        rows[value < best] = begin + nearest[value < best]
        best = np.minimum(best, value)
    far = np.sqrt(((scaled[rows] - targets) ** 2).sum(axis=1))
    return rows.reshape(latents, -1), far.reshape(latents, -1)


def _traversals(
    dataset: Dataset, codes: NDArray[np.float32], active: NDArray[np.bool_]
) -> dict[str, Any]:
    """The anchor's and each active latent's strip of images, and what changes along it."""
    sizes = dataset.factor_sizes
    # The same image in every report on a data set, so that reports can be laid side by side.
    anchor = int(np.ravel_multi_index([size // 2 for size in sizes], sizes))
    rows, far = traverse(codes, active, anchor)
    wanted = np.unique(np.append(rows, anchor))
    images = dict(zip(wanted.tolist(), _images(dataset, wanted), strict=True))
    strips = []
    for latent, row, distance in zip(np.flatnonzero(active), rows, far, strict=True):
        values = np.unravel_index(row, sizes)
        changing = [
            f"{name} ({len(np.unique(v))} values)"
            for name, v in zip(FACTOR_NAMES, values, strict=True)
            if len(np.unique(v)) > 1
        ]
        strips.append(
            {
                "latent": int(latent),
                "png": _png(np.concatenate([images[i] for i in row.tolist()], axis=1)),
                "changing": changing,
                "far": float(distance.max()),
            }
        )
    return {"anchor": anchor, "anchor_png": _png(images[anchor]), "strips": strips}


def _images(dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Single images (n, 64, 64, 3) by ascending row; a compressed file is read through for them."""
    if dataset.offset is not None:
        return np.array(dataset.array()[rows])
    found, begin = [], 0
    for batch in dataset.batches(1024):
        found.append(batch[rows[(rows >= begin) & (rows < begin + len(batch))] - begin])
        begin += len(batch)
    return np.concatenate(found)


def _score_rows(these: Sequence[Run], baselines: Sequence[Run]) -> list[dict[str, Any]]:
    """One row per metric that all of `these` have and, if that is all five, their sum.

    `this` and `baseline` are (mean, standard deviation or None), or None. `difference` is theirs;
    `interval` has its two ends at 95 % (over the seeds), or None if a side has one run or neither
    side has any spread.
    """
    ideal = (these[0].scores["ideal_code"] or {"headline": {}})["headline"]
    paper = these[0].scores["paper"]["headline"]
    rows = []
    for metric, name in {**NAMES, "sum": "sum"}.items():
        new, old = (_values(side, metric) for side in (these, baselines))
        if new:
            rows.append({
                "name": name, "this": _mean(new), "baseline": _mean(old) if old else None,
                "difference": statistics.fmean(new) - statistics.fmean(old) if old else None,
                "interval": _interval(new, old) if len(new) > 1 and len(old) > 1 else None,
                "ideal": _value(ideal, metric), "paper": _value(paper, metric),
            })  # fmt: skip
    return rows


def _value(headline: dict[str, float], metric: str) -> float | None:
    if metric == "sum":
        return sum(headline.values()) if headline.keys() >= NAMES.keys() else None
    return headline.get(metric)


def _values(runs: Sequence[Run], metric: str) -> list[float]:
    """Each run's score; none if a run lacks it."""
    found = [_value(run.headline, metric) for run in runs]
    return [value for value in found if value is not None] if None not in found else []


def _mean(values: Sequence[float]) -> tuple[float, float | None]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _interval(new: Sequence[float], old: Sequence[float]) -> tuple[float, float] | None:
    """Welch's: half of it is t s, with s^2 = a + b for a = s_new^2 / n_new and b alike, and
    s^4 / (a^2 / (n_new - 1) + b^2 / (n_old - 1)) degrees of freedom. None if neither side has any
    spread, as when a coarse score is the same in all of a few seeds: that is no certainty."""
    squares = [statistics.variance(side) / len(side) for side in (new, old)]
    total = sum(squares)
    if total == 0:
        return None
    freedom = total**2 / sum(
        square**2 / (len(side) - 1) for square, side in zip(squares, (new, old), strict=True)
    )
    half = float(student_t.ppf(0.975, freedom)) * math.sqrt(total)
    middle = statistics.fmean(new) - statistics.fmean(old)
    return middle - half, middle + half


def _obstacles(these: Sequence[Run], baselines: Sequence[Run]) -> list[str]:
    """Why the runs' scores cannot be compared, or not be averaged."""
    runs = [*these, *baselines]
    found = []
    if any(run.scores["data"] != runs[0].scores["data"] for run in runs):
        found.append("they were measured on different data")
    if any(
        run.scores["scores"]["settings"] != runs[0].scores["scores"]["settings"] for run in runs
    ):
        found.append("their metric settings differ")
    for side in (these, baselines):
        names = " and ".join(run.name for run in side)
        if any(_changes([run], side[:1], seeds=False) for run in side[1:]):
            found.append(f"{names} differ in more than the seed")
        elif len({run.scores["model_sha256"] for run in side}) < len(side):
            found.append(f"{names} are not all of different seeds")
    return found


def _changes(these: Sequence[Run], baselines: Sequence[Run], seeds: bool = True) -> list[str]:
    """What only one of two sides is made of: "- old", "+ new"; the seed itself only of single runs
    and if `seeds`."""
    new, old = (_made_of(side[0]) for side in (these, baselines))
    if not seeds or len(these) > 1 or len(baselines) > 1:
        new, old = ({pair for pair in side if pair[0] != "train_vae.seed"} for side in (new, old))
    keys = sorted({key for key, _ in new ^ old})
    return [
        f"{sign} {key} = {value}"
        for name in keys
        for sign, side in (("-", old - new), ("+", new - old))
        for key, value in sorted(side)
        if key == name
    ]


def _made_of(run: Run) -> set[tuple[str, str]]:
    """The bindings, and what none says: the weights, and of how many seeds it is the first."""
    said, found = run.made_of, _bindings(run.config)
    if said["weights"]:
        found.add(("--weights", f"SHA-256 {said['weights'][:8]}..."))
    if said["seeds"] > 1:
        trained = f" ({said['trained']} trained)" if said["trained"] < said["seeds"] else ""
        found.add(("--seeds", f"{said['seeds']}{trained}, the first by UDR"))
    return found


def _bindings(config: str) -> set[tuple[str, str]]:
    """(parameter, value) of gin's operative configuration; long values go over several lines."""
    joined = re.sub(r"\\\n\s*", "", config)
    lines = re.findall(r"^([\w./]+) =((?:.*)(?:\n[ \t]+.*)*)", joined, re.MULTILINE)
    return {(key, " ".join(value.split())) for key, value in lines}


def _curves(this: Run, baseline: Run | None) -> Markup:
    panels = {
        "squared error": "squared_error", "KL, summed over latents": "kl", "beta": "beta",
        "active latents": "active_latents",
    }  # fmt: skip
    with _style("curves"):
        figure, axes = plt.subplots(1, 4, figsize=(11.5, 2.6))
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


def _curve(axis: plt.Axes, rows: list[dict[str, float]], column: str, **style: Any) -> None:
    axis.plot([row["epoch"] + 1 for row in rows], [row[column] for row in rows],
              linewidth=1.6, **style)  # fmt: skip


def _histograms(codes: NDArray[np.float32], active: NDArray[np.bool_]) -> Markup:
    edge = float(np.quantile(np.abs(codes[:: max(1, len(codes) // 100_000)]), 0.999)) or 1.0
    bins = np.linspace(-edge, edge, 60)
    lines = math.ceil(len(active) / 8)
    with _style("histograms"):
        figure, axes = plt.subplots(lines, 8, figsize=(11.5, 1.35 * lines + 0.3), squeeze=False)
        for axis in axes.flat[len(active) :]:
            axis.set_axis_off()
        for j, axis in enumerate(axes.flat[: len(active)]):
            counts, _ = np.histogram(codes[:, j].clip(-edge, edge), bins)
            axis.stairs(counts, bins, fill=True, color=_BLUE if active[j] else _GREY)
            mark = "" if active[j] else " inactive"
            axis.set_title(f"latent {j}{mark}", fontsize=8)
            axis.set_yticks([])
            axis.tick_params(labelsize=7)
        figure.supxlabel("mean of the latent for an image", fontsize=8)
        figure.supylabel("images", fontsize=8)
        figure.tight_layout()
        return _svg(figure, "Histograms of the latents")


def _style(salt: str) -> Any:
    """Text and lines in _INK on nothing. `salt` keeps the ids of two pictures on a page apart."""
    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    style: dict[Any, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif",
        "figure.facecolor": "none", "axes.facecolor": "none",
        "axes.spines.top": False, "axes.spines.right": False,
    }  # fmt: skip
    return matplotlib.rc_context(style | dict.fromkeys(ink, _INK))


def _svg(figure: plt.Figure, title: str) -> Markup:
    """A figure as an <svg> element of the page, in the page's text colour."""
    text = io.StringIO()
    figure.savefig(
        text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
    )
    plt.close(figure)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor").replace("xlink:href", "href")
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'\sid="[\w.]+_\d+"', "", svg)  # "axes_1", the same in each picture
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1))


def _png(image: NDArray[np.uint8]) -> str:
    """An image (h, w, 3) as the address of an <img>."""
    file = io.BytesIO()
    plt.imsave(file, image, format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
