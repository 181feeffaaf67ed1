"""Several seeds: which is exported, what is written, and when no further one is begun."""

import csv
import json
import time
from pathlib import Path

import gin
import numpy as np
import pytest
import torch

from submission.latents import udr
from submission.latents.seeds import learn
from submission.latents.training import encode_features, train_vae
from submission.latents.vae import carries_anything
from submission.pipeline.configuration import load_training
from submission.runtime.checkpoint import load_checkpoint, save_checkpoint
from submission.runtime.errors import FailedTraining

TINY = [
    "VAE.latents=3",
    "Encoder.widths=(16,)",
    "Decoder.widths=(16,)",
    "train_vae.epochs=2",
    "train_vae.batch_size=32",
    "train_vae.seed=5",
    "beta_at_epoch.t_start=0",
    "beta_at_epoch.t_end=1",
    "beta_at_epoch.beta_end=0.001",
    "train_vae.learning_rate=0.01",
    "train_vae.optimizer='adam'",
]


@pytest.fixture
def features() -> torch.Tensor:
    load_training(Path("public.gin"), TINY)
    return torch.from_numpy(np.random.default_rng(0).random((128, 8), dtype=np.float32))


def test_the_first_by_udr_is_exported_and_told(features: torch.Tensor, tmp_path: Path) -> None:
    shares: list[float] = []
    means, seed, trained = learn(features, tmp_path, "a run", seeds=3, on_progress=shares.append)
    assert trained == 3
    ranked = json.loads((tmp_path / "udr.json").read_text())
    assert (ranked["seeds"], seed) == ([5, 6, 7], ranked["best_seed"])
    assert seed - 5 == int(np.argmax(ranked["udr"]))
    assert f"Seed {seed} is exported" in (tmp_path / "udr.txt").read_text()
    assert shares == sorted(shares)
    assert shares[-1] == 1
    # It is the model that this seed gives alone.
    load_training(Path("public.gin"), [*TINY, f"train_vae.seed={seed}"])
    (tmp_path / "alone").mkdir()
    alone, same, _ = learn(features, tmp_path / "alone", "another run")
    assert same == seed
    assert torch.equal(encode_features(alone, features), encode_features(means, features))


def test_called_again_no_seed_is_trained_again(features: torch.Tensor, tmp_path: Path) -> None:
    first, seed, _ = learn(features, tmp_path, "a run", seeds=3)
    files = sorted(tmp_path.glob("seed_*/losses.csv"))
    before = [file.stat().st_mtime_ns for file in files]
    again, same, _ = learn(features, tmp_path, "a run", seeds=3)
    assert same == seed
    assert torch.equal(encode_features(again, features), encode_features(first, features))
    assert [file.stat().st_mtime_ns for file in files] == before


def test_no_seed_is_begun_that_would_end_too_late(features: torch.Tensor, tmp_path: Path) -> None:
    """The first always is. A trained one counts with the time it took when it was trained."""
    _, seed, trained = learn(features, tmp_path, "a run", seeds=3, until=time.monotonic() - 1)
    assert (seed, trained) == (5, 1)
    assert not (tmp_path / "seed_6").exists()
    assert "unranked" in (tmp_path / "udr.txt").read_text()
    assert json.loads((tmp_path / "udr.json").read_text())["best_seed"] == 5
    losses = tmp_path / "seed_5" / "losses.csv"
    rows = list(csv.DictReader(losses.read_text().splitlines()))
    losses.write_text(losses.read_text().replace(rows[0]["seconds"] + "\n", "3600\n", 1))
    learn(features, tmp_path, "a run", seeds=3, until=time.monotonic() + 1800)
    assert not (tmp_path / "seed_6").exists()
    learn(features, tmp_path, "a run", seeds=2, until=time.monotonic() + 7200)
    assert (tmp_path / "seed_6").exists()
    assert "unranked" in (tmp_path / "udr.txt").read_text()
    # What is trained already needs no time.
    assert learn(features, tmp_path, "a run", seeds=2, until=time.monotonic() - 1)[2] == 2


def test_an_earlier_runs_seeds_do_not_count(features: torch.Tensor, tmp_path: Path) -> None:
    """Without a checkpoint a seed's folder is an earlier run's: its hours would be this run's."""
    (tmp_path / "seed_notes").mkdir()
    for seed in (5, 6):
        old = tmp_path / f"seed_{seed}" / "group_0"
        old.mkdir(parents=True)
        (old / "losses.csv").write_text("epoch,seconds\n0,36000\n")
        (old.parent / "trained.txt").write_text("all its epochs are in the checkpoint\n")
    assert learn(features, tmp_path, "a run", seeds=2, until=time.monotonic() - 1)[2] == 1
    assert learn(features, tmp_path, "a run", seeds=2, until=time.monotonic() + 3600)[2] == 2
    assert not list(tmp_path.rglob("group_0"))
    assert (tmp_path / "seed_notes").is_dir()


