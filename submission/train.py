"""`train`: what the server runs. Data -> features -> VAE -> TorchScript, and the events."""

import argparse
import hashlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gin

from submission import events, memory, paths
from submission.config import load_config
from submission.data import Dataset, md5_warning, open_dataset, verify
from submission.encode import cached_codes, keep_codes
from submission.errors import UserError, first_line
from submission.export import export
from submission.extractor import SHIPPED_WEIGHTS, check_sha256, load_extractor
from submission.features import (
    cache_key,
    extract_features,
    locked,
    open_features,
    pick_device,
)
from submission.stages import Stages, write_text
from submission.vae import encode_features, train_vae

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_training_arguments(parser)
    parser.add_argument("--config", type=Path, default=Path("public.gin"), help="gin file")


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """What `train` and `run` share."""
    parser.add_argument(
        "bindings", nargs="*", metavar="Function.parameter=value",
        help="gin bindings that override the configuration",
    )  # fmt: skip
    parser.add_argument("--dataset", help="default: AICROWD_DATASET_NAME, else mpi3d_real")
    parser.add_argument(
        "--data", type=Path, help="folder of the data sets; default: DISENTANGLEMENT_LIB_DATA"
    )
    parser.add_argument("--name", help="the run's name; default: AICROWD_EVALUATION_NAME")
    parser.add_argument(
        "--weights", type=Path, default=SHIPPED_WEIGHTS, help="extractor; default: the shipped one"
    )
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 ...; default: a GPU if there is one"
    )
    parser.add_argument(
        "--memory", help="as 8g, 2GiB, 1500m: what the run may take; default: what the system says"
    )


def run(args: argparse.Namespace) -> None:
    """The server's job. The grader hears of the start, the progress, and the end or the error."""
    events.execution_started()
    try:
        dataset = open_dataset(
            args.data or paths.data_folder(), args.dataset or paths.dataset_name()
        )
        folder = paths.run_folder(args.name)
        stages = Stages()
        planned = train(dataset, folder, args, stages)
        memory.log_comparison(planned, stages)
        print(f"\n{stages.table()}\n\nexported: {paths.model_path(folder)}")
    except BaseException as error:
        events.execution_error(first_line(error) or type(error).__name__)
        raise
    events.submit()


def train(
    dataset: Dataset,
    folder: Path,
    args: argparse.Namespace,
    stages: Stages,
    scoring: bool = False,
) -> memory.Plan:
    """Features, VAE, export. Killed at any moment, the same call goes on where it was.

    Args:
        dataset: the images, without labels.
        folder: the run's folder; afterwards it holds representation/pytorch_model.pt, config.gin,
            train.log, losses.csv, tensorboard/ and stages.json.
        args: config, bindings, weights, device, memory as parsed by the command line.
        stages: collects time and memory.
        scoring: the caller will score afterwards, which must fit into memory, too.

    Returns:
        The memory plan that the run followed.

    Raises:
        UserError: any mistake in what the user gave, or not enough memory.
    """
    with locked(folder / ".lock"), _log_file(folder / "train.log"):
        load_config(args.config, args.bindings)
        device = pick_device(args.device)
        log.info("data: %s", dataset.description)
        log.info("weights: %s, device: %s", args.weights, device)
        mapped = dataset.num_images * 64 * 64 * 3 if dataset.offset is not None else 0
        planned = memory.plan(
            dataset.num_images, memory.memory_limit(args.memory), device, mapped, scoring
        )
        for line in planned.lines():
            log.info(line)
        with stages.stage("checking the data"):
            md5 = verify(dataset, sys.stderr.isatty())
            if warning := md5_warning(dataset, md5):
                log.warning(warning)
        extractor = load_extractor(args.weights)
        key = cache_key(md5, check_sha256(args.weights), extractor)
        cached = _make(paths.cache_folder() / "features") / f"{key}.npy"
        with stages.stage("features"):
            extract_features(dataset, extractor, cached, device, planned.batch_size)
        with stages.stage("VAE"):
            features = open_features(cached, device, planned.features_in_memory)
            fingerprint = hashlib.sha256(f"{key}\n{gin.config_str()}".encode()).hexdigest()
            vae = train_vae(features, folder, fingerprint, on_progress=events.register_progress)
        with stages.stage("export"):
            export(extractor, vae.encoder, dataset.first(32), paths.model_path(folder))
        # Scores of the model that was here before are not this one's.
        for name in ("scores.json", "scores.txt", "scores.png"):
            (folder / name).unlink(missing_ok=True)
        write_text(folder / "config.gin", gin.operative_config_str())
        stages.write(folder / "stages.json")
        # Only now: until the export stands, the checkpoint is all there is.
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        if events.is_grading():
            cached.unlink()  # nobody will ask for these features again
        else:
            with stages.stage("codes"):
                keep_codes(
                    encode_features(vae.encoder, features),
                    cached_codes(paths.model_path(folder), md5),
                )
    return planned


def _make(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): set SUBMISSION_CACHE to a folder "
            "that can"
        ) from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder} cannot be written: set SUBMISSION_CACHE to a folder that can")
    return folder


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Copies the log to a file while it is entered."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger("submission").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("submission").removeHandler(handler)
        handler.close()
