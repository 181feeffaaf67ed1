"""From an exported model to its five scores."""

import contextlib
import hashlib
import importlib.metadata
import json
from pathlib import Path

from submission.data.dataset import Dataset, verify
from submission.latents.codes import codes_of
from submission.latents.export import load
from submission.metrics import tensorflow_route
from submission.metrics.compute import score
from submission.metrics.figure import draw_run
from submission.metrics.grids import (
    GridImages,
    GridRepresentations,
    check_grid,
    ideal_code,
    torchscript_function,
)
from submission.metrics.results import Context, write_scores
from submission.metrics.settings import Result, ScoreOptions, bound_settings, load_settings
from submission.runtime import paths
from submission.runtime.device import pick_device
from submission.runtime.files import kept_if_possible, sha256, write_text
from submission.runtime.usage import Stages


def score_run(
    dataset: Dataset, folder: Path, options: ScoreOptions, stages: Stages, model: Path | None = None
) -> None:
    """Writes scores.json, scores.txt and scores.png into the run's folder. `model` is an exported
    one other than the run's. Raises UserError if there is none, or its codes cannot be scored."""
    metrics, sizes = options.metrics, dataset.factor_sizes
    check_grid(sizes)  # before hours of codes, not after
    with_tensorflow, tensorflow = options.scorer == "tensorflow", ""
    if with_tensorflow:
        tensorflow_route.refuse_if_missing()
    model = model or paths.model_path(folder)
    load_settings(quick=options.quick)
    data_md5 = verify(dataset)
    if options.stock:
        with stages.stage("scoring (stock route)"):
            images = GridImages(dataset.array(), sizes)
            result = score(images, torchscript_function(load(model)), metrics)
    else:
        with stages.stage("codes for scoring"):
            codes = codes_of(model, dataset, data_md5, pick_device(options.device))
        with stages.stage("scoring"):
            if with_tensorflow:
                scored = tensorflow_route.score_with_tensorflow(codes, sizes, metrics)
                result, tensorflow = scored
            else:
                result = score(GridRepresentations(codes, sizes), metrics=metrics)
    with stages.stage("scoring the ideal code"):
        ideal = _ideal(sizes, metrics)
    domain = next((d for d in ("toy", "realistic", "complex") if d in dataset.name), "real")
    stand_in = dataset.stand_in is not None
    name = f"a rendered stand-in for {dataset.name}" if stand_in else dataset.name
    context = Context(name, stand_in, domain, sizes, ideal, data_md5, sha256(model), tensorflow)
    write_scores(folder, result, context)
    draw_run(folder)


def _ideal(factor_sizes: tuple[int, ...], metrics: tuple[str, ...]) -> Result:
    """The ideal code's scores, from the cache if this grid had them with these settings before."""
    settings = bound_settings()
    version = importlib.metadata.version("scikit-learn")
    key = json.dumps([factor_sizes, sorted(metrics), settings, version])
    name = hashlib.sha256(key.encode()).hexdigest()[:24] + ".json"
    cached = paths.cache_folder() / "ideal" / name
    if cached.exists():
        # A damaged file is as good as none: it is computed again.
        with contextlib.suppress(ValueError, TypeError, KeyError):
            kept: Result = json.loads(cached.read_text())
            if all(-1 <= kept["headline"][name] <= 1 for name in metrics):
                return kept
    data = GridRepresentations(ideal_code(factor_sizes), factor_sizes)
    ideal = score(data, metrics=metrics)
    with kept_if_possible("the ideal code's scores"):
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_text(cached, json.dumps(ideal))
    return ideal
