"""Features, VAE or readout, export: from a data set to the exported model."""

import hashlib
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gin
import torch
from torch import nn

from submission.data.dataset import Dataset, verify
from submission.data.subset import SEED, Subset, random_subset
from submission.features import extraction
from submission.features.weights import SHIPPED_WEIGHTS, check_sha256, load_extractor
from submission.finetuning.network import AXES
from submission.finetuning.suspicion import look_at
from submission.finetuning.weights import read_heads
from submission.latents.codes import cached_codes, keep_codes
from submission.latents.export import export
from submission.latents.groups import chooses, train_groups
from submission.latents.readout import Head, read_out
from submission.latents.seeds import learn
from submission.latents.training import encode_features
from submission.pipeline.configuration import heads_of, load_training
from submission.pipeline.memory_plan import Plan, learning_stage, plan
from submission.render.rig import FACTOR_NAMES
from submission.runtime import paths
from submission.runtime.checkpoint import check_checkpoints
from submission.runtime.config import asks_for, find_config
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError
from submission.runtime.files import locked, sha256, write_text
from submission.runtime.limits import memory_limit
from submission.runtime.usage import Stages

log = logging.getLogger(__name__)

# In the run's folder: what its exported model was made from, and its SHA-256; while another one is
# trained, "unfinished".
RECORD = "exported.json"
# In the folder of the first of several runs: their scores beside each other, and their latents.
COMPARISON = ("comparison.txt", "comparison.png")

# Shares of the whole job, as the authors' release reports them.
_FEATURES_DONE, _VAE_DONE = 0.4, 0.9


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a run's folder, and copies the log into its train.log."""
    with reserved(folder), logged_in(folder):
        yield


def reserved(folder: Path) -> AbstractContextManager[None]:
    """Keeps other runs out of a run's folder; UserError if one is in it."""
    return locked(folder / ".lock", "wait for it, or give this one another --name")


@contextmanager
def logged_in(folder: Path) -> Iterator[None]:
    """Copies the log into the folder's train.log."""
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


@dataclass(frozen=True)
class TrainOptions:
    """What a training is asked for.

    Attributes:
        config: a gin file or a shipped one's name, which `bindings` override.
        seeds: so many are trained, and the first by UDR is exported.
        hours: no further seed is begun that would end later than so many hours after the start.
        memory: what the run may take, as "8g"; None for what the system says.
        images: learn from so many, drawn at random (data/subset.py); None for all. The exported
            model takes any.
        for_grading: nobody asks for more than the exported model: codes and features are not kept.
    """

    config: Path
    bindings: Sequence[str] = ()
    weights: Path = SHIPPED_WEIGHTS
    device: str = "auto"
    seeds: int = 1
    hours: float | None = None
    memory: str | None = None
    images: int | None = None
    for_grading: bool = False


def plan_of(dataset: Dataset, options: TrainOptions, scoring: bool, rendered: bool) -> Plan:
    """The memory plan of `train`, whose configuration is in force afterwards; UserError if it is
    none, its heads cannot be read, or the run does not fit."""
    learnt_from = _learnt_from(dataset, options)
    load_training(options.config, options.bindings, learnt_from.num_images)
    if heads := heads_of(options.weights):
        _read(heads)  # a damaged file is heard of now, not after the features
        if options.seeds > 1:
            raise UserError("read_out has no seed, all would be the same: leave out --seeds")
    device, limit = pick_device(options.device), memory_limit(options.memory)
    size = (dataset.mapped_bytes, scoring, rendered, dataset.image_bytes)
    return plan(learnt_from.num_images, limit, device, *size, scored=dataset.num_images)


