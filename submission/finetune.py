"""Section 2.1: finetuning of the extractor on simulated images, `python -m submission finetune`.

images (N, 3, 64, 64) -> Extractor -> unit vectors (N, 512) -> seven linear heads, one per factor.
The loss is the sum of the heads' cross entropies. Images come from the official toy and realistic
files (finetune.gin, as the paper) or are rendered on the fly (finetune_cpu.gin).

Every random number follows from (seed, epoch or step), so a checkpoint holds no generator's state
and a run that was killed goes on as if it had not been.
"""

import argparse
import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gin
import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.models import VGG19_BN_Weights

from submission import arguments, paths, scene, signals
from submission.checkpoint import continuing, load_checkpoint, save_checkpoint
from submission.data import Dataset, md5_warning, open_dataset, verify
from submission.errors import UserError
from submission.extractor import (
    FEATURE_SIZE,
    SHIPPED_WEIGHTS,
    VGG19_MAPS,
    WEIGHTS_FOLDER,
    Extractor,
    check_sha256,
    read_weights,
)
from submission.features import pick_device, to_float
from submission.locks import locked, replacing
from submission.progress import progress_bar
from submission.stages import write_csv

log = logging.getLogger(__name__)

FACTOR_SIZES = scene.factor_sizes("real")  # (6, 6, 2, 3, 3, 40, 40), one head each
AXES = (5, 6)  # tilt, pan
SHIPPED_HEADS = WEIGHTS_FOLDER / "heads.safetensors"
# Images that are rendered for validation have numbers from here on; training never gets so far.
_VALIDATION = 2**40

Numbers = npt.NDArray[np.int64]
Batch = tuple[npt.NDArray[np.uint8], Numbers]

# VGG16-BN's convolutions by their place in torchvision's `features`, and their places in VGG19-BN.
# The fourth of VGG19-BN's blocks 3 and 4 and two of block 5 have no counterpart in the CRAFT file.
_CRAFT_TO_VGG19 = {
    0: 0, 3: 3, 7: 7, 10: 10, 14: 14, 17: 17, 20: 20, 24: 27, 27: 30, 30: 33, 34: 40, 37: 43,
}  # fmt: skip
_IDENTITY_CONVOLUTIONS = (23, 36, 46, 49)


@gin.configurable(denylist=["extractor"])
class Network(nn.Module):
    """Extractor and heads.

    Args:
        dropout: probability that a channel is dropped before each aggregation convolution.
        head_scale: the heads are applied to this multiple of the unit vector. 1 is the paper's;
            with more the softmax can be sharp while the heads' weights are still small.
        bfloat16: multiply in bfloat16 (autocast), on GPU and CPU, if the device can (see
            has_bfloat16).

    forward: float (N, 3, 64, 64) in [0, 1] -> seven logits, float32 (N, values of the factor).
    With `half_size` the images are halved and the last pool is left out: the same 2x2 map for a
    third of the cost.
    """

    def __init__(
        self,
        extractor: Extractor,
        dropout: float = gin.REQUIRED,
        head_scale: float = gin.REQUIRED,
        bfloat16: bool = gin.REQUIRED,
    ) -> None:
        super().__init__()
        self.extractor = extractor
        self.autocast = bfloat16
        self.head_scale = head_scale
        self.heads = nn.ModuleList(nn.Linear(FEATURE_SIZE, size) for size in FACTOR_SIZES)
        for layer in self.modules():
            if isinstance(layer, nn.Dropout2d):
                layer.p = dropout
        for head in self.heads:
            assert isinstance(head, nn.Linear)
            nn.init.kaiming_uniform_(head.weight, nonlinearity="relu")
            nn.init.zeros_(head.bias)

    def forward(self, images: Tensor, half_size: bool = False) -> list[Tensor]:
        extractor = self.extractor
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast):
            if half_size:
                halved = (F.avg_pool2d(images, 2) - extractor.mean) / extractor.std
                vectors = extractor.aggregation(extractor.features[:-1](halved))
            else:
                vectors = extractor(images)
        # The heads cost nothing, and bfloat16's three digits would blur their scaled input.
        vectors = self.head_scale * vectors.to(next(self.heads.parameters()).dtype)
        return [head(vectors).float() for head in self.heads]


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16. A CPU that has twice the speed
    with them; on one without, a convolution took 36 times as long as in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def finetuning_loss(logits: Sequence[Tensor], factors: Tensor, axis_smoothing: float) -> Tensor:
    """Sum over the seven factors of the cross entropy, each the mean over the batch.

    Args:
        logits: seven float32 (N, values). factors: int64 (N, 7).
        axis_smoothing: the targets of the two axes are normal distributions of this standard
            deviation, in steps, about the true value (cut off at the ends of the axis); 0 for
            the value alone.
    """
    total = torch.zeros((), device=factors.device)
    for i, values in enumerate(logits):
        target = factors[:, i]
        if i in AXES and axis_smoothing > 0:
            steps = torch.arange(values.shape[1], device=values.device) - target[:, None]
            target = torch.softmax(-0.5 * (steps / axis_smoothing) ** 2, dim=1)
        total = total + F.cross_entropy(values, target)
    return total


