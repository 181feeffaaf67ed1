"""Sets of a user's own, written by numpy and Pillow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from submission.data.own import open_any, open_own
from submission.runtime.errors import UserError

GRID = np.stack(np.unravel_index(np.arange(12), (3, 2, 2)), axis=1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUBMISSION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pictures(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def folder_of(folder: Path, images: NDArray[np.uint8]) -> Path:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03}.png")
    return folder


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(12, 20, 32, 3), (12, 48, 16, 1), (12, 16, 16)])
def test_images_of_any_size_are_read_in_order(
    tmp_path: Path, shape: tuple[int, ...], writer: Callable[..., None]
) -> None:
    images = pictures(*shape)
    writer(tmp_path / "mine.npz", images=images, factor_sizes=np.array([3, 2, 2]))
    dataset = open_any(tmp_path / "mine.npz")
    expected = images.reshape(*shape[:3], -1)
    assert (dataset.name, dataset.num_images, dataset.shape) == ("mine", 12, expected.shape[1:])
    assert (dataset.factor_sizes, dataset.factor_names[2]) == ((3, 2, 2), "factor_2")
    np.testing.assert_array_equal(np.concatenate(list(dataset.batches(5, 3))), expected[3:])
    np.testing.assert_array_equal(dataset.images_at(np.array([2, 11])), expected[[2, 11]])
    np.testing.assert_array_equal(dataset.factors(np.arange(12)), GRID)


def test_factors_in_the_order_of_a_grid_are_one_and_others_are_kept(tmp_path: Path) -> None:
    images, names = pictures(12, 16, 16, 3), np.array(["a", "b", "c"])
    values = GRID * 5 - 3  # numbered from 0 in ascending order
    np.savez(tmp_path / "x.npz", images=images, factors=values, factor_names=names)
    grid = open_own(tmp_path / "x.npz")
    assert (grid.factor_sizes, grid.labels, grid.factor_names) == ((3, 2, 2), None, ("a", "b", "c"))
    order = np.random.default_rng(0).permutation(12)
    for rows in (order, order[:7]):
        np.savez(tmp_path / "y.npz", images=images[rows], factors=values[rows])
        found = open_own(tmp_path / "y.npz")
        assert found.labels is not None
        assert found.factor_sizes == (3, 2, 2)
        np.testing.assert_array_equal(found.factors(np.arange(len(rows))), GRID[rows])


def test_a_file_of_mpi3d_is_that_under_its_name_alone(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"images": pictures(12, 64, 64, 3)}
    arrays["factor_sizes"] = np.array([1, 1, 1, 1, 3, 2, 2])
    for name, official in (("mpi3d_real", True), ("real", True), ("other", False)):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        dataset = open_any(tmp_path / f"{name}.npz")
        assert dataset.official is official
        assert dataset.name == ("mpi3d_real" if official else "other")


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path, cache: Path) -> None:
    images = pictures(12, 24, 18, 3)
    folder = folder_of(tmp_path / "mine", images)
    (folder / ".hidden.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image either")
    lines = [f"{i:03}.png,{a},{b},{c}" for i, (a, b, c) in reversed([*enumerate(GRID)])]
    (folder / "factors.csv").write_text("\n".join(["file,size,hue,turn", *lines]) + "\n")
    dataset = open_any(folder)
    np.testing.assert_array_equal(dataset.array(), images)
    assert (dataset.name, dataset.factor_sizes, dataset.labels) == ("mine", (3, 2, 2), None)
    assert dataset.factor_names == ("size", "hue", "turn")
    (written,) = (cache / "sets").iterdir()
    time = written.stat().st_mtime_ns
    open_any(folder)
    assert written.stat().st_mtime_ns == time  # once
    Image.fromarray(images[0] // 2).save(folder / "000.png")
    np.testing.assert_array_equal(open_any(folder).array()[0], images[0] // 2)


def test_grey_pictures_keep_one_channel_and_a_mixed_folder_has_three(tmp_path: Path) -> None:
    grey = pictures(3, 20, 20)
    folder = folder_of(tmp_path / "grey", grey)
    np.testing.assert_array_equal(open_any(folder).array()[..., 0], grey)
    Image.fromarray(pictures(20, 20, 3)).save(folder / "9.png")
    mixed = open_any(folder).array()
    assert mixed.shape == (4, 20, 20, 3)
    np.testing.assert_array_equal(mixed[:3], np.repeat(grey[..., None], 3, axis=3))


def test_jpeg_is_read_as_pillow_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(pictures(40, 30, 3)).save(folder / "b.JPG", format="JPEG")
    Image.fromarray(pictures(40, 30, 3)[::-1]).save(folder / "a.jpeg")
    expected = [np.asarray(Image.open(folder / name)) for name in ("a.jpeg", "b.JPG")]
    np.testing.assert_array_equal(open_any(folder).array(), np.stack(expected))


OK = np.zeros((4, 16, 16, 3), np.uint8)
BAD_FILES: list[tuple[dict[str, Any], str]] = [
    ({"images": OK.astype(np.float32)}, "it must be uint8"),
    ({"images": np.zeros((4, 16, 8, 3), np.uint8)}, "16 to 512 pixels a side"),
    ({"images": np.zeros((1, 513, 16, 3), np.uint8)}, "16 to 512 pixels a side"),
    ({"images": np.zeros((4, 16, 16, 4), np.uint8)}, "3 or 1"),
    ({"images": OK[:0]}, "has shape"),
    ({"images": OK, "factors": np.zeros((3, 2), int)}, "4 images and 3 rows"),
    ({"images": OK, "factors": np.zeros((4, 2))}, "whole numbers"),
    ({"images": OK, "factors": np.zeros(4, int)}, "a column for each factor"),
    ({"images": OK, "factors": np.array([["a"]] * 4)}, "whole numbers"),
    ({"images": OK, "factor_sizes": np.array([2, 3])}, "product is the number of images, 4"),
    ({"images": OK, "factor_sizes": np.array([4.0])}, "whole numbers"),
    ({"images": OK, "factor_sizes": np.array([4]), "factors": np.zeros((4, 1), int)}, "keep the"),
    ({"images": OK, "factor_sizes": np.array([2, 2]), "factor_names": ["a"]}, "2 different ones"),
    ({"images": OK, "factor_sizes": np.array([2, 2]), "factor_names": ["a", "a"]}, "different"),
    ({"images": OK, "factor_sizes": np.array([2, 2]), "observed": [1, 0]}, "ascending"),
    ({"images": OK, "factors": np.array([[None]] * 4)}, "cannot be read"),
    ({"images": OK, "factors": np.zeros((4, 70), int)}, "32 at most"),
    ({"images": OK, "factors": np.zeros((4, 1), int), "observed": [0]}, "'observed' and 'factors'"),
    ({"images": OK, "name": "\x1b[31m"}, "printable"),
]


@pytest.mark.parametrize(("arrays", "said"), BAD_FILES)
def test_a_wrong_file_is_refused_in_one_sentence(
    tmp_path: Path, arrays: dict[str, Any], said: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=said) as caught:
        open_any(tmp_path / "x.npz")
    assert "x.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def spoil_size(folder: Path) -> None:
    Image.fromarray(pictures(20, 21, 3)).save(folder / "001.png")


def spoil_bytes(folder: Path) -> None:
    whole = (folder / "001.png").read_bytes()
    (folder / "001.png").write_bytes(whole[: len(whole) // 2])


def spoil_header(folder: Path) -> None:
    (folder / "001.png").write_bytes(b"GIF89a")


def spoil_alpha(folder: Path) -> None:
    Image.fromarray(pictures(20, 20, 4)).save(folder / "001.png")


def spoil_depth(folder: Path) -> None:
    Image.fromarray(pictures(20, 20).astype(np.uint16) * 256).save(folder / "001.png")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_size, "21x20 pixels"),
        (spoil_bytes, "damaged"),
        (spoil_header, "no PNG or JPEG"),
        (spoil_alpha, "transparent"),
        (spoil_depth, "more than 8 bits"),
    ],
)
def test_one_odd_image_of_a_folder_is_named(
    tmp_path: Path, cache: Path, spoil: Callable[[Path], None], said: str
) -> None:
    folder = folder_of(tmp_path / "mine", pictures(3, 20, 20, 3))
    spoil(folder)
    with pytest.raises(UserError, match=said) as caught:
        open_any(folder)
    assert "001.png" in str(caught.value)
    assert not [*cache.rglob("*.npz"), *cache.rglob("*.tmp")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n0,1\n1,0\n", "2 rows, and the folder 3 images"),
        ("a\nx\ny\nz\n", "which is no number"),
        ("a\n0\n0.5\n1\n", "'a' is 0.5 in row 2"),
        ("file,a\n000.png,0\n001.png,1\n001.png,2\n", "two rows of '001.png'"),
        ("file\n000.png\n001.png\n002.png\n", "no factor"),
        ("file,a\n000.png,0\n001.png,1\n", "no row of '002.png'"),
        ("file,a\n000.png,0\n001.png,1\n002.png,0\nelse.png,1\n", "row of 'else.png'"),
    ],
)
def test_factors_that_do_not_fit_the_images(tmp_path: Path, text: str, said: str) -> None:
    folder = folder_of(tmp_path / "mine", pictures(3, 20, 20, 3))
    (folder / "factors.csv").write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        open_any(folder)
    assert "factors.csv" in str(caught.value)


def test_numbered_pictures_need_to_be_told_apart(tmp_path: Path) -> None:
    """1.png, 10.png, 2.png: who writes the rows by hand means another order."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for number in (1, 2, 10):
        Image.fromarray(pictures(20, 20, 3)).save(folder / f"{number}.png")
    assert open_any(folder).num_images == 3  # nothing is to be told apart
    (folder / "factors.csv").write_text("a\n0\n1\n2\n")
    with pytest.raises(UserError, match=r"10.png.*column 'file'"):
        open_any(folder)
    (folder / "factors.csv").write_text("file,a\n1.png,0\n2.png,1\n10.png,2\n")
    assert open_any(folder).factors(np.arange(3))[:, 0].tolist() == [0, 2, 1]


def test_a_file_called_real_may_be_anything(tmp_path: Path) -> None:
    np.savez(tmp_path / "real.npz", images=pictures(12, 64, 64, 3), factor_sizes=np.array([4, 3]))
    dataset = open_any(tmp_path / "real.npz")
    assert (dataset.official, dataset.factor_sizes) == (False, (4, 3))


def test_a_name_beside_a_set_of_its_own_and_an_empty_folder(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=OK)
    with pytest.raises(UserError, match="leave one of them out"):
        open_any(tmp_path / "x.npz", "mpi3d_real")
    with pytest.raises(UserError, match="no file"):
        open_any(tmp_path / "y.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="mpi3d_real"):
        open_any(tmp_path / "empty")
