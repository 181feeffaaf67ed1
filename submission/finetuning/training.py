"""Section 2.1: finetuning of the extractor on simulated images, `python -m submission finetune`.

images (N, 3, 64, 64) -> Extractor -> unit vectors (N, 512) -> seven linear heads, one per factor.
The loss is the sum of the heads' cross entropies. Images come from the official toy and realistic
files (finetune.gin, as the paper) or are rendered on the fly (finetune_cpu.gin).

Every random number follows from (seed, epoch or step), so a checkpoint holds no generator's state
and a run that was killed goes on as if it had not been.
"""

import json
import logging
import math
import shutil
import time
from contextlib import nullcontext
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
from submission.features.weights import SHIPPED_WEIGHTS
from submission.finetuning.images import Source, batches
from submission.finetuning.network import AXES, Network, finetuning_loss
from submission.finetuning.processes import mean_over_all, process_count, process_rank, stop_asked
from submission.finetuning.weights import SHIPPED_HEADS, write_weights
from submission.render.rig import FACTOR_NAMES
from submission.runtime import signals
from submission.runtime.checkpoint import continuing, load_checkpoint, save_checkpoint
from submission.runtime.device import has_bfloat16
from submission.runtime.errors import UserError
from submission.runtime.files import write_csv
from submission.runtime.progress import progress_bar

log = logging.getLogger(__name__)


@gin.configurable(denylist=["network", "source", "folder", "device", "fingerprint", "metadata",
                            "progress"])  # fmt: skip
