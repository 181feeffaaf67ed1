"""Section 2.3: training of the beta-VAE, beta annealed; killed at any moment, it goes on where it
was."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gin
import torch
from torch import Tensor, nn
from tqdm import tqdm

from submission.latents.optimizer import RAdam
from submission.latents.vae import INACTIVE_KL, VAE, elbo_loss
from submission.runtime import signals
from submission.runtime.checkpoint import continuing, load_checkpoint, save_checkpoint
from submission.runtime.config import configurable
from submission.runtime.curves import Curves
from submission.runtime.device import fast_cpu
from submission.runtime.errors import FailedTraining, UserError
from submission.runtime.files import write_csv
from submission.runtime.kinds import Betas, Count, Optimizer, Rate, Several, Weight, Whole
from submission.runtime.progress import progress_bar

log = logging.getLogger(__name__)
# A checkpoint inside an epoch after so many seconds without one: an epoch can take an hour.
_CHECKPOINT_SECONDS = 600


@configurable
def beta_at_epoch(
    t: int,
    beta_start: Weight = gin.REQUIRED,
    beta_end: Weight = gin.REQUIRED,
    t_start: Whole = gin.REQUIRED,
    t_end: Whole = gin.REQUIRED,
) -> float:
    """beta(t) for epoch t = 0, 1, ...: constant, cosine from t_start to t_end, constant."""
    if t <= t_start:
        return beta_start
    if t > t_end:
        return beta_end
    phase = math.pi * (t - t_start) / (t_end - t_start)
    return beta_end - 0.5 * (beta_end - beta_start) * (1 + math.cos(phase))


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

    def curves(self) -> dict[str, float]:
        return {
            name: value for name, value in vars(self).items() if name not in ("epoch", "seconds")
        }


@configurable
def train_vae(
    features: Tensor,
    folder: Path,
    fingerprint: str,
    epochs: Count = gin.REQUIRED,
    batch_size: Several = gin.REQUIRED,
    optimizer: Optimizer = gin.REQUIRED,
    learning_rate: Rate = gin.REQUIRED,
    betas: Betas = gin.REQUIRED,
    seed: Whole = gin.REQUIRED,
    on_progress: Callable[[float], None] = lambda share: None,
    progress: bool = True,
) -> VAE:
    """Trains a VAE on all rows, shuffled every epoch; goes on from the folder's checkpoint. It is
    returned in evaluation mode.

    Writes into `folder`: checkpoint.pt (after every epoch, in a long one every ten minutes, and
    when a signal comes; everything needed to continue bit for bit on the CPU), losses.csv,
    tensorboard/.

    Args:
        features: float32 (num_images, 512), on the device to train on (on the CPU possibly mapped).
        fingerprint: what the run is made of; a checkpoint with another one is refused.
        epochs: N. batch_size: B. optimizer: "radam" or "adam". betas: its beta_1, beta_2.
        seed: every random number of epoch t follows from (seed, t) alone, so that a checkpoint
            after an epoch needs no generator state.
        on_progress: called with the share done, 0..1, after every epoch and for those resumed.

    Raises FailedTraining if the loss is not finite, UserError for fewer than two rows or a damaged
    or foreign checkpoint, Stopped if a signal came; the step was finished and saved.
    """
    if len(features) < 2:
        raise UserError("training needs at least two images: name a larger data set")
    torch.manual_seed(seed)
    vae = VAE(features.shape[1]).to(features.device)
    optim = _optimizer(optimizer, vae, learning_rate, betas)
    run = _Training(vae, optim, features, batch_size, seed, folder / "checkpoint.pt", fingerprint)
    run.resume(epochs)
    curves = Curves(folder)
    for row in run.history:
        curves.add(row.curves(), row.epoch)
    total, done = epochs * run.steps, len(run.history) * run.steps
    done += run.within["step"] if run.within else 0
    bar = progress_bar(total=total, initial=done, desc="VAE", unit=" steps", disable=not progress)
    vae.train()
    if run.history:
        on_progress(len(run.history) / epochs)
    with bar, curves, signals.held(), fast_cpu(features.device):
        for t in range(len(run.history), epochs):
            row = run.epoch(t, bar)
            run.history.append(row)
            curves.add(row.curves(), t)
            shown = {"epoch": t + 1, "beta": f"{row.beta:.3f}", "loss": f"{row.loss:.4f}"}
            bar.set_postfix(shown, refresh=False)
            # First: after the last checkpoint nothing is written again.
            write_csv(folder / "losses.csv", [vars(row) for row in run.history])
            run.save()
            on_progress((t + 1) / epochs)
            if asked := signals.asked():
                signals.stop(asked, f"{t + 1} of {epochs} epochs are in {run.checkpoint}")
    return vae.eval()


@dataclass
class _Training:
    """What the steps work on, and what a checkpoint holds of it."""

    vae: VAE
    optim: torch.optim.Optimizer
    features: Tensor
    batch_size: int
    seed: int
    checkpoint: Path
    fingerprint: str
    history: list[Epoch] = field(default_factory=list)
    within: dict[str, Any] | None = None  # what a checkpoint inside an epoch has besides

    def __post_init__(self) -> None:
        # A last batch of one row has no variance for batch norm to divide by; it is left out.
        rows = len(self.features)
        self.steps = rows // self.batch_size + (rows % self.batch_size > 1)
        self.saved = time.monotonic()

    def resume(self, epochs: int) -> None:
        state = load_checkpoint(self.checkpoint, self.fingerprint, self.features.device)
        if state is None:
            return
        with continuing(self.checkpoint):
            self.vae.load_state_dict(state["vae"])
            self.optim.load_state_dict(state["optimizer"])
            self.history = [Epoch(**row) for row in state["history"]]
            self.within = state["within"]
        step = f" and step {self.within['step']} of the next" if self.within else ""
        log.info("continuing after epoch %d of %d%s", len(self.history), epochs, step)

    def save(self, within: dict[str, Any] | None = None) -> None:
        state = {
            "vae": self.vae.state_dict(),
            "optimizer": self.optim.state_dict(),
            "history": [vars(row) for row in self.history],
            "within": within,
        }
        save_checkpoint(self.checkpoint, self.fingerprint, state)
        self.saved = time.monotonic()

    def epoch(self, t: int, bar: "tqdm[Any]") -> Epoch:
        """All steps of epoch t, or those that a checkpoint inside it has left."""
        device = self.features.device
        started = time.monotonic()
        beta = beta_at_epoch(t)
        generator = torch.Generator(device).manual_seed(self.seed * 1_000_003 + t)
        order = torch.randperm(len(self.features), generator=generator, device=device)
        first, sums = 0, torch.zeros((), device=device)
        if self.within:
            first, sums = self.within["step"], self.within["sums"]
            generator.set_state(self.within["generator"].cpu())
            started -= self.within["seconds"]
            self.within = None
        for step in range(first, self.steps):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            sums = sums + self.step(self.features[rows], beta, generator)
            bar.update()
            last, asked = step + 1 == self.steps, signals.asked()
            due = asked or time.monotonic() - self.saved > _CHECKPOINT_SECONDS
            # Reading a value makes a GPU wait, so not every step; but no checkpoint unread.
            if (step + 1) % 100 == 0 or last or due:
                _stop_if_not_finite(sums, t, step)
            if due and not last:
                seconds = time.monotonic() - started
                state = generator.get_state()
                self.save({"step": step + 1, "sums": sums, "generator": state, "seconds": seconds})
                if asked:
                    what = f"{step + 1} of {self.steps} steps of epoch {t + 1} are in "
                    signals.stop(asked, what + str(self.checkpoint))
        loss, error, *kl = (sums / self.steps).tolist()
        active = sum(k >= INACTIVE_KL for k in kl)
        return Epoch(t, beta, loss, error, sum(kl), active, round(time.monotonic() - started, 3))

    def step(self, x: Tensor, beta: float, generator: torch.Generator) -> Tensor:
        """One update; returns loss, squared error and the KL of each latent, (2 + C,)."""
        latents = self.vae.encoder.mean.out_features
        noise = torch.randn(len(x), latents, generator=generator, device=x.device)
        mu_hat, mu, log_sigma2 = self.vae(x, noise)
        loss, error, kl = elbo_loss(x, mu_hat, mu, log_sigma2, beta)
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()
        return torch.cat([torch.stack([loss, error]), kl]).detach()


@torch.no_grad()
def encode_features(means: nn.Module, features: Tensor) -> Tensor:
    """What a module makes of all rows: (num_images, 512) -> (num_images, C), on their device."""
    with fast_cpu(features.device):
        return torch.cat([means(rows) for rows in features.split(4096)])


def _optimizer(
    name: str, vae: VAE, learning_rate: float, betas: tuple[float, float]
) -> torch.optim.Optimizer:
    kinds: dict[str, Any] = {"radam": RAdam, "adam": partial(torch.optim.Adam, fused=True)}
    weights = vae.parameters()
    made: torch.optim.Optimizer = kinds[name](weights, lr=learning_rate, betas=tuple(betas))
    return made


def _stop_if_not_finite(sums: Tensor, t: int, step: int) -> None:
    if not bool(torch.isfinite(sums).all()):
        raise FailedTraining(
            f"the loss is not finite in epoch {t + 1}, by step {step + 1}: lower "
            "train_vae.learning_rate or beta_at_epoch.beta_end"
        )
