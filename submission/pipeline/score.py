"""From an exported model to its five scores."""

import contextlib
import hashlib
import importlib.metadata
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray

from submission.data.dataset import Dataset, verify
from submission.finetuning.suspicion import look_at
from submission.latents.codes import cached_codes, codes_of, codes_of_rows, kept_codes
from submission.latents.models import open_model
from submission.metrics import tensorflow_route
from submission.metrics.arrays import score_labelled
from submission.metrics.borrowing import load_further_settings
from submission.metrics.code_table import settings_lines
from submission.metrics.compute import score
from submission.metrics.drawn import drawn_rows
from submission.metrics.figure import draw_run
from submission.metrics.further import further_scores
from submission.metrics.grids import (
    GridImages,
    GridRepresentations,
    RepresentationFunction,
    check_grid,
    ideal_code,
    identity,
    torchscript_function,
)
from submission.metrics.labelled import labelled, numbered_factors, one_factor
from submission.metrics.results import Context, write_scores
from submission.metrics.settings import (
    DCI_FITS,
    METRICS,
    TITLES,
    Result,
    ScoreOptions,
    bound_settings,
    load_settings,
)
from submission.runtime import paths
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError
from submission.runtime.files import kept_if_possible, sha256, write_text
from submission.runtime.usage import Stages

log = logging.getLogger(__name__)


def score_run(
    dataset: Dataset,
    folder: Path,
    options: ScoreOptions,
    stages: Stages,
    model: Path | None = None,
    looked_at: bool = False,
) -> tuple[Result, Context]:
    """Writes scores.json, scores.txt and scores.png into the run's folder, and returns the scores.
    `model` is an exported one other than the run's. A metric that its codes do not suit is marked,
    with the reason. With `looked_at` the training has been suspicious of the data already. Raises
    UserError if there is no model, or no metric can be scored."""
    metrics = options.metrics
    sizes, observed = dataset.factor_sizes, dataset.observed
    check_scorable(dataset, options)  # before hours of codes, not after
    with_tensorflow, tensorflow = options.scorer == "tensorflow", ""
    if with_tensorflow:
        tensorflow_route.refuse_if_missing()
    model = model or paths.model_path(folder)
    load_settings(quick=options.quick)
    data_md5 = verify(dataset)
    if not looked_at:
        look_at(dataset, data_md5, pick_device(options.device))
    if options.stock:
        with stages.stage("scoring (stock route)"):
            images = GridImages(dataset.array(), sizes, observed)
            function = torchscript_function(open_model(model))
            result = score(images, function, metrics, dci_fit=options.dci)
            _add_further(images, result, options, function)
    else:
        with stages.stage("codes for scoring"):
            codes = _codes(dataset, model, data_md5, options)
        if dataset.labels is not None:
            return _score_sample(dataset, codes, folder, options, stages, (data_md5, model))
        with stages.stage("scoring"):
            data = GridRepresentations(codes, sizes, observed)
            if with_tensorflow:
                scored = tensorflow_route.score_with_tensorflow(codes, sizes, metrics, observed)
                result, tensorflow = scored
            else:
                result = score(data, metrics=metrics, dci_fit=options.dci)
            _add_further(data, result, options)
    for metric, reason in result["not_scored"].items():
        log.warning("%s is not scored: %s", TITLES[metric], reason)
    with stages.stage("scoring the ideal code"):
        ideal = ideal_scores(sizes, metrics, options.dci, observed)
    if options.dci == "scikit-learn":
        # Its workers would wait for more, and keep their memory, while another model is trained.
        get_reusable_executor().shutdown()
    context = replace(_context(dataset, data_md5, model), ideal=ideal, tensorflow=tensorflow)
    write_scores(folder, result, context)
    draw_run(folder)
    return result, context


def _codes(
    dataset: Dataset, model: Path, data_md5: str, options: ScoreOptions
) -> NDArray[np.float32]:
    """Of all images, or of those that the metrics draw."""
    device = pick_device(options.device)
    cached = cached_codes(model, data_md5)
    if not options.drawn or kept_codes(cached, dataset.num_images) is not None:
        return codes_of(model, dataset, data_md5, device)
    drawn = drawn_rows(dataset.factor_sizes, options.metrics, dataset.observed)
    said = ", ".join(f"{TITLES[metric]} {len(rows):,}" for metric, rows in drawn.items())
    rows = np.unique(np.concatenate([*drawn.values()]))
    log.info("codes of %s of %s images: %s", f"{len(rows):,}", f"{dataset.num_images:,}", said)
    return codes_of_rows(model, dataset, rows, device)


