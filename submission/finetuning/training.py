"""Section 2.1: finetuning of the extractor on simulated images, `python -m submission finetune`.

images (N, 3, 64, 64) -> Extractor -> unit vectors (N, 512) -> seven linear heads, one per factor.
The loss is the sum of the heads' cross entropies. Images come from the official toy and realistic
files (finetune.gin, as the paper) or are rendered on the fly (finetune_cpu.gin).

Every random number follows from (seed, epoch or step), so a checkpoint holds no generator's state
and a run that was killed goes on as if it had not been.
"""

import hashlib
import json
import logging
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gin
import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from submission.features.extraction import to_float
from submission.features.extractor import channels_last
from submission.features.weights import SHIPPED_WEIGHTS
from submission.finetuning.images import Source, batches
from submission.finetuning.network import AXES, Network, finetuning_loss
from submission.finetuning.processes import mean_over_all, process_count, process_rank, stop_asked
from submission.finetuning.starts import Start, start_network
from submission.finetuning.weights import SHIPPED_HEADS, write_weights
from submission.render.rig import FACTOR_NAMES
from submission.runtime import signals
from submission.runtime.checkpoint import continuing, load_checkpoint, save_checkpoint
from submission.runtime.config import configurable_as
from submission.runtime.curves import Curves
from submission.runtime.device import bfloat16_is_faster
from submission.runtime.errors import UserError
from submission.runtime.files import write_csv
from submission.runtime.kinds import Betas, Count, Rate, RateOrNone, Schedule, Weight, Whole
from submission.runtime.progress import progress_bar

log = logging.getLogger(__name__)


@configurable_as("finetune")
@dataclass(frozen=True)
class Settings:
    """How `finetune` trains.

    Attributes:
        batch_size: over all processes. A last, smaller batch of an epoch is left out.
        learning_rate: of aggregation and heads. backbone_learning_rate: of VGG's part.
        schedule: "constant", or "cosine": falling to 0 over all steps.
        weight_decay: decoupled (as in AdamW). axis_smoothing: see finetuning_loss.
        clip_norm: the gradient is scaled down to this norm; None for never.
        checkpoint_steps: a checkpoint after so many steps, besides after every epoch.
    """

    epochs: Count = gin.REQUIRED
    batch_size: Count = gin.REQUIRED
    learning_rate: Rate = gin.REQUIRED
    backbone_learning_rate: Weight = gin.REQUIRED
    schedule: Schedule = gin.REQUIRED
    betas: Betas = gin.REQUIRED
    weight_decay: Weight = gin.REQUIRED
    clip_norm: RateOrNone = gin.REQUIRED
    axis_smoothing: Weight = gin.REQUIRED
    checkpoint_steps: Count = gin.REQUIRED
    seed: Whole = gin.REQUIRED


def finetune_from(start: Start, source: Source, folder: Path, device: torch.device) -> None:
    """Section 2.1 as gin describes it: `finetune` from these starting weights. Raises as
    start_network and finetune."""
    settings = Settings()
    network = start_network(start, settings.seed, source.values)
    begun, images, config = start.description, source.description, gin.config_str()
    made_by = f"python -m submission finetune, torch {torch.__version__}"
    metadata = {"start": begun, "images": images, "config": config, "made_by": made_by}
    parts = [begun, images, source.identity, config, str(process_count())]
    fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if process_rank() == 0:
        log.info(f"images: {images}")
        log.info(f"start: {start.weights}, device: {device}, processes: {process_count()}")
    finetune(network, source, folder, device, settings, fingerprint, metadata)


