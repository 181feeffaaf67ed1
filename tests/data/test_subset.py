"""Some images of a file, against the whole of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from submission.data.own import open_own
from submission.data.subset import Subset, random_subset
from submission.runtime.errors import UserError


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("start", [0, 4, 9, 10])
def test_the_rows_are_read_in_order(
    tmp_path: Path, writer: Callable[..., None], start: int
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    writer(tmp_path / "x.npz", images=images)
    rows = np.array([0, 3, 4, 5, 6, 20, 21, 37, 38, 39])
    batches = [*Subset(open_own(tmp_path / "x.npz"), rows).batches(4, start)]
    expected = images[rows[start:]]
    assert [len(batch) for batch in batches] == {0: [4, 4, 2], 4: [4, 2], 9: [1], 10: []}[start]
    if start < 10:
        np.testing.assert_array_equal(np.concatenate(batches), expected)


def test_a_random_subset_is_the_same_each_time(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=np.zeros((40, 16, 16, 3), np.uint8))
    dataset = open_own(tmp_path / "x.npz")
    first, again = random_subset(dataset, 25).rows, random_subset(dataset, 25).rows
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first)) == 25
    assert (np.diff(first) > 0).all()
    for count in (1, 41):
        with pytest.raises(UserError, match=f"--images {count} must be from 2 to the 40 images"):
            random_subset(dataset, count)
