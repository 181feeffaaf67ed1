"""Images to finetune on: the split of official files, shares of batches, what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from finetuning_runs import COUNT, SIZES, data, paper, settings  # noqa: F401 (fixtures)

from submission.finetuning.configuration import load_finetuning
from submission.finetuning.images import batches, file_source, open_source
from submission.runtime.errors import UserError


def test_files_are_split_and_shuffled(data: Path, paper: None) -> None:
    source = file_source(data, seed=0)
    training, again, next_epoch = source.epoch(0), source.epoch(0), source.epoch(1)
    assert np.array_equal(training, again)
    assert not np.array_equal(training, next_epoch)
    assert np.array_equal(np.sort(training), np.sort(next_epoch))
    everything = np.sort(np.concatenate([training, source.validation]))
    assert np.array_equal(everything, np.arange(2 * COUNT))
    for first in (0, COUNT):  # 80 % of each file
        assert np.sum((training >= first) & (training < first + COUNT)) == round(0.8 * COUNT)
    images, factors = source.load(training[:200])
    rows = images[:, 0, 0, 0].astype(int) * 256 + images[:, 0, 0, 1]
    assert np.array_equal(rows + COUNT * images[:, 0, 0, 2].astype(int), training[:200])
    expected = np.stack(np.unravel_index(rows, SIZES), axis=1)
    expected[:, 5] *= 39  # a thinned axis keeps the whole one's numbers
    assert np.array_equal(factors, expected)


def test_batches_are_shared_without_rest(data: Path, paper: None) -> None:
    source = file_source(data)
    numbers = source.epoch(0)[:22]
    whole = [images for images, _ in batches(source, numbers, 6)]
    assert [len(images) for images in whole] == [6, 6, 6, 4]
    shares = [[images for images, _ in batches(source, numbers, 6, rank, 2)] for rank in (0, 1)]
    for images, even, odd in zip(whole, *shares, strict=True):
        assert np.array_equal(images[0::2], even)
        assert np.array_equal(images[1::2], odd)


def test_a_checkpoint_is_of_these_files_and_no_others(tmp_path: Path, data: Path) -> None:
    """Rendered again with another seed they have the same names and numbers."""
    load_finetuning(Path("finetune.gin"), settings())
    copied = shutil.copytree(data, tmp_path / "data")
    before = file_source(copied)
    assert before.identity == file_source(data).identity
    path = copied / "mpi3d_toy" / "mpi3d_toy.npz"
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["images"][0, 0, 0, 0] ^= 1
    np.savez(path, **arrays)
    after = file_source(copied)
    assert (before.description, before.identity != after.identity) == (after.description, True)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="truncated or corrupt"):
        file_source(copied)
    with pytest.raises(UserError, match=r"training_share is 1.0, which leaves no image"):
        file_source(data, training_share=1.0)


def test_other_data_is_refused(tmp_path: Path, data: Path, paper: None) -> None:
    folder = tmp_path / "mpi3d_toy"
    folder.mkdir()
    images = np.zeros((4, 64, 64, 3), np.uint8)
    np.savez(folder / "mpi3d_toy.npz", images=images, factor_sizes=np.array([4, 1, 1, 1, 1, 1, 1]))
    with pytest.raises(UserError, match="today's release"):
        file_source(tmp_path, datasets=("mpi3d_toy",))
    np.savez_compressed(
        folder / "mpi3d_toy.npz", images=images, factor_sizes=np.array([4] + [1] * 6)
    )
    with pytest.raises(UserError, match="compressed"):
        file_source(tmp_path, datasets=("mpi3d_toy",))
    with pytest.raises(UserError, match="'files' or 'rendered'"):
        open_source(data, images="film")
