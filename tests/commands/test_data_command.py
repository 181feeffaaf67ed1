"""`data`: what is known of each data set, and whether what lies there is whole."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from library_sets import SIZES, small_grids, write_set
from patches import write_patches

from submission.__main__ import main
from submission.data import catalogue
from submission.data.dataset import FILE_NAMES
from submission.data.kit import KIT_NAMES


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_grids(monkeypatch)
    monkeypatch.setenv("DISENTANGLEMENT_LIB_DATA", str(tmp_path / "sets"))
    monkeypatch.setenv("SUBMISSION_CACHE", str(tmp_path / "cache"))
    (tmp_path / "sets").mkdir()


def ended(*names: str) -> int | str:
    """The exit code, or what a failure says in its place (which makes it 1)."""
    try:
        return main(["data", *names])
    except SystemExit as end:
        return str(end.code)


def test_each_set_is_described_and_none_is_there(capfd: pytest.CaptureFixture[str]) -> None:
    assert ended() == 0
    blocks = capfd.readouterr().out.strip().split("\n\n")
    names = [block.partition(":")[0] for block in blocks]
    assert names == [*FILE_NAMES, *KIT_NAMES]
    for block in blocks:
        keys = [line[2:11].strip() for line in block.splitlines()[1:]]
        assert [key for key in keys if key] == [
            *("from", "licence", "size", "checksum", "goes to", "there")
        ]
        assert "- nothing in " in block.splitlines()[-1]


def test_the_librarys_own_download_script_has_the_same_addresses() -> None:
    script = (Path(sys.executable).parent / "dlib_download_data").read_text()
    for name in ("cars3d", "smallnorb"):
        assert catalogue.ENTRIES[name].source in script
    for line in catalogue.ENTRIES["smallnorb"].checksums:
        assert f"{catalogue.ENTRIES['smallnorb'].source}{line.split()[-1]}" in script


@pytest.mark.parametrize("name", KIT_NAMES)
def test_a_set_that_lies_there_is_read_to_its_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = write_set(tmp_path / "sets", name)[0]
    assert ended(name) == 0
    said = capfd.readouterr().out
    assert f"✓ {file}" in said or f"files in {file.parent}" in said
    assert f"whole: {np.prod(SIZES[name]):,} images" in said
    assert not (tmp_path / "cache").exists()
    data = bytearray(file.read_bytes())
    if name == "dsprites_full":
        assert f"its md5 is {hashlib.md5(data).hexdigest()}, the known one 7da33b31" in said
        monkeypatch.setitem(catalogue._MD5, name, hashlib.md5(data).hexdigest())
        assert ended(name) == 0
        assert f"{file} is whole: its md5 is the known one" in capfd.readouterr().out
    if name == "smallnorb":
        file.write_bytes(data[:-1])
    else:
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    assert ended(name, "mpi3d_toy") == f"not whole: {name}"
    assert f"✗ {file} is truncated, corrupt or another file" in capfd.readouterr().out
    file.unlink()
    if name in ("cars3d", "smallnorb"):  # others of its files are there
        assert ended(name) == f"not whole: {name}"
    else:
        assert ended(name) == 0


def test_mpi3d_files(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_patches(tmp_path / "sets", (2, 2, 1, 1, 1, 2, 2))
    file = tmp_path / "sets" / "mpi3d_real" / "mpi3d_real.npz"
    assert ended("mpi3d_real") == 0
    assert "to its end: STAND-IN for mpi3d_real" in capfd.readouterr().out
    data = bytearray(file.read_bytes())
    monkeypatch.setitem(catalogue.KNOWN_MD5, "mpi3d_real", hashlib.md5(data).hexdigest())
    assert ended("mpi3d_real") == 0
    assert f"{file} is whole: its md5 is the known one" in capfd.readouterr().out
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert ended("mpi3d_real") == "not whole: mpi3d_real"
    # A compressed file's damage shows where its pixels are unpacked.
    np.savez_compressed(
        file,
        images=np.random.default_rng(0).integers(0, 9, (16, 64, 64, 3), np.uint8),
        factor_sizes=np.array((2, 2, 1, 1, 1, 2, 2)),
    )
    assert ended("mpi3d_real") == 0
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert ended("mpi3d_real") == "not whole: mpi3d_real"


def test_another_name(capfd: pytest.CaptureFixture[str]) -> None:
    assert ended("celeba") == 2
    assert "unknown data set 'celeba': the names are mpi3d_toy," in capfd.readouterr().err
