"""From features to what is exported: the means, by one VAE or by groups, of one seed or the best
of several."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import gin
import numpy as np
import torch
from torch import Tensor, nn

from submission import udr
from submission.config import asks_for_groups
from submission.separate import train_groups
from submission.stages import read_csv, write_text
from submission.vae import encode_features, train_vae

log = logging.getLogger(__name__)

# The ranking's correlations move in the third digit from here on.
_RANKED_ON = 10_000


def learn(
    features: Tensor,
    folder: Path,
    fingerprint: str,
    seeds: int = 1,
    until: float | None = None,
    on_progress: Callable[[float], None] = lambda share: None,
) -> tuple[nn.Module, int]:
    """Trains; of several seeds the one that ranks first by UDR (see udr.py), without a label.

    A configuration that binds train_groups is trained by it, every other is one VAE. Several seeds,
    from train_vae.seed on, train in `seed_<seed>` below the folder; the ranking is in udr.json and
    udr.txt. Called again it goes on from the checkpoints; a seed that is done is not repeated.

    Args:
        features: float32 (num_images, 512). folder: the run's folder.
        fingerprint: what the run is made of.
        seeds: how many.
        until: no further seed is begun that would, at the pace of the slowest, end after this time
            (of time.monotonic); the first always is.
        on_progress: called with the share done, 0..1.

    Returns:
        (B, 512) -> means (B, C), in evaluation mode, and the seed that they are of.

    Raises:
        UserError, Stopped: see train_vae.
    """
    first: int = gin.query_parameter("train_vae.seed")
    if seeds == 1:
        return _train(features, folder, fingerprint, first, on_progress), first
    rows = np.random.default_rng(0).permutation(len(features))[:_RANKED_ON]
    sample = features[torch.from_numpy(np.sort(rows)).to(features.device)]
    slowest = 0.0
    codes: list[np.ndarray] = []

    def train(seed: int) -> nn.Module:
        below = folder / f"seed_{seed}"
        below.mkdir(exist_ok=True)
        return _train(
            features, below, f"{fingerprint}-{seed}", seed,
            lambda share: on_progress(min((len(codes) + share) / seeds, 1)),
        )  # fmt: skip

    for seed in range(first, first + seeds):
        started = time.monotonic()
        if until and codes and started + slowest > until:
            log.info("%d of %d seeds: another one could end after --hours", len(codes), seeds)
            break
        log.info("seed %d (%d of %d)", seed, len(codes) + 1, seeds)
        codes.append(encode_features(train(seed), sample).cpu().numpy())
        # A seed that an earlier call has trained comes from its checkpoint in no time.
        slowest = max(slowest, time.monotonic() - started, _trained_seconds(folder, seed))
    best = first + _best(codes, first, folder)
    # From its checkpoint, which is there until the model is exported.
    return train(best), best


def _trained_seconds(folder: Path, seed: int) -> float:
    """What the seed's epochs have taken by their own record, in all its groups."""
    total = 0.0
    for losses in (folder / f"seed_{seed}").rglob("losses.csv"):
        total += sum(float(row["seconds"]) for row in read_csv(losses))
    return total


def _train(
    features: Tensor,
    folder: Path,
    fingerprint: str,
    seed: int,
    on_progress: Callable[[float], None],
) -> nn.Module:
    if asks_for_groups():
        return train_groups(features, folder, fingerprint, seed, on_progress)
    vae = train_vae(features, folder, fingerprint, seed=seed, on_progress=on_progress)
    return vae.means().eval()


def _best(codes: list[np.ndarray], first: int, folder: Path) -> int:
    """Ranks the models, writes udr.json and udr.txt, and returns the best one's place.

    One model, or two, which agree with each other equally, have no order: the first is taken.
    """
    pairs = udr.ranking(codes, [udr.informative(own) for own in codes])
    scores = udr.scores(pairs) if len(codes) > 1 else np.zeros(1)
    best = int(scores.argmax())
    sure = udr.confidence(pairs) if len(codes) > 1 else 1.0
    order = np.argsort(-scores, kind="stable")
    lines = ["seed     UDR  informative latents"]
    lines += [f"{first + i:4d}  {scores[i]:6.3f}  {udr.informative(codes[i]).sum()}" for i in order]
    lines.append(
        f"Seed {first + best} is exported; it stays first in {sure:.0%} of the draws of other "
        f"judges (a coin: {1 / len(codes):.0%})."
        if len(codes) > 2
        else f"Seed {first + best} is exported, unranked: that takes three seeds or more."
    )
    write_text(folder / "udr.txt", "\n".join(lines) + "\n")
    rows = [[None if i == j else pair for j, pair in enumerate(row)] for i, row in enumerate(pairs)]
    record = {
        "first_seed": first, "udr": scores.tolist(), "best_seed": first + best,
        "confidence": sure, "pairs": rows,
    }  # fmt: skip
    write_text(folder / "udr.json", json.dumps(record, indent=1) + "\n")
    for line in lines:
        log.info(line)
    return best
