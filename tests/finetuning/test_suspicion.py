"""Files under the name of an official one: rendered as they should be, shifted, and shuffled."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from submission.data.dataset import KNOWN_MD5, open_file, verify
from submission.finetuning import suspicion
from submission.render.stand_in import render_images

SIZES = (6, 6, 2, 3, 3, 1, 1)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    factors = np.stack(np.unravel_index(np.arange(648), SIZES), axis=1)
    factors[:, 5:] = 20, 12
    return render_images("real", factors)


def said(images: np.ndarray, path: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    np.savez(path, images=images, factor_sizes=np.array(SIZES))
    dataset = open_file(path, "mpi3d_real")
    assert dataset.stand_in is None
    with caplog.at_level(logging.WARNING, logger="submission"):
        suspicion.look_at(dataset, verify(dataset, progress=False), torch.device("cpu"))
    return [record.getMessage() for record in caplog.records]


@pytest.mark.slow
def test_what_the_heads_read_is_said_of_a_file_with_another_md5(
    images: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unknown, read = said(images, tmp_path / "x.npz", caplog)
    assert "the 2019 file's was" in unknown
    assert "read right in 300 of its images (by guessing): object color " in read
    shares = dict.fromkeys(("object color", "object shape", "object size", "camera height"), 90)
    for name, least in shares.items():
        percent = read.partition(f"{name} ")[2].partition("%")[0]
        assert int(percent) >= least, name


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: np.roll(x.reshape(-1), 100_003).reshape(x.shape),  # across rows and images
        lambda x: np.roll(x, 25, axis=1),
        lambda x: x[::-1],
    ],
)
def test_shifted_and_shuffled_images_are_doubted(
    images: np.ndarray,
    spoil: Callable[[np.ndarray], np.ndarray],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    *_, doubt = said(spoil(images), tmp_path / "x.npz", caplog)
    assert "x.npz does not show what it should" in doubt
    assert "\n" not in doubt


def test_a_known_file_is_not_looked_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.savez(tmp_path / "x.npz", images=np.zeros((648, 64, 64, 3), np.uint8), factor_sizes=SIZES)
    dataset = open_file(tmp_path / "x.npz", "mpi3d_real")
    suspicion.look_at(dataset, KNOWN_MD5["mpi3d_real"], torch.device("meta"))
    assert not caplog.records


def test_another_grid_is_said_to_be_unread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first release of toy has four colours and four shapes: the heads' numbers differ."""
    sizes = np.array((4, 4, 2, 3, 3, 1, 1))
    np.savez(tmp_path / "x.npz", images=np.zeros((288, 64, 64, 3), np.uint8), factor_sizes=sizes)
    dataset = open_file(tmp_path / "x.npz", "mpi3d_toy")
    suspicion.look_at(dataset, "0" * 32, torch.device("meta"))
    _, unread = [record.getMessage() for record in caplog.records]
    assert "its images were not looked at" in unread
