"""The network of section 2.1, its weight file, and features on disk."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import vgg19_bn

from submission.data.dataset import open_file
from submission.features.extraction import extract_features, open_features
from submission.features.extractor import Extractor, l2_normalize
from submission.features.weights import (
    SHIPPED_WEIGHTS,
    check_sha256,
    fold_batch_norm,
    load_extractor,
)
from submission.pipeline.configuration import load_training
from submission.runtime.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shipped() -> Extractor:
    load_training(Path("public.gin"))
    return load_extractor(SHIPPED_WEIGHTS)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)


def as_float(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def test_parameter_count_is_that_of_the_paper() -> None:
    load_training(Path("public.gin"))
    with torch.device("meta"):
        network = Extractor()
        backbone = vgg19_bn(weights=None).features
    # 512 -> 1024 (1x1) -> 2048 (2x2) -> 512 (1x1), no biases, and three batch norms.
    aggregation = 512 * 1024 + 1024 * 2048 * 4 + 2048 * 512 + 2 * (1024 + 2048 + 512)
    counts = [sum(p.numel() for p in m.parameters()) for m in (network, backbone)]
    assert counts[0] - counts[1] == aggregation


def test_output_follows_the_paper_step_by_step(shipped: Extractor, images: np.ndarray) -> None:
    """The folded extractor against the plain operations on the file's own tensors."""
    state = {key: value.float() for key, value in load_file(SHIPPED_WEIGHTS).items()}
    backbone = vgg19_bn(weights=None).features.eval()
    backbone.load_state_dict(
        {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")},
        strict=False,  # the file leaves out batch norm's step counters
    )
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.inference_mode():
        x = backbone((as_float(images) - mean) / std)
        assert x.shape == (12, 512, 2, 2)
        for conv, norm in ((1, 2), (5, 6), (9, 10)):
            weights = state[f"aggregator.{conv}.weight"]
            x = torch.nn.functional.conv2d(x, weights)
            shape = (1, -1, 1, 1)
            x = (x - state[f"aggregator.{norm}.running_mean"].view(shape)) / torch.sqrt(
                state[f"aggregator.{norm}.running_var"].view(shape) + 1e-5
            )
            x = x * state[f"aggregator.{norm}.weight"].view(shape)
            x = torch.relu(x + state[f"aggregator.{norm}.bias"].view(shape))
        x = x.flatten(1)
        expected = x / x.norm(dim=1, keepdim=True)
        got = shipped(as_float(images))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    assert got.min() >= 0
    torch.testing.assert_close(got.norm(dim=1), torch.ones(12))


def test_all_zero_rows_stay_zero() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert l2_normalize(x).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]


def test_initialisation_is_he_uniform() -> None:
    load_training(Path("public.gin"))
    network = Extractor()
    weight = network.aggregation.aggregator[1].weight.detach()  # type: ignore[union-attr, index]
    bound = (6 / 512) ** 0.5  # sqrt(6 / fan_in): uniform He for ReLU
    assert bound * 0.999 < weight.abs().max() <= bound
    assert weight.var().item() == pytest.approx(bound**2 / 3, rel=0.02)


def test_stage1_regions_by_hand() -> None:
    """RMAC on maps whose maxima are known: one position is hot in one channel."""
    from submission.features.extractor import RMAC

    maps = torch.zeros(1, 2, 7, 7)
    maps[0, 0] = 1.0
    maps[0, 1, 3, 3] = 2.0
    # 7 x 7 single positions, 3 x 3 windows of three, 2 x 2 of five, one global: those that see
    # the hot position are (1, 2)/sqrt 5, the others (1, 0). Windows of three (stride 2, at 0, 2,
    # 4) see position 3 at 2 only, so one of nine; windows of five (at 0, 2) all see it.
    hot = 1 + 1 + 4 + 1
    cold = 48 + 8
    total = torch.tensor([cold + hot / 5**0.5, 2 * hot / 5**0.5])
    # Windows of three that begin at 2 cover 2..4, those at 0 cover 0..2, those at 4 cover 4..6.
    torch.testing.assert_close(RMAC()(maps)[0], total / total.norm())


