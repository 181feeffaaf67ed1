"""The kit's data sets against disentanglement_lib's own classes, on small files of their form."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from library_sets import (
    SIZES,
    Draws,
    all_factors,
    library_set,
    library_source,
    small_grids,
    write_matrix,
    write_set,
)
from scipy.io import savemat

from submission.data.kit import KIT_NAMES, open_kit
from submission.data.kit_readers import GRIDS
from submission.runtime.errors import UserError


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_grids(monkeypatch)
    monkeypatch.setenv("SUBMISSION_CACHE", str(tmp_path / "cache"))


def contents(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


@pytest.mark.parametrize("name", KIT_NAMES)
def test_images_and_factors_are_the_librarys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_set(tmp_path, name)
    library = library_set(name, tmp_path, monkeypatch)
    found = contents(open_kit(tmp_path, name))
    seen = found.get("observed", np.arange(len(SIZES[name])))
    factors = all_factors(name)
    assert found["factor_sizes"].tolist() == list(SIZES[name])
    if name == "dsprites_full":  # the library's answer there is the full sizes' only
        sizes = library.factor_sizes[1:].tolist()
    else:
        sizes = library.factors_num_values
    assert found["factor_sizes"][seen].tolist() == sizes
    assert library.num_factors == len(seen)
    assert found["images"].shape == (len(factors), *library.observation_shape)
    assert found["images"].dtype == np.uint8
    # What the library draws at random: dSprites' one colour, smallNORB's instances.
    drawn = Draws(factors[:, 1] if name == "smallnorb" else np.zeros(len(factors), np.int64))
    expected = library.sample_observations_from_factors(factors[:, seen], drawn) * 255
    assert np.abs(expected - np.rint(expected)).max() < 1e-3
    if name == "smallnorb":
        assert seen.tolist() == library.latent_factor_indices == [0, 2, 3, 4]
        assert expected.min() < 0 < 255 < expected.max()  # as it resizes
    np.testing.assert_array_equal(found["images"], np.rint(expected).clip(0, 255))


def test_the_full_sizes_are_the_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for name in KIT_NAMES:
        source, _, sizes = library_source(name)
        assert sizes in source
        ours = [*GRIDS[name].values()]
        assert sizes == str([1, *ours] if name == "dsprites_full" else ours)
        described = re.findall(r"^  \d - (.*) \((\d+) different values\)", source, re.MULTILINE)
        if name == "smallnorb":
            ours.pop(1)
        # The modules of several sets describe each; the first is the one.
        assert [int(size) for _, size in described[: len(ours)]] == ours


def test_3d_shapes_are_read_as_they_are_published(tmp_path: Path) -> None:
    (npz,) = write_set(tmp_path, "shapes3d")
    expected = contents(open_kit(tmp_path, "shapes3d"))
    with h5py.File(tmp_path / "3dshapes" / "3dshapes.h5", "w") as file:
        # Chunks as h5py's own guess has them for the full file: of many images, a part of each.
        images, chunks = expected["images"], (100, 4, 4, 1)
        file.create_dataset("images", data=images, chunks=chunks, compression="gzip")
        file.create_dataset("labels", data=np.zeros((len(images), 6)))
    npz.unlink()
    found = contents(open_kit(tmp_path, "shapes3d"))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)


def test_it_is_written_once_until_a_file_changes(tmp_path: Path) -> None:
    files = write_set(tmp_path, "smallnorb")
    first = open_kit(tmp_path, "smallnorb")
    written = first.stat().st_mtime_ns
    assert open_kit(tmp_path, "smallnorb") == first
    assert first.stat().st_mtime_ns == written
    os.utime(files[3], ns=(1, 1))
    assert open_kit(tmp_path, "smallnorb") != first


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    (path,) = write_set(tmp_path, "dsprites_full", metadata=Trap())
    assert len(contents(open_kit(tmp_path, "dsprites_full"))["images"]) == 144
    np.savez(path, imgs=np.array([Trap()] * 144, dtype=object))
    with pytest.raises(UserError, match="is pickled Python objects"):
        open_kit(tmp_path, "dsprites_full")
    assert not (tmp_path / "ran").exists()


def refused(folder: Path, name: str, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        open_kit(folder, name)
    said = str(caught.value)
    for word in words:
        assert word in said
    assert "\n" not in said
    assert not [*folder.glob("cache/sets/*")]  # nothing half-written


@pytest.mark.parametrize("name", KIT_NAMES)
def test_what_is_missing_is_named(tmp_path: Path, name: str) -> None:
    refused(
        tmp_path, name, f"no f{'older' if name == 'cars3d' else 'ile'} {tmp_path}/", f"data {name}`"
    )
    files = write_set(tmp_path, name)
    files[-1].unlink()
    refused(tmp_path, name, files[-1].name, f"`python -m submission data {name}`")


def test_packed_files_are_to_be_unpacked(tmp_path: Path) -> None:
    file = write_set(tmp_path, "smallnorb")[4]
    file.rename(f"{file}.gz")
    refused(tmp_path, "smallnorb", f"run `gunzip {file}.gz`")


@pytest.mark.parametrize("keep", [0, 3, 20, 0.5, -1])
@pytest.mark.parametrize("name", [*KIT_NAMES, "h5"])
def test_truncated_files(tmp_path: Path, name: str, keep: float) -> None:
    files = write_set(tmp_path, "shapes3d" if name == "h5" else name)
    if name == "h5":
        name, npz = "shapes3d", files[0]
        files = [npz.with_name("3dshapes.h5")]
        with np.load(npz) as archive, h5py.File(files[0], "w") as file:
            images = archive["images"].reshape(-1, 64, 64, 3)
            file.create_dataset("images", data=images, chunks=(100, 4, 4, 1), compression="gzip")
        npz.unlink()
    for file in (files[0], files[-1]):
        data = file.read_bytes()
        file.write_bytes(data[: int(len(data) * keep) if keep == 0.5 else int(keep)])
        refused(tmp_path, name, str(file), "download it again")
        file.write_bytes(data)


@pytest.mark.parametrize("name", ["dsprites_full", "shapes3d", "cars3d"])
def test_flipped_bits_in_compressed_pixels(tmp_path: Path, name: str) -> None:
    path = write_set(tmp_path, name)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(tmp_path, name, str(path), "truncated, corrupt")


def test_other_arrays_are_refused(tmp_path: Path) -> None:
    (dsprites,) = write_set(tmp_path, "dsprites_full")
    np.savez(dsprites, imgs=np.zeros((144, 64, 64, 1), np.uint8))
    must = "it must be uint8 (144, 64, 64)"
    refused(tmp_path, "dsprites_full", str(dsprites), "'imgs' is uint8 (144, 64, 64, 1)", must)
    np.savez(dsprites, imgs=np.zeros((144, 64, 64), np.float32))
    refused(tmp_path, "dsprites_full", "'imgs' is float32 (144, 64, 64)", must)
    np.savez(dsprites, imgs=np.asfortranarray(np.zeros((144, 64, 64), np.uint8)))
    refused(tmp_path, "dsprites_full", "in Fortran order", must)
    np.savez(dsprites, imgs=np.full((144, 64, 64), 2, np.uint8))
    refused(tmp_path, "dsprites_full", "other values than 0 and 1")
    np.savez(dsprites, images=np.zeros(3))
    refused(tmp_path, "dsprites_full", "no array 'imgs' (but 'images.npy')")
    dsprites.write_text("<!DOCTYPE html>")  # what GitHub answers without ?raw=true
    refused(tmp_path, "dsprites_full", "or another file: download it again")


def test_other_hdf5_files_are_refused(tmp_path: Path) -> None:
    (npz,) = write_set(tmp_path, "shapes3d")
    npz.unlink()
    path, count = npz.with_name("3dshapes.h5"), 144
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(count * 64 * 64 * 3))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = np.zeros((count, 64, 64, 3), np.uint8)

    def written(fill: Callable[[Any], None]) -> None:
        with h5py.File(path, "w") as file:
            fill(file)

    def set_link(file: Any) -> None:
        file["images"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "images")

    external = [(str(secret), 0, h5py.h5f.UNLIMITED)]
    shape = (count, 64, 64, 3)
    layout = h5py.VirtualLayout(shape, np.uint8)
    layout[...] = h5py.VirtualSource(tmp_path / "other.h5", "images", shape)
    fills: list[Callable[[Any], Any]] = [
        lambda file: None,
        set_link,
        lambda file: file.create_group("images"),
        lambda file: file.create_dataset("images", shape, np.uint8, external=external),
        lambda file: file.create_virtual_dataset("images", layout),
    ]
    for fill in fills:
        written(fill)
        refused(tmp_path, "shapes3d", f"{path} holds no array 'images' of its own")
    written(lambda file: file.create_dataset("images", (3, 64, 64, 3), np.uint8))
    refused(tmp_path, "shapes3d", "is uint8 (3, 64, 64, 3), it must be uint8 (144, 64, 64, 3)")


def test_other_cars_are_refused(tmp_path: Path) -> None:
    *_, last = write_set(tmp_path, "cars3d")
    must = "it must be uint8 (128, 128, 3, 3, 2)"
    for value, what in [
        (np.zeros((128, 128, 3, 3, 2)), "double (128, 128, 3, 3, 2)"),
        (np.zeros((64, 64, 3, 3, 2), np.uint8), "uint8 (64, 64, 3, 3, 2)"),
        ({"a": 1}, "struct (1, 1)"),
    ]:
        savemat(last, {"im": value})
        refused(tmp_path, "cars3d", str(last), f"'im' is {what}, {must}")
    savemat(last, {"mask": 1})
    refused(tmp_path, "cars3d", "'im' is not there")
    last.unlink()
    refused(tmp_path, "cars3d", "holds 3 .mat files (car_010_mesh.mat is missing), it must be 4")
    (last.parent / "list.txt").unlink()
    refused(tmp_path, "cars3d", "holds 3 .mat files, it must be 4")


def test_other_matrices_are_refused(tmp_path: Path) -> None:
    files = write_set(tmp_path, "smallnorb")
    info = np.fromfile(files[5], "<i4", offset=20).reshape(48, 4)
    azimuth = np.array([0, 0, 1, 0])
    for changed in (info[:, [1, 0, 2, 3]], info // 2, info + azimuth, info - 2 * azimuth):
        write_matrix(files[5], changed.astype("<i4"))
        refused(tmp_path, "smallnorb", "do not hold each combination of the factors once")
    write_matrix(files[5], info[:-1])
    refused(tmp_path, "smallnorb", f"{files[5]} holds int32 (47, 4), it must be int32 (48, 4)")
    files[5].write_bytes(files[1].read_bytes())
    refused(tmp_path, "smallnorb", f"{files[5]} holds int32 (48,), it must be int32 (48, 4)")