def check_scorable(dataset: Dataset, options: ScoreOptions | None = None) -> None:
    """Raises UserError if no codes of the data set can be scored, or not in the way asked for."""
    if not dataset.factor_sizes:
        what = f"{dataset.path} says nothing of factors, so nothing can be scored"
        raise UserError(
            f"{what}: add 'factors', 'factor_sizes' or a factors.csv (docs/datasets.md)"
        )
    if options and options.drawn and (options.stock or options.also or dataset.labels is not None):
        what = "--drawn knows what the five metrics draw of a whole grid"
        raise UserError(f"{what}: leave it out with --also and --stock, and for any other set")
    if dataset.labels is not None:
        numbered_factors(dataset.labels, dataset.num_images, dataset.factor_names)
        stock = options and (options.stock or options.scorer == "tensorflow")
        if options and (stock or options.dci != DCI_FITS[0]):
            what = f"{dataset.name} has its factors given for each image"
            raise UserError(
                f"{what}, and --stock, --scorer and --dci are for whole grids: leave them out"
            )
        return
    if len(dataset.observed_names) < 2:
        raise UserError(one_factor(len(dataset.observed_names)))
    seen = dataset.observed or range(len(dataset.factor_sizes))
    check_grid([dataset.factor_sizes[i] for i in seen])


def _context(dataset: Dataset, data_md5: str, model: Path) -> Context:
    domain = next((d for d in ("toy", "realistic", "complex") if d in dataset.name), "real")
    stand_in = dataset.stand_in is not None
    name = f"a rendered stand-in for {dataset.name}" if stand_in else dataset.name
    return Context(
        name,
        stand_in,
        domain if dataset.official else "",
        dataset.factor_sizes,
        data_md5=data_md5,
        model_sha256=sha256(model),
        factor_names=dataset.observed_names,
        path=str(dataset.path.resolve()),
    )


def _score_sample(
    dataset: Dataset,
    codes: NDArray[np.float32],
    folder: Path,
    options: ScoreOptions,
    stages: Stages,
    made_of: tuple[str, Path],
) -> tuple[Result, Context]:
    """score_run for images whose factors are given one by one; all combinations of them, in any
    order, are a grid all the same. `made_of`: the data's md5, and the model."""
    given = labelled(codes, dataset.labels, names=dataset.factor_names)
    with stages.stage("scoring"):
        scores = score_labelled(given, options.metrics, options.also, options.quick)
    with stages.stage("scoring the ideal code"):
        ideal = score_labelled(given.ideal(), tuple(scores.headline), quick=options.quick)
    missing = {name: why for name, why in scores.left_out.items() if name in METRICS}
    result = scores.details | {"not_scored": missing, "further": scores.further}
    result["left_out"] = {n: why for n, why in scores.left_out.items() if n not in METRICS}
    context = replace(_context(dataset, *made_of), ideal=ideal.details)
    if not scores.grid:
        result["counts"] = "sample"
        settings = tuple(settings_lines(scores))
        context = replace(context, sample=len(codes), settings=settings)
    write_scores(folder, result, context)
    draw_run(folder)
    return result, context


def _add_further(
    data: Any, result: Result, options: ScoreOptions, function: RepresentationFunction = identity
) -> None:
    if options.also:
        load_further_settings(options.quick)
        found = further_scores(data, options.also, result, function, dci_fit=options.dci)
        result["further"], result["left_out"] = found


def ideal_scores(
    factor_sizes: tuple[int, ...],
    metrics: tuple[str, ...],
    dci_fit: str = DCI_FITS[0],
    observed: tuple[int, ...] | None = None,
) -> Result:
    """The ideal code's scores, from the cache if this grid had them with these settings before."""
    settings = bound_settings()
    version = importlib.metadata.version("scikit-learn")
    made_of = [factor_sizes, sorted(metrics), settings, version, dci_fit]
    key = json.dumps([*made_of, *([observed] if observed else [])])
    name = hashlib.sha256(key.encode()).hexdigest()[:24] + ".json"
    cached = paths.cache_folder() / "ideal" / name
    if cached.exists():
        # A damaged file is as good as none: it is computed again.
        with contextlib.suppress(ValueError, TypeError, KeyError):
            kept: Result = json.loads(cached.read_text())
            if all(-1 <= kept["headline"][name] <= 1 for name in metrics):
                return kept
    data = GridRepresentations(ideal_code(factor_sizes, observed), factor_sizes, observed)
    ideal = score(data, metrics=metrics, dci_fit=dci_fit)
    with kept_if_possible("the ideal code's scores"):
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_text(cached, json.dumps(ideal))
    return ideal