def finetune(
    network: Network,
    source: Source,
    folder: Path,
    device: torch.device,
    settings: Settings,
    fingerprint: str,
    metadata: dict[str, str],
    progress: bool = True,
) -> list[dict[str, float]]:
    """Trains the network in place; goes on from the folder's checkpoint. Returns the rows of
    finetune.csv, one an epoch.

    Inside torchrun (an initialised process group) each process takes its share of every batch,
    normalises that share by itself, and the gradients are averaged; process 0 writes into `folder`:
    checkpoint.pt, finetune.csv, tensorboard/, and after every epoch vgg19_bn_agg.safetensors and
    heads.safetensors.

    Args:
        fingerprint: what the run is made of; another one's checkpoint is refused.
        metadata: goes into the weight file, with the validation's figures.

    Raises UserError for a loss that is not finite, a damaged or a foreign checkpoint, and sizes
    that do not fit together; Stopped for a signal: the step was finished and saved.
    """
    steps = _steps_per_epoch(source, settings.batch_size)
    channels_last(network.to(device).extractor)
    network.autocast = network.autocast and bfloat16_is_faster(device)
    run = _Training(network, settings, steps, device, folder / "checkpoint.pt", fingerprint)
    writes = process_rank() == 0
    if writes:
        log.info("multiplying in %s", "bfloat16" if network.autocast else "float32")
    curves = Curves(folder) if writes else None
    if curves is not None:
        for row in run.history:
            curves.add(row, round(row["images_seen"]) // settings.batch_size)
    what = {"desc": "finetuning", "unit": " steps", "disable": not (progress and writes)}
    bar = progress_bar(total=settings.epochs * steps, initial=run.step, **what)
    with bar, curves or nullcontext():
        # Not run.step // steps: the last epoch may lack its validation.
        for epoch in range(len(run.history), settings.epochs):
            started = time.monotonic()
            run.train_epoch(source, epoch, bar)
            row = run.finish_epoch(source)
            row["seconds"] = round(time.monotonic() - started, 1)
            run.history.append(row)
            if curves is not None:
                _log_row(row, settings.epochs)
                curves.add(row, run.step)
                write_csv(folder / "finetune.csv", run.history)
                write_weights(network, folder, metadata | {"validation": json.dumps(row)})
            run.save()
    files = [folder / name for name in (SHIPPED_WEIGHTS.name, SHIPPED_HEADS.name)]
    if writes and not all(file.exists() for file in files):
        # Called again after its end, where somebody has moved them away.
        write_weights(network, folder, metadata | {"validation": json.dumps(run.history[-1])})
    return run.history


def _steps_per_epoch(source: Source, batch_size: int) -> int:
    world = process_count()
    if batch_size % world or batch_size // world < 2:
        what = f"finetune.batch_size {batch_size} cannot be shared by {world} processes"
        raise UserError(f"{what}: choose a multiple of {world}, at least {2 * world}")
    images = len(source.epoch(0))
    if images < batch_size:
        what = f"an epoch has {images} images, fewer than finetune.batch_size {batch_size}"
        raise UserError(f"{what}: lower it")
    return images // batch_size


@dataclass
class _Training:
    """The network, its optimiser, and how far they have come: what a checkpoint holds.

    `loss` is summed over the epoch's steps up to the last checkpoint, the mean over all processes;
    float64, so that it is the same however it is split.
    """

    network: Network
    settings: Settings
    steps: int  # an epoch
    device: torch.device
    checkpoint: Path
    fingerprint: str
    step: int = 0  # steps that are done
    history: list[dict[str, float]] = field(default_factory=list)  # a row for each epoch done

    def __post_init__(self) -> None:
        self.optim = _optimizer(self.network, self.settings, self.device)
        self.loss = torch.zeros((), dtype=torch.float64, device=self.device)
        if state := load_checkpoint(self.checkpoint, self.fingerprint, self.device):
            with continuing(self.checkpoint):
                self.network.load_state_dict(state["network"])
                self.optim.load_state_dict(state["optimizer"])
                self.step, self.loss, self.history = state["step"], state["loss"], state["history"]
            # On any machine as it began.
            self.network.autocast = state.get("bfloat16", self.network.autocast)
            log.info(f"continuing after step {self.step} of {self.settings.epochs * self.steps}")
        self.parallel: nn.Module = self.network
        if process_count() > 1:
            devices = [self.device.index] if self.device.type == "cuda" else None
            self.parallel = DistributedDataParallel(self.network, device_ids=devices)

    def save(self) -> None:
        if process_rank() == 0:
            state: dict[str, Any] = {"step": self.step, "loss": self.loss, "history": self.history}
            state |= {"bfloat16": self.network.autocast}
            state |= {"network": self.network.state_dict(), "optimizer": self.optim.state_dict()}
            save_checkpoint(self.checkpoint, self.fingerprint, state)

    def train_epoch(self, source: Source, epoch: int, bar: Any) -> None:
        """Trains on what is left of the epoch, with a checkpoint at its end; raises as finetune."""
        size, steps = self.settings.batch_size, self.steps
        numbers = source.epoch(epoch)[(self.step - epoch * steps) * size : steps * size]
        since = torch.zeros_like(self.loss)  # loss of this process since the checkpoint
        self.network.train()
        with signals.held():
            for images, factors in batches(source, numbers, size, process_rank(), process_count()):
                since += self._train_step(images, factors)
                self.step += 1
                bar.update()
                # Reading a value makes a GPU wait, so not every step; but no checkpoint unread.
                number = stop_asked(self.device, self.step)
                last = self.step % steps == 0
                due = last or number or self.step % self.settings.checkpoint_steps == 0
                if self.step % 50 == 0 or due:
                    _stop_if_not_finite(self.network, since, self.step)
                if due:
                    self.loss = self.loss + mean_over_all(since)
                    since = torch.zeros_like(since)
                    self.save()
                if number:
                    done = f"{self.step:,} of {self.settings.epochs * steps:,} steps"
                    signals.stop(number, f"{done} are in {self.checkpoint}")

    def _train_step(self, images: npt.NDArray[np.uint8], factors: npt.NDArray[np.int64]) -> Tensor:
        """One step of the optimiser; the loss of this process's images, float32 ()."""
        settings = self.settings
        seed = settings.seed * 1_000_003 + self.step
        torch.manual_seed(seed * process_count() + process_rank())  # for dropout
        phase = 1.0
        if settings.schedule == "cosine":
            phase = 0.5 * (1 + math.cos(math.pi * self.step / (settings.epochs * self.steps)))
        rates = (settings.backbone_learning_rate, settings.learning_rate)
        for group, rate in zip(self.optim.param_groups, rates, strict=True):
            group["lr"] = rate * phase
        logits = self.parallel(_input(images, self.device))
        truth = torch.from_numpy(factors).to(self.device)
        loss = finetuning_loss(logits, truth, settings.axis_smoothing)
        self.optim.zero_grad()
        loss.backward()
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm)
        self.optim.step()
        return loss.detach()

    def finish_epoch(self, source: Source) -> dict[str, float]:
        """Validates; the epoch's row of finetune.csv but for its seconds."""
        for buffer in self.network.buffers() if process_count() > 1 else ():
            dist.broadcast(buffer, 0)  # all validate with process 0's batch norm
        epoch, seen = len(self.history) + 1, self.step * self.settings.batch_size
        row = {"epoch": epoch, "images_seen": seen, "loss": self.loss.item() / self.steps}
        self.loss = torch.zeros_like(self.loss)
        return row | validate(self.network, source, self.settings, self.device)


