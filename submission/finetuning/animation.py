"""The sample animations that MPI3D's authors publish (GIF): their frames, and the factors in them.

As disentanglement_lib's `visualize_dataset` makes them: seven panels of 64x64 in rows with 10
pixels of white between and around them; panel k starts at the one configuration that all share and
takes factor k through its values and back. There are no labels, but where factor k starts decides
its whole course, so the start can be found from what is read.
"""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageSequence

from submission.finetuning.network import AXES
from submission.render.rig import COLOURS, FACTOR_NAMES, SOLIDS
from submission.runtime.errors import UserError

PANELS = 7
_SIDE, _GAP = 64, 10
_TILT, _PAN = AXES
# Our values in the order in which an animation takes them. The real ones were made before their
# files were published, with colours, shapes and backgrounds in another order.
_REAL_ANIMATIONS = {0: (2, 1, 3, 0, 5, 4), 1: (2, 3, 1, 5, 4, 0), 4: (1, 2, 0)}
_VALUE_NAMES: dict[int, tuple[str, ...]] = {
    0: COLOURS,
    1: SOLIDS,
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
    """uint8 (frames, 7, 64, 64, 3), the panels in reading order; UserError if there is no such
    file, or it is no animation or not laid out as described above."""
    try:
        with Image.open(path, formats=("GIF",)) as file:
            frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(file)]
    except FileNotFoundError as error:
        raise UserError(f"no file {path}: check its name") from error
    except Exception as error:  # Pillow raises whatever damaged bytes lead it to
        raise UserError(f"{path} is no GIF file or is damaged: copy it again ({error})") from error
    (height, width), step = frames[0].shape[:2], _SIDE + _GAP
    columns, rest = divmod(width - _GAP, step)
    rows = math.ceil(PANELS / max(columns, 1))
    above = min(_GAP, height - rows * step)  # some published ones have fewer there
    if columns < 1 or rest or above < 0 or len(frames) < 2:
        what = f"{path} has {len(frames)} frames of {width}x{height} pixels: an animation of MPI3D"
        needs = "has several, of seven 64x64 panels in rows with 10 pixels around each"
        raise UserError(f"{what} {needs} (--frames takes single images)")
    corners = [(above + k // columns * step, _GAP + k % columns * step) for k in range(PANELS)]
    panels = [[frame[y : y + _SIDE, x : x + _SIDE] for y, x in corners] for frame in frames]
    return np.array(panels)


def course(start: int, values: int, frames: int) -> Numbers:
    """The positions 0..values-1 that a factor takes in an animation, int64 (frames,): up from
    `start` to the end, down to the beginning, and up again, one period in all."""
    steps = np.ceil(start + 2 * values * np.arange(frames) / frames).astype(np.int64)
    steps %= 2 * values
    return np.where(steps < values, steps, 2 * values - 1 - steps)


def inferred_labels(read: Numbers, values: Sequence[tuple[int, ...]]) -> Labels:
    """The factors of an animation: for each panel the start, of all possible ones, whose course
    agrees best with what was read in that panel, and so for the order of values.

    A reading that is wrong in about half of a panel's frames can pass for the truth of another
    start: that is how different the courses are.

    `read` int64 (frames, 7 panels, 7) is what the heads read, `values` what they call each factor's
    values, as network.named_values.
    """
    found: list[tuple[int, list[Numbers], tuple[int, ...]]] = []
    orders_known: tuple[dict[int, tuple[int, ...]], ...] = ({}, _REAL_ANIMATIONS)
    last_two = ((_TILT, _PAN), (_PAN, _TILT))
    for orders, (sixth, seventh) in itertools.product(orders_known, last_two):
        moves: tuple[int, ...] = (0, 1, 2, 3, 4, sixth, seventh)
        total, courses = 0, []
        for panel, factor in enumerate(moves):
            size = len(values[factor])
            # Complex objects have fewer colours and shapes, in an order of their own.
            order = np.array(orders.get(factor, range(size)))
            order = order if len(order) == size else np.arange(size)
            names = np.array(values[factor])[order]
            candidates = [names[course(start, size, len(read))] for start in range(size)]
            costs = [_cost(read[:, panel, factor], one, factor) for one in candidates]
            courses.append(candidates[int(np.argmin(costs))])
            total += min(costs)
        found.append((total, courses, moves))
    _, courses, moves = min(found, key=lambda one: one[0])
    factors = np.empty_like(read)
    for panel, factor in enumerate(moves):
        factors[:, :, factor] = courses[panel][0]
        factors[:, panel, factor] = courses[panel]
    return Labels(factors, moves)


def _cost(read: Numbers, course: Numbers, factor: int) -> int:
    """How badly a course fits: frames that disagree; of an axis the steps between, 10 at most."""
    apart = np.abs(read - course)
    return int(np.minimum(apart, 10).sum() if factor in (_TILT, _PAN) else 10 * (apart > 0).sum())


def described(labels: Labels, columns: range) -> str:
    """The configuration that all panels start at, in words, of the columns that the heads know."""
    words = []
    for i in columns:
        value = labels.factors[0, 0, i]
        named = _VALUE_NAMES[i][value] if i in _VALUE_NAMES else value
        words.append(f"{FACTOR_NAMES[i].replace('_', ' ')} {named}")
    return ", ".join(words)