# --- images


@dataclass(frozen=True)
class Source:
    """Numbered images to train on and to validate on.

    Attributes:
        load: image numbers int64 (n,) -> images uint8 (n, 64, 64, 3) and factors int64 (n, 7), in
            the order of scene.FACTOR_NAMES.
        epoch: number of an epoch, from 0 -> its images' numbers in the order of training.
        validation: the numbers of images that are in no epoch.
        description: what the images are, for the weight file.
        identity: what makes these images others of the same description: the files' md5.
    """

    load: Callable[[Numbers], Batch]
    epoch: Callable[[int], Numbers]
    validation: Numbers
    description: str
    identity: str = ""


@gin.configurable(denylist=["folder"])
def open_source(folder: Path, images: str = gin.REQUIRED) -> Source:
    """The images that the configuration asks for: "files" in `folder`, or "rendered"."""
    if images not in ("files", "rendered"):
        raise UserError(f"open_source.images is {images!r}, it must be 'files' or 'rendered'")
    return file_source(folder) if images == "files" else rendered_source()


@gin.configurable(denylist=["folder"])
def file_source(
    folder: Path,
    datasets: Sequence[str] = gin.REQUIRED,
    training_share: float = gin.REQUIRED,
    validation_images: int | None = gin.REQUIRED,
    seed: int = gin.REQUIRED,
) -> Source:
    """Official files, each split at random; shuffled anew every epoch.

    Args:
        folder: holds `<name>/<name>.npz`. datasets: their names.
        training_share: share of each file's images that is trained on; the rest validates.
        validation_images: use only this many of the rest, None for all.

    Raises:
        UserError: a file that is missing, compressed, damaged, or not of the 2019 grid, or a share
            that leaves none to validate.
    """
    files = [open_dataset(folder, name) for name in datasets]
    arrays = [file.array() for file in files]
    for array in arrays:
        # Random access: reading ahead would read what nobody asked for.
        array._mmap.madvise(1)  # type: ignore[attr-defined]  # MADV_RANDOM
    first = np.cumsum([0, *(file.num_images for file in files)])
    training, validation = [], []
    for i, file in enumerate(files):
        labels(file, np.zeros(1, np.int64))  # refuses other grids before the work begins
        order = first[i] + np.random.default_rng([seed, i]).permutation(file.num_images)
        cut = round(training_share * file.num_images)
        training.append(order[:cut])
        validation.append(order[cut:])

    def load(numbers: Numbers) -> Batch:
        images = np.empty((len(numbers), 64, 64, 3), np.uint8)
        factors = np.empty((len(numbers), 7), np.int64)
        for i, file in enumerate(files):
            here = (first[i] <= numbers) & (numbers < first[i + 1])
            rows = numbers[here] - first[i]
            images[here], factors[here] = arrays[i][rows], labels(file, rows)
        return images, factors

    if not sum(map(len, validation)):
        raise UserError(
            f"file_source.training_share is {training_share}, which leaves no image to validate "
            "on: lower it"
        )
    md5s = []
    for file in files:
        md5s.append(verify(file, progress=_rank() == 0))
        if warning := md5_warning(file, md5s[-1]):
            log.warning(warning)
    trained_on = np.concatenate(training)
    rest = np.random.default_rng([seed, len(files)]).permutation(np.concatenate(validation))
    return Source(
        load,
        lambda epoch: np.random.default_rng([seed, len(files) + 1, epoch]).permutation(trained_on),
        rest[:validation_images],
        "; ".join(file.description for file in files) + f"; {training_share:.0%} of each",
        " ".join(md5s),
    )


