"""The memory plan: what a run will need at its peak, against what it may have, before any work.

Counted is a process's own (anonymous) memory and the libraries' code. Pages of mapped files (the
data set, features on disk) are in no figure here: they show in a process's resident size, but the
system drops them when it needs room, and no process is killed for them.
"""

import itertools
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import gin
import joblib
import torch
from torch import nn

from submission.data.factors import IMAGE_SHAPE
from submission.features.extractor import FEATURE_SIZE, Extractor
from submission.finetuning.network import WIDE_SIZES
from submission.latents.choice import largest
from submission.latents.groups import train_groups
from submission.latents.readout import read_out
from submission.latents.vae import VAE
from submission.runtime.config import asks_for
from submission.runtime.errors import UserError
from submission.runtime.limits import MIB, Limit, mib
from submission.runtime.usage import Stages

log = logging.getLogger(__name__)

# Measured on the CPU with torch 2.14.1 (x86-64, two threads) and rounded up; in MiB, own memory and
# code of an idle process (RssAnon 369, RssFile 305; 383 when it trains):
#   python -c "import submission.commands.train; print(open('/proc/self/status').read())"
BASE, CODE = 380, 390
# From the last line of the logs of
#   python -m submission train --config CONFIG.gin extract_features.batch_size=B train_vae.epochs=2
# for B = 16, 64, 256 (features 587, 668, 1,076 MiB), public.gin (VAE 684, export 778) and
# private.gin (VAE 1,815, export 1,199).
# Bytes per pixel of an image in a batch, at the network's resolution.
BYTES_PER_PIXEL = 740
# Of an image that is larger than an official one: as it is read, as floats, and once more as floats
# in the order that the network wants.
BYTES_PER_BYTE, OFFICIAL_IMAGE = 1 + 4 + 4, math.prod(IMAGE_SHAPE)
# Copies of the extractor's weights while they are read and folded, and while they are exported.
EXTRACTOR_COPIES = 4
# What oneDNN keeps beside, in MiB; differs from CPU to CPU.
EXTRACTION_EXTRA = 40
# Copies of the VAE's weights in training: weights, gradients, two moments, the optimiser's working
# memory, and what is kept free (device.py). In export: weights, gradients, the copy read back.
TRAINING_COPIES, EXPORT_COPIES = 7, 3
# Bytes per unit and row of a batch: a layer's product, norm, activation and a gradient.
BYTES_PER_UNIT = 16
# TensorBoard's and the allocator's, in MiB, beside public.gin's and dry_run.gin's networks.
TRAINING_EXTRA = 80
# SciPy's parts that look for clusters, in MiB.
SCIPY = 60
# A worker of DCI's, which is a process with `--dci scikit-learn` only (RssAnon 92, RssFile 48 in
# /proc/PID/status while `python -m submission score` runs), and the metrics' and the figure's
# libraries in this process (448 of own memory after `import submission.commands.run` where
# `import submission.commands.train` has 371), in MiB.
WORKER, SCORING = 200, 80
# What a dry run's renderer leaves, its compiler above all: 128 to 170 MiB more after write_stand_in
# than before render.stand_in is imported, differing from CPU to CPU.
RENDERER = 200
# Bytes per image in scoring, beside four copies of its code: the ideal code and its factors
# (grids.ideal_code of the full grid: 162 MiB more than before).
SCORING_PER_IMAGE = 170


@dataclass(frozen=True)
class Plan:
    """What was estimated and chosen: `own` is bytes of own memory per stage, without the code."""

    limit: Limit
    own: dict[str, int]
    batch_size: int
    features_in_memory: bool

    @property
    def peak(self) -> int:
        """Bytes that the whole run needs."""
        return max(self.own.values()) + CODE * MIB

    def lines(self) -> list[str]:
        """For the log."""
        stages = ", ".join(f"{name} {mib(need + CODE * MIB)}" for name, need in self.own.items())
        where = "read into memory" if self.features_in_memory else "left on disk"
        return [
            f"memory: {mib(self.limit.bytes)} ({self.limit.source}); expected at most: {stages}",
            f"chosen: {self.batch_size} images per extraction batch, then features {where}",
        ]


def plan(
    num_images: int,
    limit: Limit,
    device: torch.device,
    data_bytes: int = 0,
    scoring: bool = False,
    rendered: bool = False,
    image_bytes: int = OFFICIAL_IMAGE,
    scored: int = 0,
) -> Plan:
    """Estimates the stages' peaks under the gin configuration in force, and chooses. Raises
    UserError if the least that this run needs is more than the limit.

    Args:
        device: on a GPU, features and VAE are there; what the GPU itself needs is not planned.
        data_bytes: size of the data file where it is mapped; counts as address space alone.
        scoring: the run ends with the five metrics.
        rendered: the data set is a stand-in that this process renders first, or did in an earlier
            call: a continued run is to be planned as the first was.
        scored: images in the data set, if fewer are learnt from.
        image_bytes: of one image, its height times width times channels.
    """
    beside = (SCORING * scoring + RENDERER * rendered) * MIB
    larger = max(image_bytes - OFFICIAL_IMAGE, 0)
    own, extraction = _stages(num_images, max(scored, num_images), beside, larger)
    if not scoring:
        del own["scoring"]
    features = num_images * FEATURE_SIZE * 4
    mapped = data_bytes + features if limit.address_space else 0
    room = limit.bytes - CODE * MIB - mapped
    batch = configured = int(gin.query_parameter("extract_features.batch_size"))
    # A row's last bits depend on its batch. So the batch follows from limits that stay the same
    # when a run is continued, never from what happens to be free.
    while limit.lasting and batch > 1 and extraction(batch) > room:
        batch //= 2
    own["features"] = extraction(batch)
    # The tenth is for what the estimate does not know.
    with_features = (learning_stage(), "export", "codes")
    largest = max(own[stage] for stage in with_features)
    resident = device.type == "cpu" and largest + features <= 0.9 * room
    if resident:
        for stage in with_features:
            own[stage] += features
    result = Plan(limit, own, batch, resident)
    if max(own.values()) > room:
        stage = max(own, key=lambda name: own[name])
        remedy = _SMALLER.get(stage, "") if stage != "features" or configured > 1 else ""
        raise UserError(
            f"this run needs {mib(result.peak + mapped)} of memory (stage {stage}) and "
            f"{mib(limit.bytes)} are allowed ({limit.source}): give it more{remedy}"
        )
    return result


