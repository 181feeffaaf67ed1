"""The VAE against values worked by hand and the optimiser against its paper."""

import csv
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from submission.latents.training import beta_at_epoch, encode_features, train_vae
from submission.latents.vae import VAE, elbo_loss
from submission.pipeline.configuration import load_training
from submission.runtime.errors import UserError

TINY = [
    "VAE.latents=3",
    "Encoder.widths=(16,)",
    "Decoder.widths=(16, 16)",
    "train_vae.epochs=10",
    "train_vae.batch_size=32",
    "beta_at_epoch.t_start=2",
    "beta_at_epoch.t_end=7",
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Layers of 16 numbers gain nothing from threads and lose much to them on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def features() -> torch.Tensor:
    # Written by numpy's generator, whose stream is fixed for a seed, unlike torch's.
    rows = np.random.default_rng(0).random((32, 8), dtype=np.float32)
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_loss_by_hand() -> None:
    load_training(Path("private.gin"))
    x = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    mu_hat = torch.tensor([[0.5, 1.0], [1.0, 0.2]])
    mu = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    log_sigma2 = torch.tensor([[0.0, math.log(4.0)], [0.0, math.log(0.25)]])
    loss, error, kl = elbo_loss(x, mu_hat, mu, log_sigma2, beta=0.4)
    # Squared error: (.25 + .04) / 2. KL of the first latent: (1/2 1 + 1/2 4) / 2; of the second:
    # (1/2 (4 - ln 4 - 1) + 1/2 (1/4 + ln 4 - 1)) / 2 = (3 - 3/4) / 4.
    assert error.item() == pytest.approx(0.145)
    assert kl.tolist() == pytest.approx([1.25, 0.5625])
    assert loss.item() == pytest.approx(0.145 + 0.4 / 2 * (1.25 + 0.5625))
    load_training(Path("stage1.gin"))
    assert elbo_loss(x, mu_hat, mu, log_sigma2, 0.4)[0].item() == pytest.approx(2 * loss.item())


def test_beta_by_hand() -> None:
    load_training(Path("private.gin"))
    assert [beta_at_epoch(t) for t in (0, 9, 10)] == pytest.approx([0.005] * 3)
    # A third of the way, 23 of 69 epochs, the cosine is 1/2: three quarters of the way to go.
    assert beta_at_epoch(33) == pytest.approx(0.4 - 0.75 * 0.395)
    assert beta_at_epoch(56) == pytest.approx(0.4 - 0.25 * 0.395)
    assert [beta_at_epoch(t) for t in (79, 80, 119)] == pytest.approx([0.4] * 3)


def test_optimizer_is_radam() -> None:
    """Algorithm 2 of Liu et al. (arXiv 1908.03265) in float64, against what training uses."""
    from submission.latents.training import _optimizer

    load_training(Path("private.gin"), TINY)
    vae = VAE(8).double()
    optim = _optimizer("radam", vae, 1e-3, (0.9, 0.999))
    weight = vae.encoder.mean.weight
    theta = weight.detach().numpy().copy()
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    rho_inf = 2 / (1 - 0.999) - 1
    generator = np.random.default_rng(1)
    for t in range(1, 13):  # the variance is rectified from step 6 on: both branches are taken
        gradient = generator.normal(size=theta.shape)
        for parameter in vae.parameters():
            parameter.grad = torch.zeros_like(parameter)
        weight.grad = torch.from_numpy(gradient.copy())
        optim.step()
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        step = first / (1 - 0.9**t)
        rho = rho_inf - 2 * t * 0.999**t / (1 - 0.999**t)
        if rho > 5:
            rectify = math.sqrt(
                (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
            )
            step = step * rectify / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        theta = theta - 1e-3 * step
        np.testing.assert_allclose(weight.detach().numpy(), theta, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("config", "latents", "encoder", "decoder"),
    [
        ("private.gin", 18, [4096], [4096] * 4),
        ("public.gin", 16, [1024] * 4, [1024] * 4),
        ("stage1.gin", 18, [256, 128, 64], [64, 128, 256]),
    ],
)
def test_network_is_the_published_one(
    config: str, latents: int, encoder: list[int], decoder: list[int]
) -> None:
    load_training(Path(config))
    with torch.device("meta"):  # shapes without the memory, or the time of orthogonalisation
        vae = VAE(512)

    def count(sizes: list[int]) -> int:
        # Weights, and batch norm's scale and shift instead of a bias.
        return sum(a * b + 2 * b for a, b in itertools.pairwise(sizes))

    expected_encoder = count([512, *encoder]) + 2 * latents * (encoder[-1] + 1)
    expected_decoder = count([latents, *decoder]) + 512 * (decoder[-1] + 1)
    assert sum(p.numel() for p in vae.encoder.parameters()) == expected_encoder
    assert sum(p.numel() for p in vae.decoder.parameters()) == expected_decoder
    assert vae.decoder.sigmoid == (config != "stage1.gin")


def test_all_layers_start_orthogonal() -> None:
    load_training(Path("private.gin"), TINY)
    for name, layer in VAE(8).named_modules():
        if isinstance(layer, torch.nn.Linear):
            weight = layer.weight.detach()
            small = weight @ weight.T if len(weight) <= weight.shape[1] else weight.T @ weight
            torch.testing.assert_close(small, torch.eye(len(small)), rtol=0, atol=1e-5, msg=name)
            assert layer.bias is None or not layer.bias.any()


def test_golden_run(tmp_path: Path, features: torch.Tensor) -> None:
    """Ten seeded steps, one an epoch. Recorded from this code with torch 2.14.1 on x86-64; a
    change here means that training itself has changed."""
    load_training(Path("private.gin"), TINY)
    train_vae(features, tmp_path, "golden", progress=False)
    with open(tmp_path / "losses.csv") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses == pytest.approx(GOLDEN, rel=1e-4)


GOLDEN = [
    0.761803,
    0.779128,
    0.82735,
    0.787711,
    0.864509,
    0.919856,
    0.984131,
    0.955669,
    0.953156,
    0.995353,
]


def test_stopped_training_goes_on_bit_for_bit(tmp_path: Path, features: torch.Tensor) -> None:
    load_training(Path("private.gin"), TINY)
    whole = train_vae(features, tmp_path, "same", progress=False)

    class Stop(Exception):
        pass

    def stop_after_four(share: float) -> None:
        if share >= 0.4:
            raise Stop

    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(Stop):
        train_vae(features, other, "same", on_progress=stop_after_four, progress=False)
    resumed = train_vae(features, other, "same", progress=False)
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert torch.equal(
        encode_features(whole.means(), features), encode_features(resumed.means(), features)
    )
    columns = [
        [
            {k: v for k, v in row.items() if k != "seconds"}
            for row in csv.DictReader(path.read_text().splitlines())
        ]
        for path in (tmp_path / "losses.csv", other / "losses.csv")
    ]
    assert columns[0] == columns[1]
    assert len(columns[0]) == 10


def test_training_learns_to_reconstruct(tmp_path: Path) -> None:
    """Rows made from two hidden numbers: the VAE must explain nearly all of their variance."""
    hidden = np.random.default_rng(2).uniform(-1, 1, (256, 2))
    mixing = np.random.default_rng(3).normal(size=(2, 8))
    rows = torch.from_numpy((1 / (1 + np.exp(-hidden @ mixing))).astype(np.float32))
    load_training(
        Path("private.gin"),
        [
            *TINY,
            "train_vae.epochs=80",
            "beta_at_epoch.beta_start=0.0001",
            "beta_at_epoch.beta_end=0.0001",
            "Encoder.widths=(64,)",
            "Decoder.widths=(64, 64)",
        ],
    )
    train_vae(rows, tmp_path, "learn", progress=False)
    with open(tmp_path / "losses.csv") as file:
        error = [float(row["squared_error"]) for row in csv.DictReader(file)]
    variance = float(((rows - rows.mean(dim=0)) ** 2).sum(dim=1).mean())
    assert error[-1] < 0.1 * variance


def test_a_last_batch_of_one_row_is_left_out(tmp_path: Path) -> None:
    load_training(Path("private.gin"), [*TINY, "train_vae.epochs=1"])
    rows = torch.from_numpy(np.random.default_rng(0).random((33, 8), dtype=np.float32))
    train_vae(rows, tmp_path, "odd", progress=False)  # batch norm would refuse a batch of one
    with open(tmp_path / "losses.csv") as file:
        assert math.isfinite(float(next(csv.DictReader(file))["loss"]))
    with pytest.raises(UserError, match="at least two images"):
        train_vae(rows[:1], tmp_path, "one", progress=False)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, features: torch.Tensor) -> None:
    load_training(Path("private.gin"), TINY)
    features[3, 3] = float("inf")
    with pytest.raises(UserError, match="not finite in epoch 1"):
        train_vae(features, tmp_path, "inf", progress=False)


def test_a_checkpoint_of_another_run_is_kept_and_refused(
    tmp_path: Path, features: torch.Tensor
) -> None:
    load_training(Path("private.gin"), [*TINY, "train_vae.epochs=1"])
    train_vae(features, tmp_path, "mine", progress=False)
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(UserError, match="of another configuration"):
        train_vae(features, tmp_path, "other", progress=False)
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path, features: torch.Tensor) -> None:
    load_training(Path("private.gin"), [*TINY, "train_vae.epochs=1"])
    train_vae(features, tmp_path, "mine", progress=False)
    checkpoint = tmp_path / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    state["vae"]["encoder.0.gain"] = torch.ones(1)
    torch.save(state, checkpoint)
    with pytest.raises(UserError, match="another version of this code"):
        train_vae(features, tmp_path, "mine", progress=False)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, features: torch.Tensor) -> None:
    load_training(Path("private.gin"), [*TINY, "train_vae.epochs=1"])
    train_vae(features, tmp_path, "a", progress=False)
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    with pytest.raises(UserError, match="damaged"):
        train_vae(features, tmp_path, "a", progress=False)
