"""The bench: its counts against sums by hand, its two routes against each other, its table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import floor
from benchmarks.__main__ import STAGES, main, measure
from benchmarks.report import draw, share, table
from submission.pipeline.configuration import load_training

SIZES = (2, 2, 2, 2, 2, 2, 2)
COUNTS = {
    "factor_vae_score.num_variance_estimate": 70,
    "factor_vae_score.num_train": 10,
    "factor_vae_score.num_eval": 10,
    "dci.num_train": 60,
    "dci.num_test": 30,
    "sap_score.num_train": 60,
    "sap_score.num_test": 30,
    "irs.num_train": 60,
    "mig.num_train": 60,
}


class Pooled(torch.nn.Module):
    """A stand-in model: the images' mean colours in six regions, one after the other."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, (3, 2)).flatten(1)[:, :9]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A data file of 128 noisy images, a model, and its codes."""
    folder = tmp_path_factory.mktemp("bench")
    images = np.random.default_rng(0).integers(0, 256, (128, 64, 64, 3), np.uint8)
    values = np.stack(np.unravel_index(np.arange(128), SIZES), 1).astype(np.uint8)
    images[:, :20, :30] //= 1 + values[:, None, None, :3]
    images[:, 25:, :30] //= 1 + values[:, None, None, 3:6]
    path = folder / "mpi3d_real" / "mpi3d_real.npz"
    path.parent.mkdir()
    np.savez(path, images=images, factor_sizes=np.array(SIZES), stand_in=np.array("random"))
    model = torch.jit.script(Pooled())
    model.save(str(folder / "model.pt"))
    with torch.inference_mode():
        codes = model(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255).numpy()
    np.save(folder / "codes.npy", codes)
    return {
        "data": str(folder),
        "dataset": "mpi3d_real",
        "work": str(folder),
        "images": 16,
        "model": str(folder / "model.pt"),
        "codes": str(folder / "codes.npy"),
        "factor_sizes": SIZES,
        "workers": 2,
        "counts": COUNTS,
        "metrics": ["factor_vae", "dci", "sap", "irs", "mig"],
    }