@gin.configurable
def rendered_source(
    images_per_epoch: int = gin.REQUIRED,
    validation_images: int = gin.REQUIRED,
    mix: Sequence[float] = gin.REQUIRED,
    strength: float = gin.REQUIRED,
    seed: int = gin.REQUIRED,
) -> Source:
    """Renders of randomised appearance, none shown twice.

    Args:
        images_per_epoch: how many an epoch is to be. mix: shares of toy, realistic and real look.
        strength: of the randomisation, see appearance.py; 0 for the plain looks.
    """
    # Imported here because its compiler is slow to import and every command imports this module.
    from submission import appearance

    def load(numbers: Numbers) -> Batch:
        # One thread, beside the training: it needs a thirtieth of the training's time.
        return appearance.render_random(seed, numbers, mix, strength, threads=1)

    return Source(
        load,
        lambda epoch: np.arange(epoch * images_per_epoch, (epoch + 1) * images_per_epoch),
        np.arange(_VALIDATION, _VALIDATION + validation_images),
        f"rendered; toy, realistic, real look {tuple(mix)}, randomisation {strength}",
    )


def labels(dataset: Dataset, rows: Numbers, values: tuple[int, ...] = FACTOR_SIZES) -> Numbers:
    """The factors of a file's rows, int64 (n, 7): its own columns, in its own order.

    Both axes count 0..39 also in a thinned stand-in. The sixth column is tilt in toy, realistic
    and every stand-in.

    Args:
        values: how many values each factor must have (an axis: at most).

    Raises:
        UserError: another grid (the first release had four colours and four shapes).
    """
    sizes = dataset.factor_sizes
    if sizes[:5] != values[:5] or max(sizes[5:]) > scene.AXIS_VALUES:
        raise UserError(
            f"{dataset.path} has the grid {sizes}, the heads read {values}: use today's release "
            "of the data set"
        )
    factors = np.stack(np.unravel_index(rows, sizes), axis=1).astype(np.int64)
    for axis in AXES:
        if sizes[axis] > 1:
            factors[:, axis] = scene.axis_indices(sizes[axis])[factors[:, axis]]
    return factors


