"""`score`: the five official numbers of an exported model, beside an ideal code's."""

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import logging
from pathlib import Path

from submission import paths, scoring
from submission.data import Dataset, open_dataset, verify
from submission.encode import codes_of
from submission.export import load
from submission.extractor import check_sha256
from submission.features import pick_device
from submission.locks import locked
from submission.picture import draw_run
from submission.stages import Stages, write_text

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_scoring_arguments(parser)
    parser.add_argument("--dataset", help="default: AICROWD_DATASET_NAME, else mpi3d_real")
    parser.add_argument(
        "--data", type=Path, help="folder of the data sets; default: DISENTANGLEMENT_LIB_DATA"
    )
    parser.add_argument("--name", help="the run's name; default: AICROWD_EVALUATION_NAME")
    parser.add_argument("--model", type=Path, help="exported model; default: that of the run")
    parser.add_argument("--device", default="auto", help="cpu, cuda ...; default: a GPU if any")
    parser.add_argument(
        "--stock", action="store_true",
        help="the scorer's own route: call the model on images for every metric (slow)",
    )  # fmt: skip


def add_scoring_arguments(parser: argparse.ArgumentParser) -> None:
    """What `score` and `run` share."""
    parser.add_argument(
        "--metrics", default=",".join(scoring.METRICS),
        help="comma-separated, some of %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="lowered sample counts; comparable with nothing else"
    )


def run(args: argparse.Namespace) -> None:
    """Scores one run's model and prints the table; files as in `score_run`."""
    dataset = open_dataset(args.data or paths.data_folder(), args.dataset or paths.dataset_name())
    folder = paths.run_folder(args.name)
    stages = Stages()
    with locked(folder / ".lock", "wait for it, or give this one another --name"):
        score_run(dataset, folder, args, stages, args.model, args.stock)
    print(f"\n{(folder / 'scores.txt').read_text()}\n{stages.table()}\n\nin {folder}")


def score_run(
    dataset: Dataset,
    folder: Path,
    args: argparse.Namespace,
    stages: Stages,
    model: Path | None = None,
    stock: bool = False,
) -> None:
    """Writes scores.json, scores.txt and scores.png into the run's folder.

    Args:
        dataset: a whole grid, so that factors are known from an image's place.
        folder: the run's folder.
        args: metrics, quick, device as parsed.
        stages: collects time and memory.
        model: an exported model other than the run's.
        stock: take the images through the model for every metric.

    Raises:
        UserError: no model, a metric unknown, or codes that cannot be scored.
    """
    metrics = scoring.chosen(args.metrics)
    scoring.check_grid(dataset.factor_sizes)  # before hours of codes, not after
    model = model or paths.model_path(folder)
    scoring.load_settings(quick=args.quick)
    data_md5 = verify(dataset)
    if stock:
        with stages.stage("scoring (stock route)"):
            result = scoring.score(
                scoring.GridImages(dataset.array(), dataset.factor_sizes),
                scoring.torchscript_function(load(model)),
                metrics,
            )
    else:
        with stages.stage("codes for scoring"):
            codes = codes_of(model, dataset, data_md5, pick_device(args.device))
        with stages.stage("scoring"):
            data = scoring.GridRepresentations(codes, dataset.factor_sizes)
            result = scoring.score(data, metrics=metrics)
    with stages.stage("scoring the ideal code"):
        ideal = _ideal(dataset.factor_sizes, metrics)
    domain = next((d for d in ("toy", "realistic", "complex") if d in dataset.name), "real")
    description = dataset.name
    if dataset.stand_in:
        description = f"a rendered stand-in for {dataset.name}"
    context = scoring.Context(
        description, dataset.stand_in is not None, domain, dataset.factor_sizes, ideal,
        data_md5, check_sha256(model),
    )  # fmt: skip
    scoring.write_scores(folder, result, context)
    draw_run(folder)


def _ideal(factor_sizes: tuple[int, ...], metrics: tuple[str, ...]) -> scoring.Result:
    """The ideal code's scores, from the cache if this grid had them with these settings before."""
    settings = scoring.bound_settings()
    version = importlib.metadata.version("scikit-learn")
    key = json.dumps([factor_sizes, sorted(metrics), settings, version])
    name = hashlib.sha256(key.encode()).hexdigest()[:24] + ".json"
    cached = paths.cache_folder() / "ideal" / name
    if cached.exists():
        # A damaged file is as good as none: it is computed again.
        with contextlib.suppress(ValueError, TypeError, KeyError):
            kept: scoring.Result = json.loads(cached.read_text())
            if all(-1 <= kept["headline"][name] <= 1 for name in metrics):
                return kept
    data = scoring.GridRepresentations(scoring.ideal_code(factor_sizes), factor_sizes)
    ideal = scoring.score(data, metrics=metrics)
    cached.parent.mkdir(parents=True, exist_ok=True)
    write_text(cached, json.dumps(ideal))
    return ideal