def train(
    dataset: Dataset,
    folder: Path,
    options: TrainOptions,
    stages: Stages,
    scoring: bool = False,
    rendered: bool = False,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Plan:
    """Features, VAE or readout, export; returns the memory plan that it followed. Killed at any
    moment, the same call goes on where it was; after its end it finds the exported model and does
    nothing, unless options.hours left seeds untrained.

    Args:
        folder: the run's folder, reserved; afterwards it holds
            representation/pytorch_model.pt, config.gin, train.log, losses.csv, tensorboard/
            (with groups: groups.csv and a folder for each; with a readout, in place of losses and
            curves: readout.csv), stages.json and exported.json.
        scoring, rendered: see memory_plan.plan.
        on_progress: called with the share of the whole that is done, as the authors' release has
            it: .4 after the features, from there to .9 while the VAE is trained, or the heads read.

    Raises UserError for any mistake in what the user gave and for not enough memory, Stopped for a
    signal: what was done is saved.
    """
    seeds, until = options.seeds, _until(options)
    planned = plan_of(dataset, options, scoring, rendered)
    heads, device = heads_of(options.weights), pick_device(options.device)
    _log_what(dataset, options, device, planned)
    with stages.stage("checking the data"):
        md5 = verify(dataset, sys.stderr.isatty())
        images = dataset.first(32)  # for the export, hours later: the file may be gone by then
        look_at(dataset, md5, device, planned.batch_size)
    extractor = load_extractor(options.weights)
    weights = check_sha256(options.weights)
    learnt_from = _learnt_from(dataset, options)
    key = extraction.cache_key(md5, weights, extractor) + learnt_from.part
    fingerprint = _fingerprint(key, seeds, heads)
    model = paths.model_path(folder)
    record = _record(folder, fingerprint)
    if record and record["trained"] == record["seeds"]:
        log.info("this command has exported %s already: nothing to train", model)
        stages.read(folder / "stages.json")
        return planned
    check_checkpoints(folder, fingerprint)
    plain = extraction.cached_features(key)
    began = _features_before(folder, fingerprint, plain)
    settings = (device, planned.batch_size, in_bfloat16(device, options.for_grading))
    with stages.stage("features"):
        cached = extraction.extract_features(learnt_from, extractor, plain, *settings, began=began)
    on_progress(_FEATURES_DONE)
    if not record:
        # From here on curves in the folder are not those of a model that it may have already.
        _write_record(folder, {"unfinished": fingerprint, "features": cached.name})
    with stages.stage(learning_stage()):
        features = extraction.open_features(cached, device, planned.features_in_memory)
        run = (folder, fingerprint, seeds, until)
        means, seed, trained = _learn(features, heads, *run, partial(_report_learning, on_progress))
    if record and (record.get("seed"), record["trained"]) == (seed, trained):
        log.info("no further seed: %s stays what is exported", model)
        stages.read(folder / "stages.json")
        return planned
    with stages.stage("export"):
        export(extractor, means, images, model)
    _replace_description(folder, seeds, seed)
    # The exported file's codes do not follow from features of bfloat16, or of a GPU.
    whole = learnt_from is dataset and cached == plain
    if whole and not options.for_grading and device.type == "cpu":
        with stages.stage("codes"):
            codes = encode_features(means.to(device), features).cpu().numpy()
            keep_codes(codes, cached_codes(model, md5))
    stages.write(folder / "stages.json")
    record = {"fingerprint": fingerprint, "sha256": sha256(model), "weights": weights}
    record |= {"seeds": seeds, "trained": trained, "seed": seed, "features": cached.name}
    _write_record(folder, record)
    # Only now: until all that is made from them stands, the checkpoints are all there is.
    _clear(folder, cached, options, left_over=trained < seeds)
    return planned


def _learnt_from(dataset: Dataset, options: TrainOptions) -> Dataset | Subset:
    return dataset if options.images is None else random_subset(dataset, options.images)


def _learn(
    features: torch.Tensor,
    heads: Path | None,
    folder: Path,
    fingerprint: str,
    seeds: int,
    until: float | None,
    on_progress: Callable[[float], None],
) -> tuple[nn.Module, int, int]:
    """Features -> latent means, the seed that they are of, and how many were trained."""
    if heads:
        return read_out(features, _read(heads), folder, on_progress), 0, 1
    return learn(features, folder, fingerprint, seeds, until, on_progress)


def _log_what(dataset: Dataset, options: TrainOptions, device: torch.device, planned: Plan) -> None:
    log.info(f"data: {dataset.description}")
    if options.images is not None:
        some, whole = f"{options.images:,}", f"{dataset.num_images:,}"
        log.info("learning from %s of %s images, drawn at random by seed %d", some, whole, SEED)
    log.info(f"configuration: {find_config(options.config)}")
    log.info(f"weights: {options.weights}, device: {device}")
    for line in planned.lines():
        log.info(line)


def _fingerprint(key: str, seeds: int, heads: Path | None) -> str:
    """Of what the exported model is made: features, configuration, seeds, heads."""
    parts = [key, gin.config_str(), *([f"seeds {seeds}"] if seeds > 1 else [])]
    made_of = "\n".join([*parts, *([check_sha256(heads)] if heads else [])])
    return hashlib.sha256(made_of.encode()).hexdigest()


def in_bfloat16(device: torch.device, for_grading: bool) -> bool:
    """Whether features may be bfloat16's. Scores are the exported float32 file's. On a CPU its
    codes cost nothing beside features of float32, and another pass over all images beside those of
    bfloat16."""
    bfloat16 = bool(gin.query_parameter("extract_features.bfloat16"))
    return bfloat16 and (for_grading or device.type != "cpu")


def _report_learning(on_progress: Callable[[float], None], share: float) -> None:
    on_progress(_FEATURES_DONE + (_VAE_DONE - _FEATURES_DONE) * share)


def _read(file: Path) -> list[Head]:
    return [
        Head(name, weight, bias, number in AXES)
        for number, (name, (weight, bias)) in enumerate(
            zip(FACTOR_NAMES, read_heads(file), strict=True)
        )
    ]


def _clear(folder: Path, features: Path, options: TrainOptions, left_over: bool) -> None:
    """Deletes what nobody will ask for again. Where --hours left seeds over, the checkpoints stay
    for the same command's next call."""
    if not left_over or options.for_grading:
        for checkpoint in folder.rglob("checkpoint.pt"):
            checkpoint.unlink()
    if options.for_grading:
        features.unlink(missing_ok=True)


def _until(options: TrainOptions) -> float | None:
    """The time (of time.monotonic) after which no seed is to end; None for any."""
    seeds, hours = options.seeds, options.hours
    if seeds < 1 or (hours is not None and not 0 < hours < 1e6):
        raise UserError(
            f"--seeds {seeds} and --hours {hours} cannot be: ask for at least one seed and more "
            "than 0 hours"
        )
    return time.monotonic() + 3600 * hours if hours else None


def _replace_description(folder: Path, seeds: int, exported: int) -> None:
    """Writes config.gin. Scores, curves and ranking of the model before are not this one's."""
    stale = ["scores.json", "scores.txt", "scores.png", "report.html", *COMPARISON]
    grouped, read = asks_for(train_groups), asks_for(read_out)
    stale += ["udr.json", "udr.txt"] if seeds == 1 else []
    stale += ["losses.csv"] if seeds > 1 or grouped or read else []
    stale += ["groups.csv"] if seeds > 1 or not grouped else []
    stale += ["choice.json"] if seeds > 1 or not (grouped and chooses()) else []
    stale += [] if read else ["readout.csv"]
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    if "losses.csv" in stale:
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    if not read:
        with gin.unlock_config():
            gin.bind_parameter("train_vae.seed", exported)  # of several seeds
    write_text(folder / "config.gin", gin.config_str())


def _features_before(folder: Path, fingerprint: str, cached: Path) -> Path | None:
    """The feature file, in the folder of `cached`, that an earlier call of this run trained on."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        record = json.loads((folder / RECORD).read_text())
        if fingerprint in (record.get("unfinished"), record.get("fingerprint")):
            return cached.with_name(record["features"])
    return None


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    write_text(folder / RECORD, json.dumps(record) + "\n")


def _record(folder: Path, fingerprint: str) -> dict[str, Any]:
    """What a run of this fingerprint recorded of the folder's model; nothing unless that is what it
    exported, byte for byte."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        record: dict[str, Any] = json.loads((folder / RECORD).read_text())
        _ = record["trained"], record["seeds"]
        same = record["fingerprint"] == fingerprint
        if same and record["sha256"] == sha256(paths.model_path(folder)):
            return record
    return {}