def test_a_seed_that_comes_to_nothing_is_left_out(
    features: torch.Tensor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An order whose agreements are those of the other seeds alone; none left is an error."""

    def damage(seed: int) -> None:
        """Of a checkpoint after the first of two epochs: the weights diverge in the second."""
        checkpoint = tmp_path / f"seed_{seed}" / "checkpoint.pt"
        load_training(Path("public.gin"), [*TINY, "train_vae.epochs=1", f"train_vae.seed={seed}"])
        checkpoint.parent.mkdir()
        train_vae(features, checkpoint.parent, f"a run-{seed}", seed=seed)
        state = load_checkpoint(checkpoint, f"a run-{seed}", torch.device("cpu"))
        assert state is not None
        state["vae"]["encoder.mean.weight"].fill_(torch.inf)
        save_checkpoint(checkpoint, f"a run-{seed}", state)
        load_training(Path("public.gin"), TINY)

    damage(6)
    _, seed, trained = learn(features, tmp_path, "a run", seeds=4)
    assert trained == 4
    assert seed != 6
    ranked = json.loads((tmp_path / "udr.json").read_text())
    assert ranked["seeds"] == [5, 7, 8]
    assert ranked["best_seed"] == seed
    told = "left out: the loss is not finite in epoch 2, by step 4: lower"
    assert f"   6  {told}" in (tmp_path / "udr.txt").read_text()
    assert f"seed 6 is {told}" in caplog.text
    # The others' order, without it.
    codes = []
    for other in ranked["seeds"]:
        below = tmp_path / f"seed_{other}"
        codes.append(
            encode_features(train_vae(features, below, f"a run-{other}").means(), features)
        )
    own = [each.numpy() for each in codes]
    pairs = udr.ranking(own, [carries_anything(each) for each in own])
    np.testing.assert_allclose(ranked["udr"], udr.scores(pairs), rtol=1e-6)

    # What came to nothing does so again, and costs nothing: its checkpoint is not even read, and
    # with no time left the others still count.
    (tmp_path / "seed_6" / "checkpoint.pt").write_bytes(b"")
    again = learn(features, tmp_path, "a run", seeds=4, until=time.monotonic() - 1)
    assert again[1:] == (seed, 4)
    assert json.loads((tmp_path / "udr.json").read_text()) == ranked

    alone = tmp_path / "alone"
    alone.mkdir()
    with gin.unlock_config():
        gin.bind_parameter("train_vae.learning_rate", 1e30)
    with pytest.raises(FailedTraining, match="not finite in epoch 1"):
        learn(features, alone, "a run", seeds=2)
    assert not (alone / "udr.json").exists()


def test_a_collapsed_seed_is_not_ranked(features: torch.Tensor, tmp_path: Path) -> None:
    """It agrees with no other, so that two seeds, of which it is one, have no order by UDR."""
    with gin.unlock_config():
        gin.bind_parameter("beta_at_epoch.beta_end", 1000.0)
    learn(features, tmp_path, "a run", seeds=1)
    checkpoint = tmp_path / "checkpoint.pt"
    state = load_checkpoint(checkpoint, "a run", torch.device("cpu"))
    assert state is not None
    for name in ("encoder.mean.weight", "encoder.mean.bias"):
        state["vae"][name].zero_()
    (tmp_path / "seed_5").mkdir()
    save_checkpoint(tmp_path / "seed_5" / "checkpoint.pt", "a run-5", state)
    with gin.unlock_config():
        gin.bind_parameter("beta_at_epoch.beta_end", 0.001)
    _, seed, trained = learn(features, tmp_path, "a run", seeds=2)
    assert (seed, trained) == (6, 2)
    assert "   5  left out: of 3 latents 0 carry anything" in (tmp_path / "udr.txt").read_text()


def test_seeds_of_groups_are_ranked_by_the_groups_latents(tmp_path: Path) -> None:
    groups = [
        "train_groups.components=3",
        "train_groups.groups=2",
        "train_groups.starts=1",
        "train_groups.redundant=1.0",
        "train_vae.epochs=8",
        "train_vae.batch_size=32",
    ]
    load_training(Path("refined.gin"), groups)
    sources = np.random.default_rng(0).uniform(-1, 1, (256, 3)).astype(np.float32)
    x = torch.from_numpy(sources @ np.eye(3, 8, dtype=np.float32))
    means, seed, trained = learn(x, tmp_path, "a run", seeds=3)
    assert trained == 3
    ranked = json.loads((tmp_path / "udr.json").read_text())
    codes = []
    for each in range(3):
        assert (tmp_path / f"seed_{each}" / "groups.csv").exists()
        (tmp_path / f"alone_{each}").mkdir()
        load_training(Path("refined.gin"), [*groups, f"train_vae.seed={each}"])
        alone, _, _ = learn(x, tmp_path / f"alone_{each}", "alone")
        codes.append(encode_features(alone, x).numpy())
    pairs = udr.ranking(codes, [np.ones(each.shape[1], bool) for each in codes])
    np.testing.assert_allclose(ranked["udr"], udr.scores(pairs), rtol=1e-6)
    assert torch.equal(encode_features(means, x), torch.from_numpy(codes[seed]))
