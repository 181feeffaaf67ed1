"""Data files written by numpy's own writers, and damaged ones."""

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from patches import sparse_official_file

from submission.data.dataset import find_file, md5_warning, open_dataset, open_file, verify
from submission.data.factors import SIZES_BY_COUNT
from submission.data.own import open_own
from submission.runtime.errors import UserError

SIZES = (3, 2, 2, 1, 1, 2, 2)
COUNT = 48


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("start", [0, 7, 16, 47])
def test_batches_are_the_images_in_order(
    tmp_path: Path, images: np.ndarray, writer: Callable[..., None], start: int
) -> None:
    path = tmp_path / "x.npz"
    writer(path, images=images, factor_sizes=np.array(SIZES))
    dataset = open_file(path, "mpi3d_toy")
    assert dataset.factor_sizes == SIZES
    batches = list(dataset.batches(10, start))
    assert all(len(batch) <= 10 for batch in batches)
    np.testing.assert_array_equal(np.concatenate(batches), images[start:])
    assert verify(dataset, progress=False) == hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_single_images_and_their_factors(
    tmp_path: Path, images: np.ndarray, writer: Callable[..., None]
) -> None:
    writer(tmp_path / "x.npz", images=images, factor_sizes=np.array(SIZES))
    dataset = open_file(tmp_path / "x.npz", "mpi3d_toy")
    rows = np.array([0, 7, 47])
    np.testing.assert_array_equal(dataset.images_at(rows), images[rows])
    # 7 = ((0 * 2 + 0) * 2 + 1) * 4 + 1 * 2 + 1; the last factor is the fastest.
    expected = [[0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 1, 1], [2, 1, 1, 0, 0, 1, 1]]
    assert dataset.factors(rows).tolist() == expected


def test_stored_member_is_mapped_in_place(tmp_path: Path, images: np.ndarray) -> None:
    np.savez(tmp_path / "x.npz", a=np.arange(5), images=images, factor_sizes=np.array(SIZES))
    dataset = open_file(tmp_path / "x.npz", "mpi3d_toy")
    mapped = dataset.array()
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped[[5, 2, 5]], images[[5, 2, 5]])
    np.savez_compressed(tmp_path / "y.npz", images=images, factor_sizes=np.array(SIZES))
    with pytest.raises(UserError, match="compressed"):
        open_file(tmp_path / "y.npz", "mpi3d_toy").array()


@pytest.mark.parametrize(("count", "sizes"), list(SIZES_BY_COUNT.items()))
def test_official_sizes_follow_from_the_image_count(
    tmp_path: Path, count: int, sizes: tuple[int, ...]
) -> None:
    # disentanglement_lib 1.5 says 4 x 4 colours and shapes for toy whatever the file holds.
    path = tmp_path / "mpi3d_toy.npz"
    sparse_official_file(path, count)
    dataset = open_file(path, "mpi3d_toy")
    assert dataset.num_images == count == np.prod(sizes)
    assert dataset.factor_sizes == sizes
    assert dataset.stand_in is None
    assert dataset.array()[count - 1].shape == (64, 64, 3)
    assert "2019" in (md5_warning(dataset, "0" * 32) or "")
    assert md5_warning(dataset, "55889cb7c7dfc655d6e0277beee88868") is None


@pytest.mark.parametrize(
    "place",
    [
        "mpi3d_real_complex/mpi3d_real_complex.npz",
        "mpi3d_real_complex/real3d_complicated_shapes_ordered.npz",
        "real3d_complicated_shapes_ordered/real3d_complicated_shapes_ordered.npz",
    ],
)
def test_complex_is_found_under_both_names(tmp_path: Path, images: np.ndarray, place: str) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    np.savez(tmp_path / place, images=images, factor_sizes=np.array(SIZES))
    for name in ("mpi3d_real_complex", "real3d_complicated_shapes_ordered"):
        assert find_file(tmp_path, name) == ("mpi3d_real_complex", tmp_path / place)
        assert open_dataset(tmp_path, name).name == "mpi3d_real_complex"