def batches(
    source: Source, numbers: Numbers, batch_size: int, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """This process's share of each batch, loaded in a thread while the network works.

    Reading and rendering leave Python's lock alone, so a thread is enough.
    """
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for begin in range(0, len(numbers), batch_size):
            share = numbers[begin : begin + batch_size][rank::world]
            if len(share):
                waiting.append(pool.submit(source.load, share))
            if len(waiting) > 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


# --- training


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
    half_size_epochs: int = gin.REQUIRED,
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
        epochs: all of them; the first `half_size_epochs` train at 32x32 (see Network).
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
    rank, world = _rank(), _world()
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
            half_size = epoch < half_size_epochs
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
                    logits = parallel(_input(images, device), half_size)
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
                    asked = _asked(device, done)
                    due = last or asked or done % checkpoint_steps == 0
                    if done % 50 == 0 or due:
                        _stop_if_not_finite(network, since, done)
                    if due:
                        total, since = total + _mean(since), torch.zeros_like(since)
                        _save(checkpoint, fingerprint, network, optim, done, total, history)
                    if asked:
                        what = f"{done:,} of {epochs * steps:,} steps are in {checkpoint}"
                        signals.stop(asked, what)
            for buffer in network.buffers() if world > 1 else ():
                dist.broadcast(buffer, 0)  # all validate with process 0's batch norm
            row = {
                "epoch": epoch + 1,
                "images_seen": done * batch_size,
                "loss": total.item() / steps,
            }
            row |= validate(network, source, batch_size, device, axis_smoothing, half_size)
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
    if _rank() == 0:
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


def _asked(device: torch.device, step: int) -> int:
    """The number of the signal that asks all processes, after the same step, for the end; or 0."""
    if _world() == 1:
        return signals.asked()
    # Reading a value makes a GPU wait, so not every step.
    if device.type == "cuda" and step % 10:
        return 0
    number = torch.tensor(signals.asked(), device=device)
    dist.all_reduce(number, dist.ReduceOp.MAX)
    return int(number)


@torch.inference_mode()
def validate(
    network: Network,
    source: Source,
    batch_size: int,
    device: torch.device,
    axis_smoothing: float,
    half_size: bool,
) -> dict[str, float]:
    """On the source's validation images: the loss, the accuracy of each factor under its name
    (share, 0..1), and `tilt_error`, `pan_error`, the mean absolute errors in steps."""
    network.eval()
    sums = torch.zeros(11, dtype=torch.float64, device=device)  # images, loss, 7 right, 2 errors
    for images, factors in batches(source, source.validation, batch_size, _rank(), _world()):
        truth = torch.from_numpy(factors).to(device)
        logits = network(_input(images, device), half_size)
        read = torch.stack([values.argmax(dim=1) for values in logits], dim=1)
        sums[0] += len(images)
        sums[1] += len(images) * finetuning_loss(logits, truth, axis_smoothing)
        sums[2:9] += (read == truth).sum(dim=0)
        sums[9:] += (read - truth)[:, list(AXES)].abs().sum(dim=0)
    if _world() > 1:
        dist.all_reduce(sums)
    means = (sums[1:] / sums[0]).tolist()
    names = ["validation_loss", *scene.FACTOR_NAMES, "tilt_error", "pan_error"]
    return dict(zip(names, means, strict=True))


def _input(images: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    return to_float(images, device).contiguous(memory_format=torch.channels_last)


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _mean(value: Tensor) -> Tensor:
    """The mean over all processes."""
    if _world() > 1:
        dist.all_reduce(value)
    return value / _world()


def _stop_if_not_finite(network: Network, loss: Tensor, step: int) -> None:
    # The weights, too: a gradient can overflow where the loss has not.
    sums = torch.stack([loss, *(p.detach().sum() for p in network.parameters())])
    if not bool(torch.isfinite(sums).all()):
        raise UserError(
            f"loss or weights are not finite by step {step}: lower finetune.learning_rate and "
            "finetune.backbone_learning_rate, or set finetune.clip_norm"
        )


def _log_row(row: dict[str, float], epochs: int) -> None:
    if _rank() == 0:
        shares = ", ".join(f"{name} {100 * row[name]:.1f} %" for name in scene.FACTOR_NAMES)
        log.info(
            "epoch %d of %d: loss %.3f, validation %.3f: %s; tilt %.2f and pan %.2f steps off",
            row["epoch"], epochs, row["loss"], row["validation_loss"], shares,
            row["tilt_error"], row["pan_error"],
        )  # fmt: skip


# --- weight files


def widen(extractor: Extractor) -> dict[str, Tensor]:
    """State of an extractor with all of VGG19's maps that computes what this one computes.

    Map j of a wide layer is a copy of the thin layer's map j mod n, and whoever reads a map of
    which there are k copies reads each to the k-th part (Net2WiderNet, arXiv 1511.05641, section
    2.2). Where nothing is missing nothing changes.
    """
    thin = extractor.state_dict()
    state: dict[str, Tensor] = {}
    copies = torch.arange(3)  # of the layer before: the image's channels, once each
    wide = Extractor(maps=VGG19_MAPS).state_dict()
    for key, value in wide.items():
        own = thin[key]
        if own.dim() == 4:
            count = torch.bincount(copies).to(own)
            own = (own / count[:, None, None])[:, copies]
            copies = torch.arange(value.shape[0]) % own.shape[0]
        state[key] = own[copies] if own.dim() else own
    return state


def write_weights(network: Network, folder: Path, metadata: dict[str, str]) -> None:
    """Writes vgg19_bn_agg.safetensors (float16; keys `features.*`, `aggregator.*`) and
    heads.safetensors (float32; `heads.0` .. `heads.6`, with `head_scale` in its metadata).

    Raises:
        UserError: a weight is beyond float16's range.
    """
    state: dict[str, Tensor] = {}
    for key, value in widen(network.extractor).items():
        if not key.endswith("num_batches_tracked"):
            small = value.detach().cpu().half().contiguous()
            if not bool(torch.isfinite(small).all()):
                raise UserError(
                    f"{key} is beyond float16's range: lower finetune.learning_rate and "
                    "finetune.backbone_learning_rate"
                )
            state[key.removeprefix("aggregation.")] = small
    heads = {
        f"heads.{key}": value.detach().cpu().contiguous()
        for key, value in network.heads.state_dict().items()
    }
    for name, tensors, extra in (
        (SHIPPED_WEIGHTS.name, state, {}),
        (SHIPPED_HEADS.name, heads, {"head_scale": repr(network.head_scale)}),
    ):
        with replacing(folder / name) as file:
            file.write(save(tensors, metadata | extra))


def read_heads(path: Path) -> list[tuple[Tensor, Tensor]]:
    """The seven heads as (weight, bias), float32, to be applied to the unit vector itself (the
    file's `head_scale` is multiplied into the weights).

    Raises:
        UserError: as read_weights, or not the heads of this project.
    """
    if not path.is_file():
        raise UserError(f"no heads file {path}: give --heads the path of one")
    tensors = read_weights(path)
    try:
        with safe_open(path, "pt") as file:
            scale = float((file.metadata() or {})["head_scale"])
        heads = [
            (tensors[f"heads.{i}.weight"].float() * scale, tensors[f"heads.{i}.bias"].float())
            for i in range(len(FACTOR_SIZES))
        ]
    except (KeyError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{path} holds no heads of this project ({error} is missing or wrong): name a "
            f"{SHIPPED_HEADS.name} that `finetune` wrote"
        ) from error
    for i, (size, (weight, bias)) in enumerate(zip(FACTOR_SIZES, heads, strict=True)):
        if weight.shape != (size, FEATURE_SIZE) or bias.shape != (size,):
            raise UserError(
                f"{path} is of another architecture: 'heads.{i}' should read {size} values from "
                f"{FEATURE_SIZE} numbers and is {tuple(weight.shape)}"
            )
    return heads


@gin.configurable(denylist=["start", "craft_file", "heads", "seed"])
def start_network(
    start: str,
    craft_file: Path | None,
    heads: Path | None,
    seed: int,
    maps: Sequence[int] = gin.REQUIRED,
) -> Network:
    """The network as training begins; what no file gives is He-uniform (PyTorch's own
    initialisation in an untrained VGG).

    Args:
        start: "imagenet", "craft", "scratch", or a file: one of our weight files, or
            torchvision's vgg19_bn-*.pth (its backbone only).
        craft_file: CRAFT's craft_mlt_25k.pth.
        heads: a heads file; None for new heads.
        maps: of the backbone's five blocks. Fewer than VGG19's train a thin network from scratch,
            at a cost that falls with the square; its weight file is widened (see `widen`).

    Raises:
        UserError: no such file, one of another architecture, a failed download, or a thin network
            that is to start from a file.
    """
    if tuple(maps) != VGG19_MAPS and start != "scratch":
        raise UserError(
            f"start_network.maps is {tuple(maps)}: only {VGG19_MAPS} can start from {start}; "
            "add --from scratch, or bind start_network.maps to VGG19's"
        )
    torch.manual_seed(seed)
    network = Network(Extractor(maps=maps))
    if start == "imagenet":
        try:
            tensors = VGG19_BN_Weights.IMAGENET1K_V1.get_state_dict(
                progress=True, check_hash=True, weights_only=True
            )
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"ImageNet's weights cannot be downloaded ({error}): name a local copy of "
                f"{VGG19_BN_Weights.IMAGENET1K_V1.url.rpartition('/')[2]} with --from"
            ) from error
        load_start(network.extractor, dict(tensors), start)
    elif start == "craft":
        if craft_file is None:
            raise UserError("--from craft needs --craft-file, the path of craft_mlt_25k.pth")
        load_start(network.extractor, craft_weights(craft_file), str(craft_file))
    elif start != "scratch":
        load_start(network.extractor, read_weights(Path(start)), start)
    if heads is not None:
        with torch.no_grad():
            for head, (weight, bias) in zip(network.heads, read_heads(heads), strict=True):
                assert isinstance(head, nn.Linear)
                head.weight.copy_(weight / network.head_scale)
                head.bias.copy_(bias)
    return network


def load_start(extractor: Extractor, tensors: dict[str, Tensor], name: str) -> None:
    """Copies `features.*` and, if there are any, `aggregator.*` into the extractor.

    Raises:
        UserError: a tensor is missing or has another shape.
    """
    with_aggregation = any(key.startswith("aggregator.") for key in tensors)
    state = extractor.state_dict()
    for own_key, own in state.items():
        key = own_key.removeprefix("aggregation.")
        skipped = key.startswith("aggregator.") and not with_aggregation
        if skipped or key.endswith("num_batches_tracked"):
            continue
        if key not in tensors or tensors[key].shape != own.shape:
            has = tuple(tensors[key].shape) if key in tensors else "nothing"
            raise UserError(
                f"{name} is of another architecture: {key!r} should be {tuple(own.shape)} and is "
                f"{has}; name a file made for VGG19-BN"
            )
        state[own_key] = tensors[key].float()
    extractor.load_state_dict(state)


def craft_weights(path: Path) -> dict[str, Tensor]:
    """VGG19-BN's `features.*` from CRAFT's VGG16-BN (ImageNet filters, finetuned on text).

    The four convolutions without a counterpart pass on what they are given: after a ReLU a
    centre-one filter, a batch norm that (in evaluation) does nothing, and another ReLU do so.

    Raises:
        UserError: as read_weights, or not the CRAFT file.
    """
    found = {}
    for key, value in read_weights(path).items():
        module, _, rest = key.removeprefix("module.basenet.").partition(".")
        if key.startswith("module.basenet.") and module in ("slice1", "slice2", "slice3", "slice4"):
            found[rest] = value
    tensors: dict[str, Tensor] = {}
    norm = ("weight", "bias", "running_mean", "running_var")
    for theirs, ours in _CRAFT_TO_VGG19.items():
        for shift, names in ((0, ("weight", "bias")), (1, norm)):
            for name in names:
                if f"{theirs + shift}.{name}" not in found:
                    raise UserError(
                        f"{path} is not CRAFT's weights: no convolution {theirs} of VGG16-BN in "
                        "it; name craft_mlt_25k.pth"
                    )
                tensors[f"features.{ours + shift}.{name}"] = found[f"{theirs + shift}.{name}"]
    for ours in _IDENTITY_CONVOLUTIONS:
        size = 256 if ours == 23 else 512
        tensors[f"features.{ours}.weight"] = nn.init.dirac_(torch.empty(size, size, 3, 3))
        # Batch norm divides by sqrt(1 + eps).
        tensors[f"features.{ours + 1}.weight"] = torch.full((size,), math.sqrt(1 + 1e-5))
        tensors[f"features.{ours + 1}.running_var"] = torch.ones(size)
        for name in (f"{ours}.bias", f"{ours + 1}.bias", f"{ours + 1}.running_mean"):
            tensors[f"features.{name}"] = torch.zeros(size)
    return tensors


# --- command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_bindings(parser)
    parser.add_argument("--config", type=Path, default=Path("finetune.gin"), help="gin file")
    # Not --start: torchrun takes that for an abbreviation of its own --start-method.
    parser.add_argument(
        "--from", dest="start", default="imagenet", metavar="imagenet|craft|scratch|FILE",
        help="starting weights; FILE is a weight file of ours or torchvision's vgg19_bn-*.pth",
    )  # fmt: skip
    parser.add_argument("--craft-file", type=Path, help="craft_mlt_25k.pth, for --from craft")
    parser.add_argument("--heads", type=Path, help="start from this heads file, too")
    parser.add_argument(
        "--data", type=Path, help="folder of the data sets; default: DISENTANGLEMENT_LIB_DATA"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is written")
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 ...; default: a GPU if there is one"
    )


def run(args: argparse.Namespace) -> None:
    """The `finetune` command, by itself or under torchrun (one process per GPU)."""
    from submission.config import load_config, refuse_foreign  # here: they import this module

    load_config(args.config, args.bindings)
    refuse_foreign()
    processes = os.environ.get("WORLD_SIZE", "1")
    if not processes.isdecimal():
        raise UserError(f"WORLD_SIZE is {processes!r}, torchrun sets it to a number: unset it")
    parallel = int(processes) > 1
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if parallel else ():
        if not os.environ.get(name):
            raise UserError(
                f"WORLD_SIZE is {processes} and {name} is not set: start it by torchrun, or unset "
                "WORLD_SIZE"
            )
    device_name = args.device
    if parallel and device_name in ("auto", "cuda") and torch.cuda.is_available():
        device_name = f"cuda:{os.environ['LOCAL_RANK']}"
    device = pick_device(device_name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if parallel:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        paths.make_folder(args.out, "name another --out")
        with (
            signals.stoppable(),
            locked(args.out / ".lock", "wait for it, or give this one another --out")
            if _rank() == 0
            else nullcontext(),
        ):
            _finetune_in(args, device)
    finally:
        if parallel:
            dist.destroy_process_group()


def _finetune_in(args: argparse.Namespace, device: torch.device) -> None:
    source = open_source(args.data or paths.data_folder())
    network = start_network(
        args.start, args.craft_file, args.heads, gin.query_parameter("finetune.seed")
    )
    given = [Path(args.start), args.craft_file, args.heads]
    digests = [check_sha256(path)[:16] for path in given if path is not None and path.is_file()]
    metadata = {
        "start": " ".join([Path(args.start).name, *digests]),
        "images": source.description,
        "config": gin.config_str(),
        "made_by": f"python -m submission finetune, torch {torch.__version__}",
    }
    parts = [
        metadata["start"], metadata["images"], source.identity, metadata["config"], str(_world())
    ]  # fmt: skip
    fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if _rank() == 0:
        log.info("images: %s", source.description)
        log.info("start: %s, device: %s, processes: %d", args.start, device, _world())
    finetune(network, source, args.out, device, fingerprint, metadata)
    if _rank() == 0:
        print(f"weights: {args.out / SHIPPED_WEIGHTS.name}\nheads: {args.out / SHIPPED_HEADS.name}")
