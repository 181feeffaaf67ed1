"""Section 2.3: training of the beta-VAE, which goes on from where it was stopped."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gin
import torch
from torch import Tensor, nn

from submission.latents.vae import INACTIVE_KL, VAE, beta_at_epoch, elbo_loss
from submission.runtime import signals
from submission.runtime.checkpoint import continuing, load_checkpoint, save_checkpoint
from submission.runtime.device import fast_cpu
from submission.runtime.errors import FailedTraining, UserError
from submission.runtime.files import write_csv
from submission.runtime.progress import progress_bar

log = logging.getLogger(__name__)


# A checkpoint inside an epoch after so many seconds without one: an epoch can take an hour.
_CHECKPOINT_SECONDS = 600


@dataclass
class Epoch:
    """One line of losses.csv; losses are means over the epoch's batches."""

    epoch: int
    beta: float
    loss: float
    squared_error: float
    kl: float  # summed over latents
    active_latents: int  # latents with a KL of at least INACTIVE_KL
    seconds: float


@gin.configurable(denylist=["features", "folder", "fingerprint", "on_progress", "progress"])
def train_vae(
    features: Tensor,
    folder: Path,
    fingerprint: str,
    epochs: int = gin.REQUIRED,
    batch_size: int = gin.REQUIRED,
    optimizer: str = gin.REQUIRED,
    learning_rate: float = gin.REQUIRED,
    betas: tuple[float, float] = gin.REQUIRED,
    seed: int = gin.REQUIRED,
    on_progress: Callable[[float], None] = lambda share: None,
    progress: bool = True,
) -> VAE:
    """Trains a VAE on all rows, shuffled every epoch; goes on from the folder's checkpoint.

    Writes into `folder`: checkpoint.pt (after every epoch, in a long one every ten minutes, and
    when a signal comes; everything needed to continue bit for bit on the CPU), losses.csv,
    tensorboard/.

    Args:
        features: float32 (num_images, 512), on the device to train on (on the CPU possibly a
            mapped file).
        folder: the run's folder.
        fingerprint: what the run is made of; a checkpoint with another one is refused.
        epochs: N. batch_size: B. optimizer: "radam" or "adam". betas: its beta_1, beta_2.
        seed: every random number of epoch t follows from (seed, t) alone, so that a checkpoint
            after an epoch needs no generator state.
        on_progress: called with the share done, 0..1, after every epoch.

    Returns:
        The trained VAE in evaluation mode.

    Raises:
        FailedTraining: the loss is not finite.
        UserError: there are fewer than two rows, or the checkpoint is damaged or of another run.
        Stopped: a signal came; the step was finished and saved.
    """
    # Event files are written by the tensorboard package alone; imported here because it is slow
    # to import and only training needs it.
    from torch.utils.tensorboard import SummaryWriter

    device = features.device
    if len(features) < 2:
        raise UserError("training needs at least two images: name a larger data set")
    torch.manual_seed(seed)
    vae = VAE(features.shape[1]).to(device)
    optim = _optimizer(optimizer, vae, learning_rate, betas)
    history: list[Epoch] = []
    within: dict[str, Any] | None = None  # what a checkpoint inside an epoch has besides
    checkpoint = folder / "checkpoint.pt"
    if state := load_checkpoint(checkpoint, fingerprint, device):
        with continuing(checkpoint):
            vae.load_state_dict(state["vae"])
            optim.load_state_dict(state["optimizer"])
            history = [Epoch(**row) for row in state["history"]]
            within = state["within"]
        log.info(
            "continuing after epoch %d of %d%s", len(history), epochs,
            f" and step {within['step']} of the next" if within else "",
        )  # fmt: skip
        del state  # a copy of the weights

    rows = len(features)
    # A last batch of one row has no variance for batch norm to divide by; it is left out.
    steps = rows // batch_size + (rows % batch_size > 1)
    # Written anew from the checkpoint's rows: what a killed run wrote may lack the last ones, and
    # an earlier run's curves would be drawn as one with these.
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    writer = SummaryWriter(str(folder / "tensorboard"))
    for row in history:
        _add_scalars(writer, row)
    bar = progress_bar(
        total=epochs * steps, initial=len(history) * steps + (within["step"] if within else 0),
        desc="VAE", unit=" steps", disable=not progress,
    )  # fmt: skip

    def save(within: dict[str, Any] | None = None) -> None:
        state = {
            "vae": vae.state_dict(),
            "optimizer": optim.state_dict(),
            "history": [vars(row) for row in history],
            "within": within,
        }
        save_checkpoint(checkpoint, fingerprint, state)

    vae.train()
    saved = time.monotonic()
    with bar, writer, signals.held(), fast_cpu(device):
        for t in range(len(history), epochs):
            started = time.monotonic()
            beta = beta_at_epoch(t)
            generator = torch.Generator(device).manual_seed(seed * 1_000_003 + t)
            order = torch.randperm(rows, generator=generator, device=device)
            first, sums = 0, torch.zeros((), device=device)
            if within:
                first, sums = within["step"], within["sums"]
                generator.set_state(within["generator"].cpu())
                started -= within["seconds"]
                within = None
            for step in range(first, steps):
                x = features[order[step * batch_size : (step + 1) * batch_size]]
                noise = torch.randn(
                    len(x), vae.encoder.mean.out_features, generator=generator, device=device
                )
                mu_hat, mu, log_sigma2 = vae(x, noise)
                loss, error, kl = elbo_loss(x, mu_hat, mu, log_sigma2, beta)
                optim.zero_grad()
                loss.backward()
                optim.step()
                terms = torch.cat([torch.stack([loss, error]), kl]).detach()
                sums = sums + terms
                bar.update()
                last, asked = step + 1 == steps, signals.asked()
                due = asked or time.monotonic() - saved > _CHECKPOINT_SECONDS
                # Reading a value makes a GPU wait, so not every step; but no checkpoint unread.
                if (step + 1) % 100 == 0 or last or due:
                    _stop_if_not_finite(sums, t, step)
                if due and not last:
                    save({
                        "step": step + 1, "sums": sums, "generator": generator.get_state(),
                        "seconds": time.monotonic() - started,
                    })  # fmt: skip
                    saved = time.monotonic()
                    if asked:
                        what = f"{step + 1} of {steps} steps of epoch {t + 1} are in {checkpoint}"
                        signals.stop(asked, what)
            means = (sums / steps).tolist()
            kl_means = means[2:]
            row = Epoch(
                t, beta, means[0], means[1], sum(kl_means), sum(k >= INACTIVE_KL for k in kl_means),
                round(time.monotonic() - started, 3),
            )  # fmt: skip
            history.append(row)
            _add_scalars(writer, row)
            bar.set_postfix(epoch=t + 1, beta=f"{beta:.3f}", loss=f"{means[0]:.4f}", refresh=False)
            # First: after the last checkpoint nothing is written again.
            write_csv(folder / "losses.csv", [vars(row) for row in history])
            save()
            saved = time.monotonic()
            on_progress((t + 1) / epochs)
            if asked := signals.asked():
                signals.stop(asked, f"{t + 1} of {epochs} epochs are in {checkpoint}")
    return vae.eval()


