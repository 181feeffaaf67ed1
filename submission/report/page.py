"""`report`: a run as one HTML file that needs nothing else, beside others if there are any.

The page holds its figures and no script, so it can be mailed, and opened without a network.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from submission.data.dataset import Dataset
from submission.latents.codes import cached_codes, codes_of, kept_codes
from submission.latents.vae import INACTIVE_KL
from submission.metrics.library import dci
from submission.report import analysis, comparison, figures
from submission.report.runs import Run, read_run, scored, scored_dataset
from submission.report.views import View, add_strips
from submission.runtime import paths
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError
from submission.runtime.files import sha256, write_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Side:
    """A configuration on the page: folders of its seeds, and its name there if that is not the
    first folder's."""

    folders: Sequence[Path]
    title: str = ""

    def runs(self) -> list[Run]:
        return [read_run(folder) for folder in scored(self.folders)]

    def left_out(self) -> list[Path]:
        """Seeds without scores."""
        return [folder for folder in self.folders if folder not in scored(self.folders)]

    def name(self) -> str:
        first = scored(self.folders)[0].resolve().name
        return f"{self.title} ({first})" if self.title else first


def write_report(
    sides: Sequence[Side],
    out: Path | None = None,
    data: Path | None = None,
    dataset_name: str | None = None,
    device: str = "auto",
) -> Path:
    """Writes the report and returns its file, by default report.html in the first run.

    Args:
        sides: a run, and those that it is compared with.
        data, dataset_name: where the data set is, and its name; default: what the scores name.

    Raises:
        UserError: no such run, a run without scores or model, scores of another model, or not the
            data set of its scores.
    """
    this = sides[0].runs()[0]
    out = out or this.folder / "report.html"
    if out.suffix != ".html":  # a run's other files are read
        raise UserError(f"--out {out} must end in .html")
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"--out {out} cannot be written: name a file in a folder that exists")
    report_on(sides, out, *scored_dataset(this, data, dataset_name), device)
    return out


def report_on(
    sides: Sequence[Side], out: Path, dataset: Dataset, md5: str, device: str
) -> list[View]:
    """Writes the page, and returns what it shows of each model.

    Args:
        dataset, md5: what the first side was scored on. Of the other sides the first seed's latents
            are shown, too, where its codes of this data are in the cache, as training leaves them.
    """
    runs = [side.runs() for side in sides]
    left_out = [folder for side in sides for folder in side.left_out()]
    if left_out:
        log.warning("left out, since not scored (yet): %s", ", ".join(map(str, left_out)))
    this = runs[0][0]
    model = paths.model_path(this.folder)
    if model.is_file() and sha256(model) != this.scores["model_sha256"]:
        what = f"the scores in {this.folder} are of another model than {model}"
        raise UserError(f"{what}: run `python -m submission score` again")
    views = [View(sides[0].name(), this, codes_of(model, dataset, md5, pick_device(device)))]
    for side, (first, *_) in zip(sides[1:], runs[1:], strict=True):
        model = paths.model_path(first.folder)
        same = model.is_file() and sha256(model) == first.scores["model_sha256"]
        if same and first.scores["data"]["md5"] == md5:
            codes = kept_codes(cached_codes(model, md5), dataset.num_images)
            views += [View(side.name(), first, codes)] if codes is not None else []
    add_strips(views, dataset)
    names = [side.name() for side in sides]
    write_text(out, page(names, runs, dataset, views, [folder.name for folder in left_out]))
    return views


def page(
    names: Sequence[str],
    runs: Sequence[Sequence[Run]],
    dataset: Dataset,
    views: Sequence[View],
    left_out: Sequence[str] = (),
) -> str:
    """The report as HTML.

    Args:
        names: of the sides. runs: their seeds. left_out: names of seeds without scores.
        dataset: what was scored. views: of the first side's first run, and of others' if possible.
    """
    these, *others = runs
    loader, strict = jinja2.FileSystemLoader(Path(__file__).parent), jinja2.StrictUndefined
    blocks: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=loader, undefined=strict, autoescape=True, **blocks)
    drawn = [run for run in (these[0], *(side[0] for side in others)) if run.losses]
    return environment.get_template("report.html.j2").render(
        names=names,
        these=these,
        others=others,
        stand_in=dataset.stand_in is not None,
        scores=comparison.score_rows(these, others),
        left_out=left_out,
        not_scored=comparison.not_scored([run for side in runs for run in side]),
        obstacles=comparison.obstacles(*runs),
        changes=[comparison.changes(these, side) for side in others],
        unknown=[one.name for side in runs for one in side if not one.config],
        factors=dataset.observed_names,
        inactive_kl=INACTIVE_KL,
        views=[_shown(view, number) for number, view in enumerate(views)],
        curves=figures.curves(drawn[0], drawn[1:]) if these[0].losses else None,
        quantiles=analysis.QUANTILES.tolist(),
    )


def _shown(view: View, number: int) -> dict[str, Any]:
    """What the page's template reads of a view."""
    shown: dict[str, Any] = {"name": view.name, "run": view.run, "active": view.active.tolist()}
    shown |= {"importance": None, "information": None, "strips": view.strips}
    if view.importance is not None:
        shown["importance"] = view.importance.tolist()
        shown["per_latent"] = dci.disentanglement_per_code(view.importance).tolist()
    if view.information is not None:
        top_two = np.sort(view.information, axis=0)[::-1][:2]
        shown["information"] = view.information.tolist()
        shown["gaps"] = (top_two[0] - top_two[1]).tolist()
    shown["histograms"] = figures.histograms(view.codes, view.active, f"histograms{number}")
    shown["pictures"] = [figures.png(np.concatenate([*one.images], axis=1)) for one in view.strips]
    shown["anchor"], shown["anchor_png"] = view.anchor, figures.png(view.anchor_image)
    return shown
