"""Files of codes: what a user's npz or CSV says, and what is wrong with it."""

from pathlib import Path

import numpy as np
import pytest

from submission.data.code_files import read_codes
from submission.runtime.errors import UserError

HEADER = "z0,z1,factor_size,factor_hue\n"


def test_an_npz_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    codes, factors = np.arange(8, dtype=np.int16).reshape(4, 2), np.eye(4, 3)
    names = np.array(["size", "hue", "x"])
    np.savez_compressed(
        tmp_path / "c.npz", codes=codes, factors=factors, factor_names=names, other=np.zeros(9)
    )
    read = read_codes(tmp_path / "c.npz")
    np.testing.assert_array_equal(read.codes, codes)
    assert read.codes.dtype == np.int16
    assert read.factors is not None
    np.testing.assert_array_equal(read.factors, factors)
    assert read.factor_names == ("size", "hue", "x")
    assert read.factor_sizes is None


def test_a_csv_files_columns_are_told_apart_by_their_names(tmp_path: Path) -> None:
    # As a spreadsheet writes it: a mark at the beginning, spaces, an empty line at the end.
    text = "\ufeffz0, factor_size ,z1,factor_hue\r\n0.5,3,-1e-2,0\r\n1,4,7,1\r\n\r\n"
    (tmp_path / "c.csv").write_text(text, encoding="utf-8")
    read = read_codes(tmp_path / "c.csv")
    np.testing.assert_array_equal(read.codes, [[0.5, -0.01], [1, 7]])
    assert read.factors is not None
    np.testing.assert_array_equal(read.factors, [[3, 0], [4, 1]])
    assert read.factor_names == ("size", "hue")


def test_factors_come_from_a_file_of_their_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", codes=np.ones((2, 3)), factor_sizes=np.array([2, 1]))
    (tmp_path / "f.csv").write_text("size,factor_hue\n3,0\n4,1\n")
    read = read_codes(tmp_path / "c.npz", tmp_path / "f.csv")
    assert read.factors is not None
    np.testing.assert_array_equal(read.factors, [[3, 0], [4, 1]])
    assert read.factor_names == ("size", "hue")
    assert read.factor_sizes is None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.npy", b"", "neither .npz nor .csv"),
        ("c.npz", b"<html></html>", "no npz archive"),
        ("c.npz", b"", "no npz archive"),
        ("c.csv", b"", "no header"),
        ("c.csv", b"1,2,3\n4,5,6\n", "no header"),
        ("c.csv", HEADER.encode(), "no rows"),
        ("c.csv", HEADER.encode() + b"1,2,3\n", ":2 has 3 columns, but the header has 4"),
        ("c.csv", HEADER.encode() + b"1,2,3,4\n1,,3,4\n", ":3: the column 'z1' holds '', which"),
        ("c.csv", HEADER.encode() + b"1,2,3,red\n", "the column 'factor_hue' holds 'red'"),
        ("c.csv", b"z,z\n1,2\n", "two columns 'z'"),
        ("c.csv", b"\x89PNG\r\n\x1a\n\xff\xfe", "no CSV text"),
        ("c.csv", b'z,"' + b"x" * 200_000, "no CSV text"),
    ],
)
def test_other_files_are_refused_in_a_sentence(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        read_codes(tmp_path / name)
    assert name in str(caught.value)
    assert str(caught.value).isprintable()


def test_objects_are_not_unpickled_and_other_arrays_are_named(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    ran: list[int] = []

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[int]]:
            return ran.append, (1,)

    np.savez(path, codes=np.ones((2, 2)), factors=np.array([Evil()], dtype=object))
    with pytest.raises(UserError, match="'factors' is pickled"):
        read_codes(path)
    assert ran == []
    np.savez(path, allow_pickle=True, z=np.ones((2, 2)), **{"\x1b[2J": np.ones(1)})
    with pytest.raises(UserError, match="no array 'codes'") as caught:
        read_codes(path)
    assert "'z'" in str(caught.value)
    assert str(caught.value).isprintable()
    path.write_bytes(path.read_bytes()[:-90])
    with pytest.raises(UserError, match="damaged"):
        read_codes(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="no file"):
        read_codes(path)