def flip_byte(path: Path, offset: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 255
    path.write_bytes(raw)


def save_npy(path: Path, images: np.ndarray, end: int | None = None) -> None:
    with open(path, "wb") as file:
        np.save(file, images)
    path.write_bytes(path.read_bytes()[:end])


def of_method(path: Path, images: np.ndarray, method: int) -> None:
    """An archive that says of its member that another program's method has compressed it."""
    np.savez(path, images=images)
    raw = bytearray(path.read_bytes())
    for place in (8, raw.rindex(b"PK\x01\x02") + 10):  # the member's header, the directory's
        raw[place : place + 2] = method.to_bytes(2, "little")
    path.write_bytes(raw)


BAD: dict[str, tuple[Callable[[Path, np.ndarray], object], str]] = {
    "no images": (lambda p, x: np.savez(p, pictures=x), "no array 'images'"),
    "float": (lambda p, x: np.savez(p, images=x[:2].astype("f4")), "must be uint8"),
    "grey": (lambda p, x: np.savez(p, images=x[..., 0]), "must be .num_images, 64, 64, 3."),
    "other size": (lambda p, x: np.savez(p, images=x[:, :32]), "64, 64, 3"),
    "empty": (lambda p, x: np.savez(p, images=x[:0]), r"shape .0, 64, 64, 3."),
    "fortran": (lambda p, x: np.savez(p, images=np.asfortranarray(x)), "C order"),
    "unknown count": (lambda p, x: np.savez(p, images=x), "holds 48 images"),
    "pickled": (lambda p, x: np.savez(p, images=np.array([{}], dtype=object)), "uint8"),
    "wrong sizes": (lambda p, x: np.savez(p, images=x, factor_sizes=[2] * 7), "product"),
    "six sizes": (lambda p, x: np.savez(p, images=x, factor_sizes=[48, 1, 1, 1, 1, 1]), "seven"),
    "negative": (lambda p, x: np.savez(p, images=x, factor_sizes=[-48, -1] + [1] * 5), "seven"),
    "float sizes": (lambda p, x: np.savez(p, images=x, factor_sizes=[4.5] * 7), "seven"),
    "text": (lambda p, x: p.write_text("not an archive"), "neither an npz nor an npy file"),
    "gzip": (lambda p, x: p.write_bytes(gzip.compress(b"x")), "neither an npz nor an npy file"),
    "nothing": (lambda p, x: p.write_bytes(b""), "truncated or corrupt"),
    "positional": (lambda p, x: np.savez(p, x), r"'arr_0.npy'.*numpy.savez.FILE, images="),
    "npy": (lambda p, x: save_npy(p, x), "holds 48 images"),
    "floats in an npy": (lambda p, x: save_npy(p, x / 255), "must be uint8"),
    "npy cut short": (lambda p, x: save_npy(p, x, -1), "truncated or corrupt"),
    "deflate64": (lambda p, x: of_method(p, x, 9), "zip that Python cannot read.*numpy.savez"),
    "Zstandard": (lambda p, x: of_method(p, x, 93), "zip that Python cannot read.*numpy.savez"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_file_is_refused_in_one_sentence(
    tmp_path: Path, images: np.ndarray, case: str
) -> None:
    write, message = BAD[case]
    path = tmp_path / "x.npz"
    write(path, images)
    with pytest.raises(UserError, match=message) as refusal:
        open_file(path, "mpi3d_toy")
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.999])
def test_a_truncated_file_is_refused(
    tmp_path: Path, images: np.ndarray, writer: Callable[..., None], keep: float
) -> None:
    path = tmp_path / "x.npz"
    writer(path, images=images, factor_sizes=np.array(SIZES))
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])
    with pytest.raises(UserError, match="truncated or corrupt"):
        open_file(path, "mpi3d_toy")


def test_a_bare_array_is_read(tmp_path: Path, images: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", images)
    dataset = open_own(tmp_path / "x.npy")
    assert (dataset.num_images, dataset.factor_sizes, dataset.stand_in) == (COUNT, (), None)
    np.testing.assert_array_equal(np.concatenate(list(dataset.batches(10, 7))), images[7:])
    np.testing.assert_array_equal(dataset.array(), images)
    raw = (tmp_path / "x.npy").read_bytes()
    assert verify(dataset, progress=False) == hashlib.md5(raw).hexdigest()


def test_a_damaged_image_is_noticed(tmp_path: Path, images: np.ndarray) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, images=images, factor_sizes=np.array(SIZES))
    flip_byte(path, 100_000)
    with pytest.raises(UserError, match="truncated or corrupt"):
        verify(open_file(path, "mpi3d_toy"), progress=False)
    np.savez_compressed(path, images=images, factor_sizes=np.array(SIZES))
    flip_byte(path, 100_000)
    with pytest.raises(UserError, match="truncated or corrupt"):
        list(open_file(path, "mpi3d_toy").batches(10))


def test_missing_and_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mpi3d_real/mpi3d_real\.npz"):
        open_dataset(tmp_path, "mpi3d_real")
    with pytest.raises(UserError, match="unknown data set 'dsprites'"):
        open_dataset(tmp_path, "dsprites")


@pytest.mark.parametrize(
    "place", ["mpi3d_real/real.npz", "real.npz", "mpi3d_real.npz", "real/mpi3d_real.npz"]
)
def test_a_file_is_found_under_the_names_by_which_people_hold_it(
    tmp_path: Path, images: np.ndarray, place: str
) -> None:
    """`real.npz` is the host's own name of mpi3d_real."""
    (tmp_path / place).parent.mkdir(exist_ok=True)
    np.savez(tmp_path / place, images=images, factor_sizes=np.array(SIZES))
    dataset = open_dataset(tmp_path, "mpi3d_real")
    assert (dataset.name, dataset.path) == ("mpi3d_real", tmp_path / place)


def test_a_missing_file_is_answered_with_what_lies_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no npz file in that folder"):
        open_dataset(tmp_path / "mistyped", "mpi3d_toy")
    (tmp_path / "Toy").mkdir()
    np.savez(tmp_path / "Toy" / "toy.npz", images=np.zeros(3))
    with pytest.raises(UserError, match=r"but 'Toy/toy\.npz' in that folder"):
        open_dataset(tmp_path, "mpi3d_toy")