def _optimizer(network: Network, settings: Settings, device: torch.device) -> torch.optim.Optimizer:
    backbone = list(network.extractor.features.parameters())
    others = [*network.extractor.aggregation.parameters(), *network.heads.parameters()]
    # On a CPU the plain loop over parameters is faster than the batched ("foreach") form.
    foreach = None if device.type == "cuda" else False
    decay: Any = dict(weight_decay=settings.weight_decay, decoupled_weight_decay=True)
    groups = [{"params": backbone}, {"params": others}]  # every step sets their rates
    return torch.optim.RAdam(groups, betas=settings.betas, foreach=foreach, **decay)


@torch.inference_mode()
def validate(
    network: Network, source: Source, settings: Settings, device: torch.device
) -> dict[str, float]:
    """On the source's validation images: the loss, the accuracy of each factor under its name
    (share, 0..1, of the images that have a value of it), and `tilt_error`, `pan_error`, the mean
    absolute errors in steps."""
    network.eval()
    # Images, loss, 2 errors; of each factor those labelled and those read right.
    sums = torch.zeros(18, dtype=torch.float64, device=device)
    size, rank, world = settings.batch_size, process_rank(), process_count()
    for images, factors in batches(source, source.validation, size, rank, world):
        truth = torch.from_numpy(factors).to(device)
        logits = network(_input(images, device))
        read = torch.stack([values.argmax(dim=1) for values in logits], dim=1)
        sums[0] += len(images)
        sums[1] += len(images) * finetuning_loss(logits, truth, settings.axis_smoothing)
        sums[2:4] += (read - truth)[:, list(AXES)].abs().sum(dim=0)
        sums[4:11] += (truth >= 0).sum(dim=0)
        sums[11:] += (read == truth).sum(dim=0)
    if world > 1:
        dist.all_reduce(sums)
    loss, *errors = (sums[1:4] / sums[0]).tolist()
    right = (sums[11:] / sums[4:11]).tolist()
    names = ["validation_loss", *FACTOR_NAMES, "tilt_error", "pan_error"]
    return dict(zip(names, [loss, *right, *errors], strict=True))


def _input(images: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    return to_float(images, device).contiguous(memory_format=torch.channels_last)


def _stop_if_not_finite(network: Network, loss: Tensor, step: int) -> None:
    # The weights, too: a gradient can overflow where the loss has not.
    sums = torch.stack([loss, *(p.detach().sum() for p in network.parameters())])
    if not bool(torch.isfinite(sums).all()):
        remedy = "lower finetune.learning_rate and finetune.backbone_learning_rate"
        what = f"loss or weights are not finite by step {step}"
        raise UserError(f"{what}: {remedy}, or set finetune.clip_norm")


def _log_row(row: dict[str, float], epochs: int) -> None:
    shares = ", ".join(f"{name} {100 * row[name]:.1f} %" for name in FACTOR_NAMES)
    losses = f"loss {row['loss']:.3f}, validation {row['validation_loss']:.3f}"
    axes = f"tilt {row['tilt_error']:.2f} and pan {row['pan_error']:.2f} steps off"
    log.info(f"epoch {row['epoch']} of {epochs}: {losses}: {shares}; {axes}")
