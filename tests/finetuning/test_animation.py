"""Animations as disentanglement_lib writes them: read panel by panel, and their labels inferred."""

import argparse
import ast
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from submission.commands.probe import add_arguments, run
from submission.finetuning import animation
from submission.finetuning.animation import PANELS
from submission.finetuning.network import named_values
from submission.finetuning.probe import on_own_panel
from submission.render.stand_in import render_images
from submission.runtime.errors import UserError

SIZES = (6, 6, 2, 3, 3, 40, 40)
START = (2, 4, 1, 1, 0, 30, 7)


@pytest.fixture(scope="module")
def library() -> dict[str, Callable[..., Any]]:
    """disentanglement_lib's own functions; its module needs TensorFlow 1, these do not."""
    spec = importlib.util.find_spec("disentanglement_lib")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    file = Path(spec.submodule_search_locations[0]) / "visualize" / "visualize_util.py"
    found: dict[str, Any] = {"np": np}
    wanted = {
        "padded_grid",
        "padded_stack",
        "padding_array",
        "best_num_rows",
        "pad_around",
        "cycle_factor",
    }
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name in wanted:
            exec(compile(ast.Module([node], []), str(file), "exec"), found)
    return found


def factors_of(
    library: dict[str, Callable[..., Any]], moves: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
) -> np.ndarray:
    """(20 frames, 7 panels, 7): panel k cycles through factor moves[k]."""
    factors = np.tile(np.array(START), (20, PANELS, 1))
    for panel, factor in enumerate(moves):
        factors[:, panel, factor] = library["cycle_factor"](START[factor], SIZES[factor], 20)
    return factors


def write_gif(library: dict[str, Callable[..., Any]], panels: np.ndarray, path: Path) -> None:
    frames = [
        Image.fromarray(library["pad_around"](library["padded_grid"](list(frame))))
        for frame in panels
    ]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, loop=0)


@pytest.mark.parametrize("values", [2, 3, 4, 6, 40])
@pytest.mark.parametrize("frames", [13, 20])
def test_a_course_is_the_librarys_cycle(
    library: dict[str, Callable[..., Any]], values: int, frames: int
) -> None:
    for start in range(values):
        np.testing.assert_array_equal(
            animation.course(start, values, frames), library["cycle_factor"](start, values, frames)
        )


@pytest.mark.parametrize("moves", [(0, 1, 2, 3, 4, 5, 6), (0, 1, 2, 3, 4, 6, 5)])
def test_labels_are_found_through_wrong_readings(
    library: dict[str, Callable[..., Any]], moves: tuple[int, ...]
) -> None:
    true = factors_of(library, moves)
    generator = np.random.default_rng(1)
    read = true.copy()
    for factor, size in enumerate(SIZES):
        wrong = generator.random(read.shape[:2]) < 0.3
        read[..., factor][wrong] = generator.integers(0, size, wrong.sum())
    found = animation.inferred_labels(read, named_values(False, wide=False))
    np.testing.assert_array_equal(found.factors, true)
    assert found.moves == moves
    # By hand: of panel 2's values (small, large) the share that was read right, averaged.
    r, t = read[:, 2, 2], true[:, 2, 2]
    expected = ((r[t == 0] == 0).mean() + (r[t == 1] == 1).mean()) / 2
    own = on_own_panel(read, found, range(7))
    assert own["object_size"]["mean_over_values"] == expected
    # Tilt is column 5 and pan column 6, whichever of the last two panels moves it.
    for name, factor in (("tilt", 5), ("pan", 6)):
        panel = moves.index(factor)
        steps = np.abs(read[:, panel, factor] - true[:, panel, factor])
        assert own[name]["error"] == steps.mean()