def test_stage1_takes_torchvisions_own_file(tmp_path: Path, images: np.ndarray) -> None:
    load_training(Path("stage1.gin"), ["Extractor.resolution=160"])
    torch.manual_seed(0)
    stock = vgg19_bn(weights=None).eval()
    state = {k: v for k, v in stock.state_dict().items() if k.startswith("features.")}
    torch.save(state, tmp_path / "vgg19_bn-c79401a0.pth")
    extractor = load_extractor(tmp_path / "vgg19_bn-c79401a0.pth")
    with torch.inference_mode():
        vectors = extractor(as_float(images[:2]))
    assert vectors.shape == (2, 512)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))


def without_a_key(path: Path) -> None:
    state = load_file(SHIPPED_WEIGHTS)
    del state["aggregator.5.weight"]
    save_file(state, path)


def other_shape(path: Path) -> None:
    state = load_file(SHIPPED_WEIGHTS)
    state["aggregator.9.weight"] = torch.zeros(256, 2048, 1, 1)
    save_file(state, path)


def tampered(path: Path) -> None:
    raw = bytearray(SHIPPED_WEIGHTS.read_bytes())
    raw[-1000] ^= 1
    path.write_bytes(raw)
    shutil.copy(SHIPPED_WEIGHTS.parent / "SHA256SUMS", path.parent)


BAD_WEIGHTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no weight file"),
    "pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "git-lfs pointer",
    ),
    "cut short": (
        lambda path: path.write_bytes(SHIPPED_WEIGHTS.read_bytes()[:1_000_000]),
        "cut short",
    ),
    "empty": (lambda path: path.write_bytes(b""), "cut short"),
    "tampered": (tampered, "not the recorded file"),
    "no aggregation": (without_a_key, "another architecture: 'aggregator.5.weight'"),
    "other shape": (other_shape, "another architecture: 'aggregator.9.weight'"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_a_wrong_weight_file_is_refused(tmp_path: Path, case: str) -> None:
    load_training(Path("public.gin"))
    make, message = BAD_WEIGHTS[case]
    path = tmp_path / SHIPPED_WEIGHTS.name
    make(path)
    with pytest.raises(UserError, match=message) as refusal:
        load_extractor(path)
    assert "\n" not in str(refusal.value)


def test_a_pickle_that_runs_code_is_not_loaded(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "owned"),))  # type: ignore[return-value]

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    load_training(Path("stage1.gin"))
    with pytest.raises(UserError, match="plain tensors"):
        load_extractor(tmp_path / "evil.pth")
    assert not (tmp_path / "owned").exists()


def test_recorded_digest_is_that_of_sha256sum() -> None:
    assert check_sha256(SHIPPED_WEIGHTS) == hashlib.sha256(SHIPPED_WEIGHTS.read_bytes()).hexdigest()
    recorded = (SHIPPED_WEIGHTS.parent / "SHA256SUMS").read_text()
    assert f"{check_sha256(SHIPPED_WEIGHTS)}  {SHIPPED_WEIGHTS.name}\n" in recorded


def test_interrupted_extraction_equals_an_uninterrupted_one(
    tmp_path: Path, shipped: Extractor, images: np.ndarray
) -> None:
    np.savez(tmp_path / "x.npz", images=images, factor_sizes=np.array([3, 2, 2, 1, 1, 1, 1]))
    dataset = open_file(tmp_path / "x.npz", "mpi3d_toy")
    whole, resumed = tmp_path / "whole.npy", tmp_path / "resumed.npy"
    extract_features(dataset, shipped, whole, CPU, batch_size=4, progress=False)
    rows = np.load(whole, allow_pickle=False)
    assert rows.shape == (12, 512)
    assert rows.dtype == np.float32
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.from_numpy(rows), shipped(as_float(images)), rtol=1e-3, atol=1e-4
        )
    # Killed in the middle of writing the seventh row: one whole batch of four is there.
    header = whole.stat().st_size - 12 * 2048
    resumed.with_suffix(".part").write_bytes(whole.read_bytes()[: header + 6 * 2048 + 100])
    extract_features(dataset, shipped, resumed, CPU, batch_size=4, progress=False)
    assert resumed.read_bytes() == whole.read_bytes()
    assert not resumed.with_suffix(".part").exists()
    assert torch.equal(open_features(whole, CPU), torch.from_numpy(rows))


def test_folding_changes_nothing_but_rounding() -> None:
    load_training(Path("public.gin"))
    torch.manual_seed(0)
    network = Extractor().double().train()
    x = torch.rand(4, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        network(x)  # gives batch norm statistics other than 0 and 1
        network.eval()
        torch.testing.assert_close(fold_batch_norm(network)(x), network(x), rtol=1e-9, atol=1e-9)
