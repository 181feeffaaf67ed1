"""The probe's figures against made-up readings worked by hand, and its refusals."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from submission.commands.probe import add_arguments, run
from submission.data.dataset import open_file
from submission.features.weights import SHIPPED_WEIGHTS
from submission.finetuning.network import COMPLEX_SIZES, WIDE_SIZES, readable
from submission.finetuning.probe import (
    Reader,
    axes_as_tilt_and_pan,
    labelled_frames,
    labelled_sample,
    probe_frames,
)
from submission.finetuning.scores import scores, table
from submission.render.rig import FACTOR_NAMES
from submission.render.scene import factor_sizes, rig_of
from submission.runtime.errors import UserError

# Four images: colour, shape, size, height, background, tilt, pan.
TRUE = np.array(
    [
        [0, 0, 1, 0, 2, 10, 0],
        [0, 1, 1, 1, 2, 10, 0],
        [0, 1, 1, 2, 2, 20, 39],
        [5, 1, 0, 2, 2, 39, 19],
    ]
)
READ = np.array(
    [
        [0, 0, 1, 0, 2, 11, 0],
        [0, 1, 0, 1, 0, 10, 39],
        [1, 0, 1, 1, 2, 17, 38],
        [5, 1, 1, 2, 2, 39, 19],
    ]
)


def test_figures_by_hand() -> None:
    result = scores(READ, TRUE, range(7))
    # Colour 0: two of three right, colour 5: one of one. Three images of four show colour 0.
    assert result["object_color"] == {
        "mean_over_values": pytest.approx((2 / 3 + 1) / 2),
        "accuracy": 0.75,
        "constant_guess": 0.75,
    }
    assert result["object_shape"]["mean_over_values"] == pytest.approx((1 + 2 / 3) / 2)
    assert result["object_size"] == {
        "mean_over_values": pytest.approx((2 / 3 + 0) / 2),
        "accuracy": 0.5,
        "constant_guess": 0.75,
    }
    assert result["camera_height"]["mean_over_values"] == pytest.approx((1 + 1 + 1 / 2) / 3)
    assert result["background_color"]["constant_guess"] == 1
    # Errors 1, 0, 3, 0; the median of 10, 10, 20, 39 is 15.
    assert result["tilt"] == {
        "error": 1.0,
        "within_one_step": 0.75,
        "constant_guess": pytest.approx((5 + 5 + 5 + 24) / 4),
    }
    assert result["pan"]["error"] == pytest.approx((0 + 39 + 1 + 0) / 4)


def test_complex_objects_have_no_colour_and_shape() -> None:
    result = scores(READ, TRUE, readable(complex_objects=True, wide=False))
    assert "object_color" not in result
    assert "object_shape" not in result
    assert result["object_size"]["accuracy"] == 0.5


def test_arm_angle_by_hand() -> None:
    """One step of tilt turns the arm by one step; one step of pan by less the more upright it is;
    half a turn of pan with the tilt mirrored is nearly the same direction."""
    step = rig_of("real").tilt_step
    angles = []
    for read, true in [
        ((25, 7), (24, 7)),
        ((39, 20), (39, 19)),
        ((19, 20), (19, 19)),
        ((30, 39), (9, 0)),
    ]:
        pair = [np.array([[0, 0, 0, 0, 0, *axes]]) for axes in (read, true)]
        angles.append(scores(pair[0], pair[1], range(2, 7))["arm"]["median_angle"])
    lean = np.radians(19.5 * step + rig_of("real").tilt_zero)
    pan = np.radians(rig_of("real").pan_step)
    chord = 2 * np.sin(lean) * np.sin(pan / 2)
    assert angles[0] == pytest.approx(step, abs=1e-5)
    assert angles[1] == pytest.approx(np.degrees(2 * np.arcsin(chord / 2)), abs=1e-5)
    assert angles[2] < 0.5  # nearly upright
    assert angles[3] < 2  # 39 steps of pan are 179 degrees, and the tilt's zero is half a degree


def test_the_axes_of_a_real_file_are_taken_in_the_order_that_fits(tmp_path: Path) -> None:
    images = np.zeros((4, 64, 64, 3), np.uint8)
    np.savez(tmp_path / "x.npz", images=images, factor_sizes=np.array([1, 1, 1, 1, 1, 2, 2]))
    np.savez(
        tmp_path / "y.npz",
        images=images,
        factor_sizes=np.array([1, 1, 1, 1, 1, 2, 2]),
        stand_in="!",
    )
    swapped = TRUE[:, [0, 1, 2, 3, 4, 6, 5]]
    real = open_file(tmp_path / "x.npz", "mpi3d_real_complex")
    for labels in (TRUE, swapped):
        ordered, note = axes_as_tilt_and_pan(real, READ, labels)
        assert np.array_equal(ordered, TRUE)
        assert note.startswith("horizontal" if labels is TRUE else "vertical")
    for dataset in (
        open_file(tmp_path / "x.npz", "mpi3d_toy"),
        open_file(tmp_path / "y.npz", "mpi3d_real"),
    ):
        assert np.array_equal(axes_as_tilt_and_pan(dataset, READ, swapped)[0], swapped)


def test_a_sample_keeps_images_and_factors_together(tmp_path: Path) -> None:
    """Each image holds its own row number; a thinned axis counts as the whole one's values."""
    sizes = (4, 4, 2, 3, 3, 1, 2)
    images = np.zeros((576, 64, 64, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.divmod(np.arange(576), 256)
    for save, name in ((np.savez, "stored"), (np.savez_compressed, "compressed")):
        save(tmp_path / f"{name}.npz", images=images, factor_sizes=np.array(sizes), stand_in="!")
        dataset = open_file(tmp_path / f"{name}.npz", "mpi3d_real_complex")
        sample, factors = labelled_sample(dataset, 50)
        assert len(sample) == 50
        rows = sample[:, 0, 0, 0].astype(int) * 256 + sample[:, 0, 0, 1]
        expected = np.stack(np.unravel_index(rows, sizes), axis=1)
        expected[:, 6] *= 39
        assert np.array_equal(factors, expected)
    with pytest.raises(UserError, match="today's release"):
        labelled_sample(open_file(tmp_path / "stored.npz", "mpi3d_toy"), 50)


BAD_FRAMES = {
    "no factors": ({"images": np.zeros((2, 64, 64, 3), np.uint8)}, "factors"),
    "no images": ({"factors": TRUE}, "images"),
    "float images": ({"images": np.zeros((4, 64, 64, 3)), "factors": TRUE}, "must be uint8"),
    "other number": ({"images": np.zeros((3, 64, 64, 3), np.uint8), "factors": TRUE}, "(3, 7)"),
    "out of range": ({"images": np.zeros((4, 64, 64, 3), np.uint8), "factors": TRUE + 1}, "within"),
    "pickle": (
        {"images": np.zeros((4, 64, 64, 3), np.uint8), "factors": TRUE.astype(object)},
        "plain arrays",
    ),
}


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_wrong_frames_are_refused(tmp_path: Path, case: str) -> None:
    arrays, message = BAD_FRAMES[case]
    np.savez(tmp_path / "frames.npz", allow_pickle=True, **arrays)
    with pytest.raises(UserError) as refusal:
        labelled_frames(tmp_path / "frames.npz", complex_objects=False)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_missing_and_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        labelled_frames(tmp_path / "none.npz", complex_objects=False)
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(UserError, match="plain arrays"):
        labelled_frames(tmp_path / "text.npz", complex_objects=False)
    np.save(tmp_path / "images.npy", np.zeros((4, 64, 64, 3), np.uint8))
    with pytest.raises(UserError, match="plain arrays"):
        labelled_frames(tmp_path / "images.npy", complex_objects=False)
    np.savez(tmp_path / "x.npz", images=np.zeros((4, 64, 64, 3), np.uint8), factors=TRUE)
    with pytest.raises(UserError, match="--complex"):  # colour 5 of complex objects
        labelled_frames(tmp_path / "x.npz", complex_objects=True)


def test_command_reads_what_the_heads_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Heads that answer by their bias alone: every image is read as those values."""
    import torch

    answer = [3, 1, 1, 2, 0, 10, 20]
    sizes = factor_sizes("real")
    tensors = {}
    for i, size in enumerate(sizes):
        tensors[f"heads.{i}.weight"] = torch.zeros(size, 512)
        tensors[f"heads.{i}.bias"] = (
            torch.nn.functional.one_hot(torch.tensor(answer[i]), size) * 1.0
        )
    save_file(tensors, tmp_path / "heads.safetensors", {"head_scale": "1.0"})
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    factors = np.array([answer, [3, 0, 1, 2, 1, 12, 20]])
    np.savez(tmp_path / "frames.npz", images=images, factors=factors, gif=np.array(["a", "b"]))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    command = [
        "--frames",
        tmp_path / "frames.npz",
        "--heads",
        tmp_path / "heads.safetensors",
        "--picture",
        tmp_path / "confusion.png",
        "--device",
        "cpu",
    ]
    run(parser.parse_args([*map(str, command), "--json"]))
    found = json.loads(capsys.readouterr().out)["scores"]
    right = {name: found[name]["accuracy"] for name in FACTOR_NAMES[:5]}
    assert list(right.values()) == [1, 0.5, 1, 1, 0.5]
    assert found["tilt"]["error"] == 1
    assert found["pan"]["error"] == 0
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    lines = table(found).splitlines()
    assert next(line for line in lines if line.startswith("object_shape")).split()[1:] == [
        "50.0%",
        "50.0%",
        "50.0%",
    ]


def test_the_extractors_file_is_no_heads_file(tmp_path: Path) -> None:
    from submission.finetuning.weights import read_heads

    with pytest.raises(UserError, match=r"no heads file .* --heads"):
        read_heads(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="no heads of this project"):
        read_heads(SHIPPED_WEIGHTS)
    save_file(load_file(SHIPPED_WEIGHTS), tmp_path / "x.safetensors", {"head_scale": "1.0"})
    with pytest.raises(UserError, match=r"heads\.0\.weight"):
        read_heads(tmp_path / "x.safetensors")


def test_wide_heads_read_complex_objects_in_full(tmp_path: Path) -> None:
    """Heads whose weights are 0 answer what their biases say: a complex set's yellow croissant is
    known to them as colour 6 and shape 8."""
    biases = [np.zeros(size, np.float32) for size in WIDE_SIZES]
    for bias, value in zip(biases, (6, 8, 1, 2, 0, 12, 30), strict=True):
        bias[value] = 1
    tensors = {f"heads.{i}.bias": torch.from_numpy(bias) for i, bias in enumerate(biases)}
    tensors |= {f"heads.{i}.weight": torch.zeros(n, 512) for i, n in enumerate(WIDE_SIZES)}
    heads = tmp_path / "heads.safetensors"
    save_file(tensors, heads, {"head_scale": "1.0"})
    frames = tmp_path / "frames.npz"
    # In the complex set's own order colour 0 is yellow and shape 2 the croissant.
    factors = np.array([(0, 2, 1, 2, 0, 12, 30), (1, 2, 1, 2, 0, 12, 30)])
    assert np.all(factors < COMPLEX_SIZES)
    np.savez(frames, images=np.zeros((2, 64, 64, 3), np.uint8), factors=factors)
    reader = Reader(SHIPPED_WEIGHTS, heads, torch.device("cpu"))
    found = json.loads(probe_frames(frames, True, reader).as_json())["scores"]
    assert found["object_shape"]["accuracy"] == 1
    assert found["object_color"]["accuracy"] == 0.5
    assert found["object_size"]["accuracy"] == found["camera_height"]["accuracy"] == 1
