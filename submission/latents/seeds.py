"""From features to what is exported: the means, by one VAE or by groups, of one seed or the best
of several."""

import json
import logging
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import gin
import numpy as np
import torch
from torch import Tensor, nn

from submission.latents import udr
from submission.latents.groups import train_groups
from submission.latents.training import encode_features, train_vae
from submission.latents.vae import carries_anything
from submission.runtime.config import asks_for
from submission.runtime.errors import FailedTraining, first_line
from submission.runtime.files import read_csv, write_text

log = logging.getLogger(__name__)

Progress = Callable[[float], None]

# The ranking's correlations move in the third digit from here on.
_RANKED_ON = 10_000
# In a seed's folder, as long as that has a checkpoint: it is trained to its end.
_DONE = "trained.txt"
# In a seed's folder: it has come to nothing. The fingerprint, and why.
_FAILED = "failed.txt"
# Up to this share of random deals that are as sure, the log speaks of an order.
_BY_CHANCE = 0.05


def learn(
    features: Tensor,
    folder: Path,
    fingerprint: str,
    seeds: int = 1,
    until: float | None = None,
    on_progress: Progress = lambda share: None,
) -> tuple[nn.Module, int, int]:
    """Trains; of several seeds the one that ranks first by UDR (see udr.py), without a label.

    A configuration that binds train_groups is trained by it, every other is one VAE. Several seeds,
    from train_vae.seed on, train in `seed_<seed>` below the folder; the ranking is in udr.json and
    udr.txt. Called again it goes on from the checkpoints; a seed that is done is not repeated. A
    seed that comes to nothing is left out, and named in udr.txt.

    Args:
        features: float32 (num_images, 512).
        until: no further seed is begun that would, at the pace of the slowest, end after this time
            (of time.monotonic); the first always is, and what an earlier call has trained counts.
        on_progress: called with the share done, 0..1.

    Returns (B, 512) -> means (B, C), in evaluation mode, the seed that they are of, and how many
    seeds are trained or left out. Raises FailedTraining if every seed came to nothing.
    """
    first: int = gin.query_parameter("train_vae.seed")
    if seeds == 1:
        return _train(features, folder, fingerprint, first, on_progress), first, 1
    rows = np.random.default_rng(0).permutation(len(features))[:_RANKED_ON]
    sample = features[torch.from_numpy(np.sort(rows)).to(features.device)]
    _clear_away_earlier(folder, fingerprint)
    slowest = 0.0
    codes: dict[int, np.ndarray] = {}
    failed: dict[int, FailedTraining] = {}

    def train(seed: _Seed) -> nn.Module:
        seed.folder.mkdir(exist_ok=True)
        before = len(codes) + len(failed)
        means = _train(
            *(features, seed.folder, seed.fingerprint, seed.number),
            lambda share: on_progress(min((before + share) / seeds, 1)),
        )
        write_text(seed.folder / _DONE, "all its epochs are in the checkpoint\n")
        return means

    for number in range(first, first + seeds):
        started = time.monotonic()
        seed = _Seed(number, folder, fingerprint)
        if before := seed.failure():
            failed[number] = before
            continue
        # What is in a checkpoint need not be trained again.
        ends = started + slowest - seed.trained_seconds()
        if until and number > first and not seed.is_done() and ends > until:
            log.info("seed %d is not begun: it could end after --hours", number)
            continue
        log.info("seed %d (%d of %d)", number, number - first + 1, seeds)
        try:
            codes[number] = encode_features(train(seed), sample).cpu().numpy()
        except FailedTraining as error:
            # Its text alone: it holds what was trained, through its traceback.
            failed[number] = FailedTraining(first_line(error))
            log.warning("seed %d is left out: %s", number, failed[number])
            write_text(seed.folder / _FAILED, f"{seed.fingerprint}\n{failed[number]}\n")
        # A seed that an earlier call has trained comes from its checkpoint in no time.
        slowest = max(slowest, time.monotonic() - started, seed.trained_seconds())
    if not codes:
        raise failed[first]
    best = _best(codes, failed, folder)
    # From its checkpoint, which is there until the model is exported.
    return train(_Seed(best, folder, fingerprint)), best, len(codes) + len(failed)