@torch.no_grad()
def encode_features(means: nn.Module, features: Tensor) -> Tensor:
    """What a module makes of all rows: (num_images, 512) -> (num_images, C), on their device."""
    with fast_cpu(features.device):
        return torch.cat([means(rows) for rows in features.split(4096)])


def _optimizer(
    name: str, vae: VAE, learning_rate: float, betas: tuple[float, float]
) -> torch.optim.Optimizer:
    kinds: dict[str, Any] = {"radam": torch.optim.RAdam, "adam": torch.optim.Adam}
    # On a CPU the plain loop over parameters is faster than the batched ("foreach") form.
    foreach = None if next(vae.parameters()).is_cuda else False
    made: torch.optim.Optimizer = kinds[name](
        vae.parameters(), lr=learning_rate, betas=tuple(betas), foreach=foreach
    )
    return made


def _add_scalars(writer: Any, row: Epoch) -> None:
    for name in ("beta", "loss", "squared_error", "kl", "active_latents"):
        writer.add_scalar(name, getattr(row, name), row.epoch)


def _stop_if_not_finite(sums: Tensor, t: int, step: int) -> None:
    if not bool(torch.isfinite(sums).all()):
        raise FailedTraining(
            f"the loss is not finite in epoch {t + 1}, by step {step + 1}: lower "
            "train_vae.learning_rate or beta_at_epoch.beta_end"
        )
