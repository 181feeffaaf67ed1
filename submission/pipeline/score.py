"""From an exported model to its five scores."""

import contextlib
import hashlib
import importlib.metadata
import json
import logging
from pathlib import Path
from typing import Any

from joblib.externals.loky import get_reusable_executor

from submission.data.dataset import Dataset, verify
from submission.finetuning.suspicion import look_at
from submission.latents.codes import codes_of
from submission.latents.models import open_model
from submission.metrics import tensorflow_route
from submission.metrics.borrowing import load_further_settings
from submission.metrics.compute import score
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
from submission.metrics.results import Context, write_scores
from submission.metrics.settings import (
    DCI_FITS,
    TITLES,
    Result,
    ScoreOptions,
    bound_settings,
    load_settings,
)
from submission.runtime import paths
from submission.runtime.device import pick_device
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
    metrics, sizes = options.metrics, dataset.factor_sizes
    check_grid(sizes)  # before hours of codes, not after
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
            images = GridImages(dataset.array(), sizes)
            function = torchscript_function(open_model(model))
            result = score(images, function, metrics, dci_fit=options.dci)
            _add_further(images, result, options, function)
    else:
        with stages.stage("codes for scoring"):
            codes = codes_of(model, dataset, data_md5, pick_device(options.device))
        with stages.stage("scoring"):
            data = GridRepresentations(codes, sizes)
            if with_tensorflow:
                scored = tensorflow_route.score_with_tensorflow(codes, sizes, metrics)
                result, tensorflow = scored
            else:
                result = score(data, metrics=metrics, dci_fit=options.dci)
            _add_further(data, result, options)
    for metric, reason in result["not_scored"].items():
        log.warning("%s is not scored: %s", TITLES[metric], reason)
    with stages.stage("scoring the ideal code"):
        ideal = ideal_scores(sizes, metrics, options.dci)
    if options.dci == "scikit-learn":
        # Its workers would wait for more, and keep their memory, while another model is trained.
        get_reusable_executor().shutdown()
    domain = next((d for d in ("toy", "realistic", "complex") if d in dataset.name), "real")
    stand_in = dataset.stand_in is not None
    name = f"a rendered stand-in for {dataset.name}" if stand_in else dataset.name
    context = Context(name, stand_in, domain, sizes, ideal, data_md5, sha256(model), tensorflow)
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
    factor_sizes: tuple[int, ...], metrics: tuple[str, ...], dci_fit: str = DCI_FITS[0]
) -> Result:
    """The ideal code's scores, from the cache if this grid had them with these settings before."""
    settings = bound_settings()
    version = importlib.metadata.version("scikit-learn")
    key = json.dumps([factor_sizes, sorted(metrics), settings, version, dci_fit])
    name = hashlib.sha256(key.encode()).hexdigest()[:24] + ".json"
    cached = paths.cache_folder() / "ideal" / name
    if cached.exists():
        # A damaged file is as good as none: it is computed again.
        with contextlib.suppress(ValueError, TypeError, KeyError):
            kept: Result = json.loads(cached.read_text())
            if all(-1 <= kept["headline"][name] <= 1 for name in metrics):
                return kept
    data = GridRepresentations(ideal_code(factor_sizes), factor_sizes)
    ideal = score(data, metrics=metrics, dci_fit=dci_fit)
    with kept_if_possible("the ideal code's scores"):
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_text(cached, json.dumps(ideal))
    return ideal