@pytest.fixture
def run(settings: dict[str, Any], tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    return lambda route: measure(route, settings, tmp_path / "route.log")


def test_flop_of_an_image_by_hand() -> None:
    """VGG19 at 64x64: blocks of 3x3 convolutions, the image halved after each; 2 FLOP a product."""
    backbone = (
        2
        * 9
        * (
            64**2 * (3 * 64 + 64 * 64)
            + 32**2 * (64 * 128 + 128 * 128)
            + 16**2 * (128 * 256 + 3 * 256 * 256)
            + 8**2 * (256 * 512 + 3 * 512 * 512)
            + 4**2 * (4 * 512 * 512)
        )
    )
    # 1x1 on the 2x2 map, 2x2 to one position, 1x1 there.
    aggregation = 2 * (4 * 512 * 1024 + 4 * 1024 * 2048 + 2048 * 512)
    assert floor.extractor_flop() == backbone + aggregation


def test_flop_and_bytes_of_a_vae_step_by_hand() -> None:
    load_training(Path("public.gin"))
    encoder = 512 * 1024 + 3 * 1024**2 + 2 * 1024 * 16
    decoder = 16 * 1024 + 3 * 1024**2 + 1024 * 512
    # Forwards, the weights' gradients and the inputs' (nobody asks for that of the features).
    flop = 2 * 256 * (3 * (encoder + decoder) - 512 * 1024)
    parameters = encoder + decoder + 8 * 2 * 1024 + 2 * 16 + 512  # batch norms, biases
    units = 8 * 1024 + 2 * 16 + 512
    assert floor.vae_step_work(256) == (flop, 4 * (10 * parameters + 4 * 256 * units))


@pytest.mark.slow
def test_both_metric_routes_give_the_same_scores(run: Callable[[str], dict[str, Any]]) -> None:
    ours, stock = run("metrics_ours"), run("metrics_stock")
    assert set(ours["scores"]) == {"factor_vae", "dci", "sap", "irs", "mig"}
    for name, score in ours["scores"].items():
        assert stock["scores"][name] == pytest.approx(score, abs=1e-6), name
    assert any(0.05 < score < 0.95 for score in ours["scores"].values())
    # FactorVAE: 70 and 20 batches of 64; DCI and SAP 60 and 30; IRS and MIG 60.
    assert stock["images"] == 70 + 20 * 64 + 2 * 90 + 2 * 60
    assert ours["peak_mib"] > 50


@pytest.mark.slow
def test_both_extractions_give_the_same_features(run: Callable[[str], dict[str, Any]]) -> None:
    ours, stock = run("features_ours"), run("features_stock")
    assert abs(ours["checksum"]) > 1
    assert stock["checksum"] == pytest.approx(ours["checksum"], rel=1e-3)  # bfloat16's, on some


def test_both_loaders_read_every_image(run: Callable[[str], dict[str, Any]]) -> None:
    assert run("load_ours")["images"] == run("load_stock")["images"] == 128


def test_the_table_computes_medians_ratios_and_shares(tmp_path: Path) -> None:
    report: dict[str, Any] = {
        "date": "2026-01-01",
        "data": {"name": "mpi3d_real", "stand_in": True, "num_images": 128, "factor_sizes": SIZES},
        "machine": {"cpu": "a CPU", "cores": 2},
        "versions": {"torch": "2"},
        "sizes": {"images": 10, "steps": 5, "dci_counts": {"dci.num_train": 60}},
        "work": {"image_flop": 2e9, "step_flop": 1e9, "step_bytes": 1e9, "image_bytes": 12288},
        "rates": [
            {
                "matmul": 5e9,
                "vae": 3e9,
                "matmul_onednn": 6e9,
                "vae_onednn": 4e9,
                "convolution": rate,
                "copy": 2e9,
            }
            for rate in (9e9, 10e9, 30e9)
        ],
        "stages": {
            "features": {
                "ours": [{"seconds": s, "peak_mib": 100} for s in (2.0, 2.5, 9.0)],
                "stock": [{"seconds": 5.0, "peak_mib": 200}] * 3,
            },
            "vae": {
                "ours": [{"seconds": 7.5, "peak_mib": 100}] * 3,
                "stock": [{"seconds": 15.0, "peak_mib": 100}] * 3,
            },
        },
        "growth": [
            {
                "what": "VAE",
                "along": "latents",
                "at": [1, 4],
                "seconds": [1.0, 2.0],
                "peak_mib": [10, 11],
            }
        ],
    }
    # 10 images of 2 GFLOP at 10 GFLOP/s; 5 steps of 1 GFLOP at 4 GFLOP/s and 1 GB at 2 GB/s.
    assert share(report, "features", "ours") == pytest.approx(2.0 / 2.5)
    assert share(report, "vae", "stock") == pytest.approx(3.75 / 15)
    shown = table(report)
    assert "NOT MPI3D" in shown
    assert "bfloat16" not in shown
    for rates in report["rates"]:
        rates["convolution_bfloat16"] = 2 * rates["convolution"]
    # Only ours multiply in bfloat16, where that is measured.
    assert share(report, "features", "ours") == pytest.approx(1.0 / 2.5)
    assert share(report, "features", "stock") == pytest.approx(2.0 / 5.0)
    assert "(in bfloat16, as ours are here, 20 (18 to 60))" in table(report)
    assert (
        "| features (10 images) | 2.50 s (2.00 to 9.00), 100 MiB | 5.00 s (5.00 to 5.00), 200 MiB "
        "| 0.500 | 0.500 | 80 % / 40 % | 85 % of the floor: missed |"
    ) in shown
    assert "| VAE | latents: 1, 4 | 1.00, 2.00 | 10, 11 | latents^0.50 |" in shown
    draw(report, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"


def test_mistakes_are_told_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBMISSION_HOME", str(tmp_path / "home"))
    (tmp_path / "broken.json").write_text("{")
    for arguments, said in (
        (["--stages", "load,speed"], f"choose from {','.join(STAGES)}"),
        (["--repeats", "0"], "at least 1"),
        (["--table", str(tmp_path / "none.json")], "no file"),
        (["--table", str(tmp_path / "broken.json")], "no JSON file of this bench"),
        (["--data", str(tmp_path)], "no file"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert said in error
    assert not list(tmp_path.glob("**/benchmarks.json"))
