"""Rendered stand-ins: the file format, the geometry of the images, and what is refused."""

import argparse
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from submission.commands.render import add_arguments, run
from submission.render.raycast import render
from submission.render.scene import parameters
from submission.render.stand_in import render_images, write_samples, write_stand_in
from submission.runtime.errors import UserError

WHITE, GREEN, RED = 0, 1, 2
SPHERE = 5


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complex stand-in with two values an axis: 4 * 4 * 2 * 3 * 3 * 2 * 2 = 1152 images."""
    return write_stand_in(tmp_path_factory.mktemp("small"), "complex", 2, seed=3, threads=1)


def pixel_of(point: np.ndarray) -> tuple[np.ndarray, float]:
    """Pinhole arithmetic for the real rig's center camera: pixel (x, y) and focal / depth.

    Camera at (.321, -1.244, 1.311), yaw -14, pitch down 37.5, roll .53 degrees, 98 px, with
    view direction (sin y cos p, cos y cos p, -sin p).
    """
    yaw, pitch, roll = math.radians(-14), math.radians(37.5), math.radians(0.53)
    forward = np.array(
        [math.sin(yaw) * math.cos(pitch), math.cos(yaw) * math.cos(pitch), -math.sin(pitch)]
    )
    level = np.array([math.cos(yaw), -math.sin(yaw), 0.0])
    above = np.cross(level, forward)
    right = math.cos(roll) * level + math.sin(roll) * above
    up = math.cos(roll) * above - math.sin(roll) * level
    ray = point - np.array([0.321, -1.244, 1.311])
    scale = 98.0 / (ray @ forward)
    return np.array([32.0 + scale * (ray @ right), 32.0 - scale * (ray @ up)]), scale


def object_centre(tilt: int, pan: int) -> np.ndarray:
    """The real rig's object centre: 4.6 degrees a step, arm .36 from a shoulder .048 aside."""
    phi, theta = math.radians((pan - 19.5) * 4.6), math.radians((tilt - 19.5) * 4.6 + 0.5)
    u = np.array([math.sin(phi), math.cos(phi), 0.0])
    w = np.array([math.cos(phi), -math.sin(phi), 0.0])
    up = np.array([0.0, 0.0, 1.0])
    return 0.333 * up - 0.048 * w + 0.36 * (math.sin(theta) * u + math.cos(theta) * up)


def changed_pixels(tilt: int, pan: int, shape: int) -> np.ndarray:
    """Where a white and a red object differ: (n, 2) pixel centres (x, y)."""
    looks = np.array([[colour, shape, 1, 1, 0, tilt, pan] for colour in (WHITE, RED)])
    white, red = render_images("real", looks).astype(int)
    rows, columns = np.nonzero(np.abs(white - red).max(axis=-1) > 20)
    return np.stack([columns, rows], axis=1) + 0.5


def test_the_poses_of_two_corners_by_hand() -> None:
    # tilt 0 and 39 at pan 39: theta -89.2 and 90.2 degrees, phi 89.7: the arm lies along -+x.
    assert object_centre(0, 39) == pytest.approx([-0.36, 0.046, 0.338], abs=0.004)
    assert object_centre(39, 39) == pytest.approx([0.36, 0.050, 0.332], abs=0.004)
    # and so the object is at the image's left and right
    assert changed_pixels(0, 39, SPHERE)[:, 0].mean() < 20
    assert changed_pixels(39, 39, SPHERE)[:, 0].mean() > 44


@pytest.mark.parametrize(
    ("tilt", "pan"), [(10, 5), (12, 39), (20, 20), (28, 12), (30, 33), (6, 22)]
)
def test_the_object_is_where_the_pinhole_camera_puts_it(tilt: int, pan: int) -> None:
    expected, _ = pixel_of(object_centre(tilt, pan))
    centroid = changed_pixels(tilt, pan, SPHERE).mean(axis=0)
    assert np.hypot(*(centroid - expected)) < 1.0


def test_the_colour_factor_changes_the_object_only() -> None:
    for shape in range(6):
        expected, scale = pixel_of(object_centre(10, 8))
        distance = np.hypot(*(changed_pixels(10, 8, shape) - expected).T)
        # no corner of a large object is farther than .145 from its centre; 2 px for the blur
        assert distance.max() < 0.145 * scale + 2.0
        assert len(distance) > 20


@pytest.mark.parametrize("domain", ["toy", "realistic", "real", "complex"])
def test_the_far_side_of_the_ring_has_the_named_colour(domain: str) -> None:
    names = np.array([[128, 0, 128], [46, 139, 87], [250, 128, 114]], float)  # as in CSS
    hues = names - names.mean(axis=1, keepdims=True)
    hues /= np.linalg.norm(hues, axis=1, keepdims=True)
    (x, y), _ = pixel_of(np.array([-0.05, 0.9, 0.0]))
    for background in range(3):
        look = np.array([[1, 1, 0, 1, background, 0, 39]])  # the object is out of the way
        image = render_images(domain, look)[0]
        patch = image[int(y) - 1 : int(y) + 2, int(x) - 2 : int(x) + 3]
        colour = patch.reshape(-1, 3).mean(axis=0)
        assert int(np.argmax(hues @ (colour - colour.mean()))) == background


