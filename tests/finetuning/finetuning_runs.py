"""What the tests of finetuning share: images in official form, a start, and how it is run."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin
import numpy as np
import pytest
import torch

from submission.features.weights import SHIPPED_WEIGHTS
from submission.finetuning.configuration import load_finetuning
from submission.finetuning.network import Network
from submission.finetuning.starts import Start, start_network
from submission.runtime.paths import PROJECT

CPU = torch.device("cpu")
# Both looks of the simulator in official form, two positions of one axis: 1,296 images each.
SIZES = (6, 6, 2, 3, 3, 2, 1)
COUNT = 1296


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in official form; the first pixel of an image holds its row number."""
    folder = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(("mpi3d_toy", "mpi3d_realistic")):
        images = np.random.default_rng(seed).integers(0, 256, (COUNT, 64, 64, 3), dtype=np.uint8)
        images[:, 0, 0, 0], images[:, 0, 0, 1] = np.divmod(np.arange(COUNT), 256)
        images[:, 0, 0, 2] = seed
        (folder / name).mkdir()
        np.savez(
            folder / name / f"{name}.npz",
            images=images,
            factor_sizes=np.array(SIZES),
            stand_in="noise",
        )
    return folder


@pytest.fixture
def paper() -> Iterator[None]:
    load_finetuning(Path("finetune.gin"))
    yield
    gin.clear_config()


@pytest.fixture(scope="module")
def shipped() -> Network:
    """The shipped extractor with new heads; tests that train copy it."""
    load_finetuning(Path("finetune.gin"))
    return start_network(Start(str(SHIPPED_WEIGHTS)), seed=0)


def settings(**more: Any) -> list[str]:
    """A few steps on twelve images of the toy file."""
    bound = {
        "file_source.datasets": ("mpi3d_toy",),
        "file_source.training_share": 0.0094,
        "file_source.validation_images": 4,
        "finetune.epochs": 2,
        "finetune.batch_size": 6,
        "finetune.checkpoint_steps": 1,
        "Network.bfloat16": False,
    } | {key.replace("__", "."): value for key, value in more.items()}
    return [f"{key}={value!r}" for key, value in bound.items()]


def command(data: Path, out: Path, bindings: list[str], torchrun: bool = False) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return [
        sys.executable,
        *(launcher if torchrun else []),
        "-m",
        "submission",
        "finetune",
        "--config",
        "finetune.gin",
        "--from",
        str(SHIPPED_WEIGHTS),
        "--data",
        str(data),
        "--out",
        str(out),
        "--device",
        "cpu",
        *bindings,
    ]


def finish(arguments: list[str]) -> None:
    done = subprocess.run(arguments, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