def test_the_real_animations_take_the_values_in_their_own_order() -> None:
    """The shapes that the published animation of the real rig shows, frame by frame."""
    shapes = [0, 0, 4, 4, 5, 5, 1, 3, 3, 2, 2, 2, 3, 3, 1, 1, 5, 4, 4, 0]
    read = np.tile(np.array((2, 0, 1, 1, 0, 12, 39)), (20, PANELS, 1))
    read[:, 0, 0] = [2, 1, 3, 3, 0, 0, 5, 4, 4, 4, 4, 5, 0, 0, 3, 3, 1, 2, 2, 2]
    read[:, 1, 1] = shapes
    found = animation.inferred_labels(read, named_values(False, wide=False))
    assert found.factors[:, 1, 1].tolist() == shapes
    assert found.factors[:, 0, 1].tolist() == [0] * 20


@pytest.mark.parametrize("cut", [0, 4])
def test_an_animation_with_fewer_pixels_above_is_read(
    library: dict[str, Callable[..., Any]], tmp_path: Path, cut: int
) -> None:
    """Some published ones have 306x154 pixels: 6 above the first row in place of 10."""
    grey = np.random.default_rng(0).permutation(3 * PANELS).reshape(3, PANELS) * 12
    panels = np.broadcast_to(grey[..., None, None, None], (3, PANELS, 64, 64, 3)).astype(np.uint8)
    write_gif(library, panels, tmp_path / "whole.gif")
    with Image.open(tmp_path / "whole.gif") as whole:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(whole)]
    size = frames[0].size
    frames = [frame.crop((0, cut, *size)) for frame in frames]
    assert frames[0].size == (306, 158 - cut)
    frames[0].save(tmp_path / "cut.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(animation.read_animation(tmp_path / "cut.gif"), panels)


@pytest.mark.slow
@pytest.mark.parametrize("moves", [(0, 1, 2, 3, 4, 5, 6), (0, 1, 2, 3, 4, 6, 5)])
def test_a_gif_of_renders_is_read(
    library: dict[str, Callable[..., Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    moves: tuple[int, ...],
) -> None:
    """The last two panels move tilt and pan, or, as in some published ones, pan and tilt."""
    true = factors_of(library, moves)
    images = render_images("real", true.reshape(-1, 7)).reshape(20, PANELS, 64, 64, 3)
    path = tmp_path / "animation.gif"
    write_gif(library, images, path)
    read = animation.read_animation(path)
    assert read.shape == images.shape
    # A palette of 256 colours for each frame moves grey levels a little, a wrong cut would a lot.
    assert np.abs(read.astype(int) - images).mean() < 6

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    run(parser.parse_args(["--gif", str(path)]))
    printed = capsys.readouterr().out
    assert "tilt 30, pan 7: look whether that is so" in " ".join(printed.split())
    own = printed[printed.index("on the panel that moves") :]
    errors = {
        line.split()[0]: float(line.split()[1]) for line in own.splitlines() if "step" in line
    }
    assert errors.keys() == {"tilt", "pan"}
    assert max(errors.values()) < 2, "of 40; about 13 if the panels were taken for each other"
    shares = dict(line.split() for line in own.splitlines() if line.endswith("%"))
    assert float(shares["object_color"].rstrip("%")) > 80
    assert float(shares["camera_height"].rstrip("%")) > 90


def moving(path: Path, size: tuple[int, int], kept: int | None = None) -> None:
    """A GIF of two frames, or its first bytes."""
    other = Image.new("RGB", size, "red")
    Image.new("RGB", size).save(path, save_all=True, append_images=[other])
    path.write_bytes(path.read_bytes()[:kept])


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, "check its name"),
        (lambda path: path.write_bytes(b"GIF89a" + bytes(20)), "is damaged"),
        (lambda path: path.write_text("<html>"), "is no GIF file"),
        (lambda path: Image.new("RGB", (306, 158)).save(path), "has 1 frames of 306x158"),
        (lambda path: moving(path, (300, 158)), "has 2 frames of 300x158"),
        (lambda path: moving(path, (10, 1000)), "has 2 frames of 10x1000"),
        (lambda path: moving(path, (306, 158), kept=408), "is damaged"),
    ],
)
def test_what_is_no_animation_is_refused(
    tmp_path: Path, write: Callable[[Path], Any], said: str
) -> None:
    path = tmp_path / "x.gif"
    write(path)
    with pytest.raises(UserError, match=said):
        animation.read_animation(path)
