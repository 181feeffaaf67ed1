"""Features in bfloat16: how far from float32's, on which machines, and in which file."""

import io
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from submission.data.dataset import Dataset, open_file
from submission.features import extraction
from submission.features.bfloat16 import InBfloat16
from submission.features.extraction import extract_features
from submission.features.extractor import Extractor
from submission.features.weights import SHIPPED_WEIGHTS, load_extractor
from submission.pipeline.configuration import load_training
from submission.runtime.device import bfloat16_is_faster

CPU = torch.device("cpu")
IMAGES = 4
# float32's vectors, and bfloat16's beside them.
PLAIN, FAST = "x.npy", "x.bfloat16.npy"


@pytest.fixture(scope="module")
def shipped() -> Extractor:
    load_training(Path("public.gin"))
    return load_extractor(SHIPPED_WEIGHTS)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    load_training(Path("public.gin"))
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 64, 64, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, factor_sizes=np.array([2, 2, 1, 1, 1, 1, 1]))
    return open_file(tmp_path / "data.npz", "mpi3d_toy")


def rows(value: float) -> bytes:
    """A whole feature file, as numpy writes it."""
    buffer = io.BytesIO()
    np.save(buffer, np.full((IMAGES, 512), value, np.float32))
    return buffer.getvalue()


def on_a_machine(monkeypatch: pytest.MonkeyPatch, faster: bool) -> None:
    monkeypatch.setattr(extraction, "bfloat16_is_faster", lambda device: faster)


@pytest.mark.parametrize(
    ("machine", "faster"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_bf16": False}, True),
        # 57 images a second in bfloat16 and 91 in float32: its AMX is masked.
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "AMD EPYC", "avx2": True}, False),
        ({}, False),
    ],
)
def test_a_cpu_with_the_units_need_not_be_faster(
    monkeypatch: pytest.MonkeyPatch, machine: dict[str, object], faster: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: machine)
    assert bfloat16_is_faster(CPU) is faster


def test_vectors_are_close_to_those_of_float32(shipped: Extractor) -> None:
    """Close, but not the same: or nothing was computed in bfloat16 at all."""
    images = torch.rand(IMAGES, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain, fast = shipped(images), InBfloat16(shipped)(images)
    assert fast.dtype == torch.float32
    assert 0 < (fast - plain).abs().max() < 0.002
    assert torch.cosine_similarity(fast, plain).min() > 0.9999
    torch.testing.assert_close(fast.norm(dim=1), torch.ones(IMAGES))


def test_each_precision_has_its_file(
    tmp_path: Path,
    dataset: Dataset,
    shipped: Extractor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / PLAIN
    on_a_machine(monkeypatch, faster=True)
    with caplog.at_level(logging.INFO):
        fast = extract_features(dataset, shipped, path, CPU)
    assert f"features: {fast}, multiplied in bfloat16" in caplog.text
    assert fast == tmp_path / FAST
    assert not path.exists()
    plain = extract_features(dataset, shipped, path, CPU, bfloat16=False, progress=False)
    assert plain == path
    first, second = (np.load(file, allow_pickle=False) for file in (plain, fast))
    assert 0 < np.abs(first - second).max() < 0.002


@pytest.mark.parametrize(
    ("there", "faster", "taken"),
    [
        ([PLAIN], True, PLAIN),  # as an earlier version wrote it
        ([FAST], False, FAST),  # from another machine
        ([PLAIN, FAST], True, PLAIN),
        (["x.part"], True, PLAIN),
        (["x.bfloat16.part"], False, FAST),
        ([FAST, "x.part"], False, FAST),
    ],
)
def test_what_is_there_or_begun_decides(
    tmp_path: Path,
    dataset: Dataset,
    shipped: Extractor,
    monkeypatch: pytest.MonkeyPatch,
    there: list[str],
    faster: bool,
    taken: str,
) -> None:
    """The files that are there have all rows already: nothing is left to compute."""
    for name in there:
        (tmp_path / name).write_bytes(rows(0.5))
    on_a_machine(monkeypatch, faster)
    found = extract_features(dataset, shipped, tmp_path / PLAIN, CPU, batch_size=2, progress=False)
    assert found == tmp_path / taken
    assert found.read_bytes() == rows(0.5)


def test_a_run_goes_on_with_the_file_it_began_with(
    tmp_path: Path, dataset: Dataset, shipped: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_machine(monkeypatch, faster=False)
    for name, value in ((PLAIN, 0.25), (FAST, 0.5)):
        (tmp_path / name).write_bytes(rows(value))
    path, began = tmp_path / PLAIN, tmp_path / FAST
    assert extract_features(dataset, shipped, path, CPU, began=began, progress=False) == began
