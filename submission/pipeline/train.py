"""Features, VAE, export: from a data set to the exported model."""

import argparse
import hashlib
import json
import logging
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gin

from submission.data.dataset import Dataset, md5_warning, verify
from submission.features.extraction import cache_key, extract_features, open_features
from submission.features.weights import check_sha256, load_extractor
from submission.latents.codes import cached_codes, keep_codes
from submission.latents.export import export
from submission.latents.groups import train_groups
from submission.latents.seeds import learn
from submission.latents.training import encode_features
from submission.pipeline.configuration import load_training
from submission.pipeline.memory_plan import Plan, plan
from submission.runtime import paths
from submission.runtime.checkpoint import check_checkpoints
from submission.runtime.config import asks_for, find_config
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError
from submission.runtime.files import locked, write_text
from submission.runtime.limits import memory_limit
from submission.runtime.usage import Stages
from submission.server import events

log = logging.getLogger(__name__)


# In the run's folder: what its exported model was made from, and its SHA-256; while another one is
# trained, "unfinished".
RECORD = "exported.json"


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a run's folder, and copies the log into its train.log.

    Raises:
        UserError: another run is working in it.
    """
    with locked(folder / ".lock", "wait for it, or give this one another --name"):
        handler = _LogFile(folder / "train.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger("submission").addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger("submission").removeHandler(handler)
            with suppress(OSError):
                handler.close()


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: a full disk is reported by what needs the room, not by every line lost."""


def train(
    dataset: Dataset,
    folder: Path,
    args: argparse.Namespace,
    stages: Stages,
    scoring: bool = False,
    rendered: bool = False,
) -> Plan:
    """Features, VAE, export. Killed at any moment, the same call goes on where it was; after its
    end it finds the exported model and does nothing, unless args.hours left seeds untrained.

    Args:
        dataset: the images, without labels.
        folder: the run's folder, entered by working_in; afterwards it holds
            representation/pytorch_model.pt, config.gin, train.log, losses.csv, tensorboard/
            (with groups: groups.csv and a folder for each), stages.json and exported.json.
        args: config, bindings, weights, device, memory as parsed by the command line.
        stages: collects time and memory.
        scoring: the caller will score afterwards, which must fit into memory, too.
        rendered: the caller renders its data set, see memory.plan.

    Returns:
        The memory plan that the run followed.

    Raises:
        UserError: any mistake in what the user gave, or not enough memory.
        Stopped: a signal came; what was done is saved.
    """
    if args.seeds < 1 or (args.hours is not None and not 0 < args.hours < 1e6):
        raise UserError(
            f"--seeds {args.seeds} and --hours {args.hours} cannot be: ask for at least one seed "
            "and more than 0 hours"
        )
    started = time.monotonic()
    load_training(args.config, args.bindings)
    device = pick_device(args.device)
    log.info("data: %s", dataset.description)
    log.info("configuration: %s", find_config(args.config))
    log.info("weights: %s, device: %s", args.weights, device)
    planned = plan(
        dataset.num_images, memory_limit(args.memory), device, dataset.mapped_bytes, scoring,
        rendered,
    )  # fmt: skip
    for line in planned.lines():
        log.info(line)
    with stages.stage("checking the data"):
        md5 = verify(dataset, sys.stderr.isatty())
        if warning := md5_warning(dataset, md5):
            log.warning(warning)
        # For the export, hours later: the file may be gone by then.
        images = dataset.first(32)
    extractor = load_extractor(args.weights)
    weights = check_sha256(args.weights)
    key = cache_key(md5, weights, extractor)
    parts = [key, gin.config_str(), *([f"seeds {args.seeds}"] if args.seeds > 1 else [])]
    fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    model = paths.model_path(folder)
    record = _record(folder, fingerprint)
    if record and record["trained"] == record["seeds"]:
        log.info("this command has exported %s already: nothing to train", model)
        stages.read(folder / "stages.json")
        return planned
    check_checkpoints(folder, fingerprint)
    features_folder = paths.cache_folder() / "features"
    paths.make_folder(features_folder, "set SUBMISSION_CACHE to a folder that can")
    cached = features_folder / f"{key}.npy"
    with stages.stage("features"):
        extract_features(dataset, extractor, cached, device, planned.batch_size)
    if not record:
        # From here on curves in the folder are not those of a model that it may have already.
        write_text(folder / RECORD, json.dumps({"unfinished": fingerprint}) + "\n")
    with stages.stage("VAE"):
        features = open_features(cached, device, planned.features_in_memory)
        until = started + 3600 * args.hours if args.hours else None
        means, seed, trained = learn(
            features, folder, fingerprint, args.seeds, until, events.register_progress
        )
    if record and (record.get("seed"), record["trained"]) == (seed, trained):
        log.info("no further seed: %s stays what is exported", model)
        stages.read(folder / "stages.json")
        return planned
    with stages.stage("export"):
        export(extractor, means, images, model)
    # Scores, curves and ranking of the model that was here before are not this one's.
    stale = ["scores.json", "scores.txt", "scores.png", "report.html"]
    stale += ["udr.json", "udr.txt"] if args.seeds == 1 else []
    stale += ["losses.csv"] if args.seeds > 1 or asks_for(train_groups) else []
    stale += ["groups.csv"] if args.seeds > 1 or not asks_for(train_groups) else []
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    if "losses.csv" in stale:
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    with gin.unlock_config():
        gin.bind_parameter("train_vae.seed", seed)  # of several the exported one
    write_text(folder / "config.gin", gin.config_str())
    if not events.is_grading():
        with stages.stage("codes"):
            codes = encode_features(means.to(device), features).cpu().numpy()
            keep_codes(codes, cached_codes(model, md5))
    stages.write(folder / "stages.json")
    record = {
        "fingerprint": fingerprint, "sha256": check_sha256(model), "weights": weights,
        "seeds": args.seeds, "trained": trained, "seed": seed,
    }  # fmt: skip
    write_text(folder / RECORD, json.dumps(record) + "\n")
    # Only now: until all that is made from them stands, the checkpoints are all there is. Where
    # --hours left seeds over they stay for the same command's next call.
    if trained == args.seeds or events.is_grading():
        for checkpoint in folder.rglob("checkpoint.pt"):
            checkpoint.unlink()
    if events.is_grading():
        cached.unlink(missing_ok=True)  # nobody will ask for these features again
    return planned


def _record(folder: Path, fingerprint: str) -> dict[str, Any]:
    """What a run of this fingerprint recorded of the folder's model; nothing unless that is what it
    exported, byte for byte."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        record: dict[str, Any] = json.loads((folder / RECORD).read_text())
        _ = record["trained"], record["seeds"]
        same = record["fingerprint"] == fingerprint
        if same and record["sha256"] == check_sha256(paths.model_path(folder)):
            return record
    return {}