class _Seed:
    """One of several seeds, and what an earlier call has left of it in its folder."""

    def __init__(self, number: int, folder: Path, fingerprint: str) -> None:
        self.number = number
        self.folder = folder / f"seed_{number}"
        self.fingerprint = f"{fingerprint}-{number}"

    def is_done(self) -> bool:
        return (self.folder / _DONE).exists()

    def failure(self) -> FailedTraining | None:
        """Why it came to nothing, if it did."""
        with suppress(OSError):
            of, _, why = (self.folder / _FAILED).read_text().strip().partition("\n")
            return FailedTraining(why) if of == self.fingerprint else None
        return None

    def trained_seconds(self) -> float:
        """What its epochs have taken by their own record, in all its groups, as far as a checkpoint
        has them."""
        total = 0.0
        for checkpoint in self.folder.rglob("checkpoint.pt"):
            if (losses := checkpoint.with_name("losses.csv")).is_file():
                total += sum(float(row["seconds"]) for row in read_csv(losses))
        return total


def _clear_away_earlier(folder: Path, fingerprint: str) -> None:
    """Seeds of an earlier run of this name, exported, would count as trained here."""
    for below in folder.glob("seed_*"):
        number = re.fullmatch(r"seed_(\d+)", below.name)
        if not number or any(below.rglob("checkpoint.pt")):
            continue
        if _Seed(int(number[1]), folder, fingerprint).failure() is None:
            shutil.rmtree(below, ignore_errors=True)


def _train(
    features: Tensor,
    folder: Path,
    fingerprint: str,
    seed: int,
    on_progress: Callable[[float], None],
) -> nn.Module:
    if asks_for(train_groups):
        return train_groups(features, folder, fingerprint, seed, on_progress)
    vae = train_vae(features, folder, fingerprint, seed=seed, on_progress=on_progress)
    return vae.means().eval()


def _best(codes: dict[int, np.ndarray], failed: dict[int, FailedTraining], folder: Path) -> int:
    """Ranks the models, writes udr.json and udr.txt, and returns the best one's seed.

    One model, or two, which agree with each other equally, have no order: the first is taken. A
    model of fewer than two latents that carry anything, which the metrics cannot compare, is not
    ranked where there is a better one.
    """
    carrying = {seed: int(carries_anything(own).sum()) for seed, own in codes.items()}
    seeds = [seed for seed in codes if carrying[seed] > 1] or list(codes)
    left_out = {seed: str(error) for seed, error in failed.items()} | {
        seed: f"of {codes[seed].shape[1]} latents {carrying[seed]} carry anything"
        for seed in codes
        if seed not in seeds
    }
    ranked = [codes[seed] for seed in seeds]
    known = [carries_anything(own) for own in ranked]
    pairs = udr.ranking(ranked, known)
    scores = udr.scores(pairs) if len(seeds) > 1 else np.zeros(1)
    best = seeds[int(scores.argmax())]
    sure = udr.confidence(pairs) if len(seeds) > 1 else 1.0
    chance = udr.by_chance(pairs) if len(seeds) > 2 else []
    as_sure = float(np.mean([one >= sure for one in chance])) if chance else 1.0
    order = np.argsort(-scores, kind="stable")
    lines = ["seed     UDR  informative latents"]
    lines += [f"{seeds[i]:4d}  {scores[i]:6.3f}  {known[i].sum()}" for i in order]
    lines += [f"{seed:4d}  left out: {why}" for seed, why in sorted(left_out.items())]
    lines.append(
        f"Seed {best} is exported; it stays first in {sure:.0%} of the draws of other "
        f"judges. Dealt to the models at random, the same agreements make a seed as sure in "
        f"{as_sure:.0%} of the deals: "
        + ("an order." if as_sure <= _BY_CHANCE else "this order may be chance.")
        if len(seeds) > 2
        else f"Seed {best} is exported, unranked: that takes three seeds, and an order "
        "that is more than chance at least four."
    )
    write_text(folder / "udr.txt", "\n".join(lines) + "\n")
    rows = [[None if i == j else pair for j, pair in enumerate(row)] for i, row in enumerate(pairs)]
    record = {"seeds": seeds, "udr": scores.tolist(), "best_seed": best}
    record |= {"confidence": sure, "as_sure_by_chance": as_sure, "pairs": rows}
    write_text(folder / "udr.json", json.dumps(record, indent=1) + "\n")
    for line in lines:
        log.info(line)
    return best