def finetune(
    network: Network,
    source: Source,
    folder: Path,
    device: torch.device,
    fingerprint: str,
    metadata: dict[str, str],
    epochs: int = gin.REQUIRED,
    batch_size: int = gin.REQUIRED,
    learning_rate: float = gin.REQUIRED,
    backbone_learning_rate: float = gin.REQUIRED,
    schedule: str = gin.REQUIRED,
    betas: tuple[float, float] = gin.REQUIRED,
    weight_decay: float = gin.REQUIRED,
    clip_norm: float | None = gin.REQUIRED,
    axis_smoothing: float = gin.REQUIRED,
    checkpoint_steps: int = gin.REQUIRED,
    seed: int = gin.REQUIRED,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Trains the network in place; goes on from the folder's checkpoint.

    Inside torchrun (an initialised process group) each process takes its share of every batch,
    normalises that share by itself, and the gradients are averaged; process 0 writes.

    Writes into `folder`: checkpoint.pt, finetune.csv, tensorboard/, and after every epoch
    vgg19_bn_agg.safetensors and heads.safetensors.

    Args:
        network: with its starting weights, on `device`.
        fingerprint: what the run is made of; another one's checkpoint is refused.
        metadata: goes into the weight file, with the validation's figures.
        epochs: how many in all.
        batch_size: over all processes. A last, smaller batch of an epoch is left out.
        learning_rate: of aggregation and heads. backbone_learning_rate: of VGG's part.
        schedule: "constant", or "cosine": falling to 0 over all steps.
        weight_decay: decoupled (as in AdamW).
        clip_norm: the gradient is scaled down to this norm; None for never.
        axis_smoothing: see finetuning_loss.
        checkpoint_steps: a checkpoint after so many steps, besides after every epoch.

    Returns:
        One row per epoch, as in finetune.csv.

    Raises:
        UserError: the loss is not finite, a damaged or a foreign checkpoint, or sizes that do
            not fit together.
        Stopped: a signal came; the step was finished and saved.
    """
    # Imported here because it is slow to import and only training needs it.
    from torch.utils.tensorboard import SummaryWriter

    if schedule not in ("constant", "cosine"):
        raise UserError(f"finetune.schedule is {schedule!r}, it must be 'constant' or 'cosine'")
    rank, world = process_rank(), process_count()
    if batch_size % world or batch_size // world < 2:
        raise UserError(
            f"finetune.batch_size {batch_size} cannot be shared by {world} processes: choose a "
            f"multiple of {world}, at least {2 * world}"
        )
    steps = len(source.epoch(0)) // batch_size
    if steps == 0:
        raise UserError(
            f"an epoch has {len(source.epoch(0))} images, fewer than finetune.batch_size "
            f"{batch_size}: lower it"
        )
    network.to(device).to(memory_format=torch.channels_last)
    if network.autocast and not has_bfloat16(device):
        log.info("no bfloat16 instructions here: multiplying in float32")
        network.autocast = False
    backbone = list(network.extractor.features.parameters())
    others = [*network.extractor.aggregation.parameters(), *network.heads.parameters()]
    rates = (backbone_learning_rate, learning_rate)
    optim = torch.optim.RAdam(
        [{"params": backbone, "lr": rates[0]}, {"params": others, "lr": rates[1]}],
        betas=(betas[0], betas[1]),
        weight_decay=weight_decay,
        decoupled_weight_decay=True,
        # On a CPU the plain loop over parameters is faster than the batched ("foreach") form.
        foreach=None if device.type == "cuda" else False,
    )
    checkpoint = folder / "checkpoint.pt"
    history: list[dict[str, float]] = []
    # Steps; loss summed over the epoch's steps, in float64: the same however it is split.
    done, total = 0, torch.zeros((), dtype=torch.float64, device=device)
    if state := load_checkpoint(checkpoint, fingerprint, device):
        with continuing(checkpoint):
            network.load_state_dict(state["network"])
            optim.load_state_dict(state["optimizer"])
            done, total, history = state["step"], state["loss"], state["history"]
        log.info("continuing after step %d of %d", done, epochs * steps)
    parallel: nn.Module = network
    if world > 1:
        parallel = DistributedDataParallel(
            network, device_ids=[device.index] if device.type == "cuda" else None
        )

    writer = None
    if rank == 0:
        # Written anew from the checkpoint's rows: what a killed run wrote may lack the last ones.
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        writer = SummaryWriter(str(folder / "tensorboard"))
        for row in history:
            _add_scalars(writer, row, round(row["images_seen"]) // batch_size)
    bar = progress_bar(
        total=epochs * steps, initial=done, desc="finetuning", unit=" steps",
        disable=not progress or rank > 0,
    )  # fmt: skip
    with bar, writer or nullcontext():
        # Not done // steps: the last epoch may lack its validation.
        for epoch in range(len(history), epochs):
            started = time.monotonic()
            numbers = source.epoch(epoch)[(done - epoch * steps) * batch_size : steps * batch_size]
            since = torch.zeros_like(total)  # loss of this process since the checkpoint
            network.train()
            with signals.held():
                for images, factors in batches(source, numbers, batch_size, rank, world):
                    torch.manual_seed((seed * 1_000_003 + done) * world + rank)  # for dropout
                    phase = 1.0
                    if schedule == "cosine":
                        phase = 0.5 * (1 + math.cos(math.pi * done / (epochs * steps)))
                    for group, rate in zip(optim.param_groups, rates, strict=True):
                        group["lr"] = rate * phase
                    logits = parallel(_input(images, device))
                    truth = torch.from_numpy(factors).to(device)
                    loss = finetuning_loss(logits, truth, axis_smoothing)
                    optim.zero_grad()
                    loss.backward()
                    if clip_norm is not None:
                        nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
                    optim.step()
                    since += loss.detach()
                    done += 1
                    bar.update()
                    # Reading a value makes a GPU wait, so not every step; but no checkpoint unread.
                    last = done % steps == 0
                    number = stop_asked(device, done)
                    due = last or number or done % checkpoint_steps == 0
                    if done % 50 == 0 or due:
                        _stop_if_not_finite(network, since, done)
                    if due:
                        total, since = total + mean_over_all(since), torch.zeros_like(since)
                        _save(checkpoint, fingerprint, network, optim, done, total, history)
                    if number:
                        what = f"{done:,} of {epochs * steps:,} steps are in {checkpoint}"
                        signals.stop(number, what)
            for buffer in network.buffers() if world > 1 else ():
                dist.broadcast(buffer, 0)  # all validate with process 0's batch norm
            row = {
                "epoch": epoch + 1,
                "images_seen": done * batch_size,
                "loss": total.item() / steps,
            }
            row |= validate(network, source, batch_size, device, axis_smoothing)
            row["seconds"] = round(time.monotonic() - started, 1)
            history.append(row)
            total = torch.zeros_like(total)
            _log_row(row, epochs)
            if writer is not None:
                _add_scalars(writer, row, done)
                write_csv(folder / "finetune.csv", history)
                write_weights(network, folder, metadata | {"validation": json.dumps(row)})
            _save(checkpoint, fingerprint, network, optim, done, total, history)
    files = [folder / name for name in (SHIPPED_WEIGHTS.name, SHIPPED_HEADS.name)]
    if rank == 0 and not all(file.exists() for file in files):
        # Called again after its end, where somebody has moved them away.
        write_weights(network, folder, metadata | {"validation": json.dumps(history[-1])})
    return history


def _save(
    path: Path,
    fingerprint: str,
    network: Network,
    optim: torch.optim.Optimizer,
    step: int,
    loss: Tensor,
    history: list[dict[str, float]],
) -> None:
    if process_rank() == 0:
        state = {
            "network": network.state_dict(),
            "optimizer": optim.state_dict(),
            "step": step,
            "loss": loss,
            "history": history,
        }
        save_checkpoint(path, fingerprint, state)


def _add_scalars(writer: Any, row: dict[str, float], step: int) -> None:
    for name, value in row.items():
        writer.add_scalar(name, value, step)


@torch.inference_mode()
def validate(
    network: Network, source: Source, batch_size: int, device: torch.device, axis_smoothing: float
) -> dict[str, float]:
    """On the source's validation images: the loss, the accuracy of each factor under its name
    (share, 0..1), and `tilt_error`, `pan_error`, the mean absolute errors in steps."""
    network.eval()
    sums = torch.zeros(11, dtype=torch.float64, device=device)  # images, loss, 7 right, 2 errors
    for images, factors in batches(
        source, source.validation, batch_size, process_rank(), process_count()
    ):
        truth = torch.from_numpy(factors).to(device)
        logits = network(_input(images, device))
        read = torch.stack([values.argmax(dim=1) for values in logits], dim=1)
        sums[0] += len(images)
        sums[1] += len(images) * finetuning_loss(logits, truth, axis_smoothing)
        sums[2:9] += (read == truth).sum(dim=0)
        sums[9:] += (read - truth)[:, list(AXES)].abs().sum(dim=0)
    if process_count() > 1:
        dist.all_reduce(sums)
    means = (sums[1:] / sums[0]).tolist()
    names = ["validation_loss", *FACTOR_NAMES, "tilt_error", "pan_error"]
    return dict(zip(names, means, strict=True))


def _input(images: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    return to_float(images, device).contiguous(memory_format=torch.channels_last)


def _stop_if_not_finite(network: Network, loss: Tensor, step: int) -> None:
    # The weights, too: a gradient can overflow where the loss has not.
    sums = torch.stack([loss, *(p.detach().sum() for p in network.parameters())])
    if not bool(torch.isfinite(sums).all()):
        raise UserError(
            f"loss or weights are not finite by step {step}: lower finetune.learning_rate and "
            "finetune.backbone_learning_rate, or set finetune.clip_norm"
        )


def _log_row(row: dict[str, float], epochs: int) -> None:
    if process_rank() == 0:
        shares = ", ".join(f"{name} {100 * row[name]:.1f} %" for name in FACTOR_NAMES)
        log.info(
            "epoch %d of %d: loss %.3f, validation %.3f: %s; tilt %.2f and pan %.2f steps off",
            row["epoch"], epochs, row["loss"], row["validation_loss"], shares,
            row["tilt_error"], row["pan_error"],
        )  # fmt: skip
