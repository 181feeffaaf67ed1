"""`report`: one run as one HTML file that needs nothing else: did this gin line help, and why.

The page holds its figures and no script, so it can be mailed, and opened without a network.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from submission.data.dataset import Dataset
from submission.data.factors import FACTOR_NAMES
from submission.latents.codes import codes_of
from submission.latents.vae import INACTIVE_KL, carries_anything
from submission.metrics.grids import GridRepresentations
from submission.metrics.library import dci
from submission.metrics.settings import load_settings
from submission.report import analysis, comparison, figures
from submission.report.runs import Run, read_run, scored, scored_dataset
from submission.runtime import paths
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError
from submission.runtime.files import sha256, write_text

log = logging.getLogger(__name__)


def write_report(
    these: Sequence[Path],
    baselines: Sequence[Path],
    out: Path | None = None,
    data: Path | None = None,
    dataset_name: str | None = None,
    device: str = "auto",
) -> Path:
    """Writes the report and returns its file, by default report.html in the first run.

    Args:
        these, baselines: folders of a run's seeds, and of the seeds it is compared with.
        data, dataset_name: where the data set is, and its name; default: what the scores name.

    Raises:
        UserError: no such run, a run without scores or model, scores of another model, or not the
            data set of its scores.
    """
    new, old = ([read_run(folder) for folder in scored(side)] for side in (these, baselines))
    left_out = [f for f in (*these, *baselines) if f not in (*scored(these), *scored(baselines))]
    if left_out:
        log.warning("left out, since not scored (yet): %s", ", ".join(map(str, left_out)))
    this = new[0]
    out = out or this.folder / "report.html"
    if out.suffix != ".html":  # a run's other files are read
        raise UserError(f"--out {out} must end in .html")
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"--out {out} cannot be written: name a file in a folder that exists")
    dataset, data_md5 = scored_dataset(this, data, dataset_name)
    model = paths.model_path(this.folder)
    if model.is_file() and sha256(model) != this.scores["model_sha256"]:
        what = f"the scores in {this.folder} are of another model than {model}"
        raise UserError(f"{what}: run `python -m submission score` again")
    codes = codes_of(model, dataset, data_md5, pick_device(device))
    write_text(out, page(new, old, dataset, codes, [folder.name for folder in left_out]))
    return out


def page(
    these: Sequence[Run],
    baselines: Sequence[Run],
    dataset: Dataset,
    codes: NDArray[np.float32],
    left_out: Sequence[str] = (),
) -> str:
    """The report as HTML. Of several seeds all but the scores is shown of the first.

    Args:
        dataset: a whole grid.
        codes: (num_images, C) the first run's means, in data-set order.
        left_out: names of seeds without scores.
    """
    this = these[0]
    settings = this.scores["scores"]["settings"]
    load_settings(quick=this.scores["scores"]["counts"] != "official")
    grid = GridRepresentations(codes, dataset.factor_sizes)
    mig_points, mig_batch = settings["mig.num_train"], settings["mig.batch_size"]
    information = analysis.mutual_information(grid, mig_points, mig_batch)
    points = min(settings["dci.num_train"], analysis.IMPORTANCE_POINTS)
    importance = analysis.gbt_importance(grid, points, settings["dci.batch_size"])
    active = carries_anything(codes)
    top_two = np.sort(information, axis=0)[::-1][:2]
    loader, strict = jinja2.FileSystemLoader(Path(__file__).parent), jinja2.StrictUndefined
    blocks: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=loader, undefined=strict, autoescape=True, **blocks)
    return environment.get_template("report.html.j2").render(
        these=these,
        baselines=baselines,
        stand_in=dataset.stand_in is not None,
        scores=comparison.score_rows(these, baselines),
        left_out=left_out,
        not_scored=comparison.not_scored([*these, *baselines]),
        obstacles=comparison.obstacles(these, baselines),
        changes=comparison.changes(these, baselines) if baselines else [],
        unknown=[one.name for one in (*these, *baselines) if not one.config],
        factors=FACTOR_NAMES,
        active=active.tolist(),
        inactive_kl=INACTIVE_KL,
        information=information.tolist(),
        gaps=(top_two[0] - top_two[1]).tolist(),
        importance=importance.tolist(),
        per_latent=dci.disentanglement_per_code(importance).tolist(),
        points=points,
        curves=figures.curves(this, next(iter(baselines), None)) if this.losses else None,
        histograms=figures.histograms(codes, active),
        traversals=figures.traversals(dataset, codes, active),
        quantiles=analysis.QUANTILES.tolist(),
    )
