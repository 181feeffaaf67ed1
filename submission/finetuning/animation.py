"""The sample animations that MPI3D's authors publish (GIF): their frames, and the factors in them.

They were made as disentanglement_lib's `visualize_dataset` does: seven panels of 64x64 in rows with
10 pixels of white between and around them; panel k starts at the one configuration that all share
and takes factor k through its values and back, the others stay. The files carry no labels, but
where factor k starts decides its whole course, so the start can be found from what is read.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from submission.finetuning.network import AXES, readable
from submission.render.rig import FACTOR_NAMES
from submission.runtime.errors import UserError

PANELS = 7
_SIDE, _GAP = 64, 10
_TILT, _PAN = AXES
# Our values in the order in which an animation takes them. The real ones were made before their
# files were published, with colours, shapes and backgrounds in another order.
_REAL_ANIMATIONS = {0: (2, 1, 3, 0, 5, 4), 1: (2, 3, 1, 5, 4, 0), 4: (1, 2, 0)}
_VALUE_NAMES: dict[int, tuple[str, ...]] = {
    0: ("white", "green", "red", "blue", "brown", "olive"),
    1: ("cone", "cube", "cylinder", "hexagonal", "pyramid", "sphere"),
    2: ("small", "large"),
    3: ("top", "center", "bottom"),
    4: ("purple", "sea green", "salmon"),
}
Numbers = npt.NDArray[np.int64]


class Labels(NamedTuple):
    """`factors` int64 (frames, 7 panels, 7), tilt in column 5 and pan in column 6; `moves` has the
    column that each panel moves (the last two are either way round)."""

    factors: Numbers
    moves: tuple[int, ...]


def read_animation(path: Path) -> npt.NDArray[np.uint8]:
    """uint8 (frames, 7, 64, 64, 3), the panels in reading order.

    Raises:
        UserError: no such file, no animation, or not laid out as described above.
    """
    try:
        with Image.open(path, formats=("GIF",)) as file:
            frames = []
            for k in range(getattr(file, "n_frames", 1)):
                file.seek(k)
                frames.append(np.asarray(file.convert("RGB")))
    except FileNotFoundError as error:
        raise UserError(f"no file {path}: check its name") from error
    except Exception as error:  # Pillow raises whatever damaged bytes lead it to
        raise UserError(f"{path} is no GIF file or is damaged: copy it again ({error})") from error
    height, width = frames[0].shape[:2]
    columns, rest = divmod(width - _GAP, _SIDE + _GAP)
    rows = math.ceil(PANELS / max(columns, 1))
    if columns < 1 or rest or height < _GAP + rows * (_SIDE + _GAP) or len(frames) < 2:
        raise UserError(
            f"{path} has {len(frames)} frames of {width}x{height} pixels: an animation of MPI3D "
            "has several, of seven 64x64 panels in rows with 10 pixels around each (--frames takes "
            "single images)"
        )
    step = _SIDE + _GAP
    corners = [(_GAP + k // columns * step, _GAP + k % columns * step) for k in range(PANELS)]
    panels = [[frame[y : y + _SIDE, x : x + _SIDE] for y, x in corners] for frame in frames]
    return np.array(panels)


def course(start: int, values: int, frames: int) -> Numbers:
    """The positions 0..values-1 that a factor takes in an animation, int64 (frames,): up from
    `start` to the end, down to the beginning, and up again, one period in all."""
    steps = np.ceil(start + 2 * values * np.arange(frames) / frames).astype(np.int64)
    steps %= 2 * values
    return np.where(steps < values, steps, 2 * values - 1 - steps)


def inferred_labels(read: Numbers, sizes: tuple[int, ...]) -> Labels:
    """The factors of an animation: for each panel the start, of all possible ones, whose course
    agrees best with what was read in that panel, and so for the order of values.

    A reading that is wrong in most frames of a panel would pass for the truth of another start;
    with courses as different as these it must be wrong in about half of them.

    Args:
        read: int64 (frames, 7 panels, 7), what the heads read. sizes: number of values of the
            seven factors.
    """
    frames = len(read)
    found: list[tuple[int, list[int], list[Numbers], tuple[int, ...]]] = []
    orders_known: tuple[dict[int, tuple[int, ...]], ...] = ({}, _REAL_ANIMATIONS)
    moves: tuple[int, ...]
    for orders in orders_known:
        for moves in ((0, 1, 2, 3, 4, _TILT, _PAN), (0, 1, 2, 3, 4, _PAN, _TILT)):
            total, courses = 0, []
            for panel, factor in enumerate(moves):
                # Complex objects have fewer colours and shapes, in an order of their own.
                order = np.array(orders.get(factor, range(sizes[factor])))
                order = order if len(order) == sizes[factor] else np.arange(sizes[factor])
                seen = read[:, panel, factor]
                candidates = [order[course(b, sizes[factor], frames)] for b in range(sizes[factor])]
                costs = [_cost(seen, one, factor) for one in candidates]
                courses.append(candidates[int(np.argmin(costs))])
                total += min(costs)
            found.append((total, [int(one[0]) for one in courses], courses, moves))
    _, starts, courses, moves = min(found, key=lambda one: one[0])
    factors = np.empty_like(read)
    for panel, factor in enumerate(moves):
        factors[:, :, factor] = starts[panel]
    for panel, factor in enumerate(moves):
        factors[:, panel, factor] = courses[panel]
    return Labels(factors, moves)


def _cost(read: Numbers, course: Numbers, factor: int) -> int:
    """How badly a course fits: frames that disagree; of an axis the steps between, 10 at most."""
    apart = np.abs(read - course)
    return int(np.minimum(apart, 10).sum() if factor in (_TILT, _PAN) else 10 * (apart > 0).sum())


def described(labels: Labels, complex_objects: bool) -> str:
    """The configuration that all panels start at, in words; of complex objects only what the heads
    know."""
    words = []
    for i in readable(complex_objects):
        value = labels.factors[0, 0, i]
        named = _VALUE_NAMES[i][value] if i in _VALUE_NAMES else str(value)
        words.append(f"{FACTOR_NAMES[i].replace('_', ' ')} {named}")
    return ", ".join(words)