def test_a_palette_leaves_an_object_few_colours() -> None:
    """The published animation of the real rig shows its red objects in 1 to 4 colours."""
    factors = np.array([[RED, shape, 1, 1, 0, 12, 39] for shape in range(6)])
    columns = parameters("real", factors)
    keys = np.arange(6, dtype=np.uint64)
    plain = render(columns, keys)
    columns["palette"][3:] = 160
    images = render(columns, keys)
    np.testing.assert_array_equal(images[:3], plain[:3])

    def red(image: np.ndarray) -> int:
        pixels = image[np.ptp(image.astype(int), axis=2) > 70]
        return len(np.unique(pixels, axis=0))

    assert min(red(image) for image in plain) > 30
    for image, full in zip(images[3:], plain[3:], strict=True):
        assert len(np.unique(image.reshape(-1, 3), axis=0)) <= 160
        assert 1 <= red(image) <= 9
        assert np.abs(image.astype(int) - full).mean() < 4  # the image is the same


def test_the_file_is_a_plain_npz_in_the_official_order(small: Path) -> None:
    assert small.parts[-2:] == ("mpi3d_real_complex", "mpi3d_real_complex.npz")
    with np.load(small, allow_pickle=False) as file:
        images = file["images"]
        assert file["factor_sizes"].tolist() == [4, 4, 2, 3, 3, 2, 2]
        assert file["factor_sizes"].dtype == np.int64
        assert "not MPI3D" in str(file["stand_in"])
        assert str(file["domain"]) == "complex"
        assert (int(file["seed"]), int(file["axis_steps"])) == (3, 2)
    assert images.dtype == np.uint8
    assert images.shape == (1152, 64, 64, 3)
    # Index of colour 2, shape 1, size 1, height 2, background 0, tilt at its 2nd, pan at its 1st:
    index = ((((2 * 4 + 1) * 2 + 1) * 3 + 2) * 3 + 0) * 4 + 1 * 2 + 0
    rendered = render_images("complex", np.array([[2, 1, 1, 2, 0, 39, 0]]), seed=3)
    assert np.array_equal(images[index], rendered[0])
    assert not np.array_equal(images[index], images[index - 1])


def test_the_bytes_depend_on_the_seed_and_not_on_the_threads(small: Path, tmp_path: Path) -> None:
    again = write_stand_in(tmp_path, "complex", 2, seed=3, threads=3)
    assert again.read_bytes() == small.read_bytes()
    write_stand_in(tmp_path, "complex", 2, seed=4)  # a stand-in may be overwritten
    assert again.read_bytes() != small.read_bytes()
    assert [p.name for p in again.parent.iterdir() if p.suffix != ".lock"] == [again.name]


def test_steps_of_an_axis_are_spread_over_the_whole_range(tmp_path: Path) -> None:
    path = write_stand_in(tmp_path, "complex", 3, seed=0)
    with np.load(path, allow_pickle=False) as file:
        images = file["images"]
    # The middle of 0..39 is 19.5; rounding to even gives 20.
    for place, index in enumerate([0, 20, 39]):
        rendered = render_images("complex", np.array([[0, 0, 0, 0, 0, 39, index]]))
        assert np.array_equal(images[2 * 3 + place], rendered[0])


def test_a_file_that_is_not_a_stand_in_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mpi3d_toy" / "mpi3d_toy.npz"
    path.parent.mkdir()
    np.savez(path, images=np.zeros((4, 64, 64, 3), np.uint8))
    whole = path.read_bytes()
    for before in (whole, whole[:100] + whole[-30:]):  # a zip's end, whose directory is gone
        path.write_bytes(before)
        with pytest.raises(UserError, match="is not a stand-in"):
            write_stand_in(tmp_path, "toy", 2, seed=0)
        assert path.read_bytes() == before


def test_a_picture_is_a_png_whatever_it_is_called(tmp_path: Path) -> None:
    write_samples(tmp_path / "sheet.xyz")
    assert (tmp_path / "sheet.xyz").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert os.listdir(tmp_path) == ["sheet.xyz"]


def test_a_full_disk_is_noticed_before_rendering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil._ntuple_diskusage(10**12, 10**12 - 10**9, 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    # 1,036,800 images of 12,288 bytes
    with pytest.raises(UserError, match=r"needs 12\.7 GB .* has 1\.0 GB free"):
        write_stand_in(tmp_path, "real", 40, seed=0)
    assert not list(tmp_path.rglob("*.npz*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--domain", "lego"], "Unknown domain 'lego'"),
        (["--axis-steps", "1"], "outside 2..40"),
        (["--axis-steps", "41"], "outside 2..40"),
        (["--seed", "-1", "--axis-steps", "2"], "Seed -1"),
        (["--threads", "0"], "--threads 0"),
        (["--out", "/dev/null/folder", "--axis-steps", "2"], "Cannot write"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(UserError, match=message):
        run(parser.parse_args(["--out", str(tmp_path), *arguments]))
    assert not list(tmp_path.rglob("*.npz*"))