_SMALLER = {
    "features": ", or a smaller extract_features.batch_size",
    "VAE": ", or a smaller train_vae.batch_size, Encoder.widths and Decoder.widths",
    "scoring": ", or train without scoring (python -m submission train)",
}


def _stages(
    num_images: int, scored: int, beside: int, larger: int
) -> tuple[dict[str, int], Callable[[int], int]]:
    """Own memory of each stage, in bytes, with features on disk; of the features' by batch size.

    Args:
        scored: how many images are scored. beside: of what the process does besides training.
        larger: bytes by which an image is larger than an official one.
    """
    with torch.device("meta"):  # sizes without the memory
        extractor = Extractor()
    weights = _bytes(extractor)
    learned = _readout(num_images) if asks_for(read_out) else _vae(num_images)
    codes = num_images * learned.latents * 4
    base = BASE * MIB + beside
    after = base + weights

    def extraction(batch: int) -> int:
        working = batch * (extractor.resolution**2 * BYTES_PER_PIXEL + larger * BYTES_PER_BYTE)
        return base + max(EXTRACTOR_COPIES * weights, weights + EXTRACTION_EXTRA * MIB + working)

    # encode_features takes 4,096 rows at once, and joins its parts.
    encoding = 3 * learned.weights + 4096 * learned.units * 4 + 2 * codes
    export = EXTRACTOR_COPIES * weights + EXPORT_COPIES * learned.weights
    workers = WORKER * min(joblib.cpu_count(), 7) * MIB
    own = {
        "features": 0,
        learning_stage(): after + learned.working + learned.left,
        "export": base + export + learned.left,
        "codes": after + encoding + learned.left + TRAINING_EXTRA * MIB,
        "scoring": after
        + 64 * larger * BYTES_PER_BYTE
        + scored * (4 * learned.latents * 4 + SCORING_PER_IMAGE)
        + workers,
    }
    return own, extraction


def learning_stage() -> str:
    """What the log calls the stage from features to latents."""
    return "heads" if asks_for(read_out) else "VAE"


class _Learned(NamedTuple):
    """What makes the latents: its `weights` in bytes, the `units` of its layers, and bytes: that it
    works with, and that it leaves."""

    latents: int
    weights: int
    units: int
    working: int
    left: int


def _vae(num_images: int) -> _Learned:
    with torch.device("meta"):
        vae = VAE(FEATURE_SIZE)
    weights = _bytes(vae)
    units = sum(m.out_features for m in vae.modules() if isinstance(m, nn.Linear))
    latents = vae.encoder.mean.out_features
    separation = 0
    if asks_for(train_groups):
        asked = (gin.query_parameter(f"train_groups.{name}") for name in ("components", "groups"))
        components, latents = largest(*asked)
        # The sample in float32, in float64, centred; each group's components beside the codes;
        # scikit-learn; a latent's values and their clusters. The allocator keeps most of it.
        sample = min(num_images, gin.query_parameter("train_groups.sample"))
        separation = sample * FEATURE_SIZE * (4 + 8 + 8) + 100 * MIB
        separation += num_images * (components * 4 * 2 + 6 * 8)
    rows = gin.query_parameter("train_vae.batch_size") * units * BYTES_PER_UNIT
    training = TRAINING_COPIES * weights + rows + num_images * 8
    return _Learned(latents, weights, units, training + TRAINING_EXTRA * MIB, separation)


def _readout(num_images: int) -> _Learned:
    latents, values = len(WIDE_SIZES), sum(WIDE_SIZES)
    # The codes, in float32 twice and in float64 twice; a latent's values and their clusters; SciPy.
    # The allocator keeps most of it.
    left = num_images * (latents * (4 * 2 + 8 * 2) + 6 * 8) + SCIPY * MIB
    return _Learned(latents, values * FEATURE_SIZE * 4, values, TRAINING_EXTRA * MIB, left)


def log_comparison(planned: Plan, stages: Stages) -> None:
    """One line at a run's end: own memory as measured against the plan's, per stage.

    Scoring is left out: with `--dci scikit-learn` its workers are processes of their own.
    """
    parts = [
        f"{name} {stages.rows[name]['own_mib']:,.0f} of {need / MIB:,.0f}"
        for name, need in planned.own.items()
        if name in stages.rows and name != "scoring"
    ]
    log.info("own memory, measured of planned, in MiB: %s", ", ".join(parts))
    if torch.cuda.is_initialized():
        log.info("GPU memory: %s at its peak", mib(torch.cuda.max_memory_allocated()))


def _bytes(module: nn.Module) -> int:
    tensors = itertools.chain(module.parameters(), module.buffers())
    return sum(math.prod(t.shape) * t.element_size() for t in tensors)
