"""Objects at large, for `finetune`: other solids, families that no data set shows, any colour.

Large and small keep their meaning: a small object is .70 of the same large one. What is large is
known of each solid of the four looks; of a free one it follows from its mean half extent, the cube
root of (half width x half depth x half height) of its box: .07 to .09 where it is large, .049 to
.063 where it is small. The simple solids of every look lie within these ranges.
"""

import numpy as np
import numpy.typing as npt
from matplotlib.colors import hsv_to_rgb

from submission.render import rig
from submission.render.draws import Draws
from submission.render.scene import rig_of

Numbers = npt.NDArray[np.int64]
_FREE = (rig.SUPERQUADRIC, rig.TORUS, rig.CAPSULE, rig.PRISM, rig.MUG, rig.CRESCENT, rig.TWO_PARTS)
_SMALL = 0.7
_LARGE_MEAN_EXTENT = (0.07, 0.09)


def replace_objects(p: np.ndarray, labels: Numbers, share: float, draws: Draws) -> None:
    """Gives a share of the records `p` (n,) of rig.PARAMETERS another object, in place, and changes
    its colour and shape in `labels` int64 (n, 7): an index of rig.COLOURS and of rig.SOLIDS, or -1
    where it is none of them. Half show one of the ten solids in proportions of its own, half a free
    family; four in five any colour, a third of these striped; half are turned about the arm."""
    replaced = draws.uniform() < share
    named = draws.uniform() < 0.5
    small = np.where(labels[:, 2] == 0, _SMALL, 1.0)
    for which, change in ((replaced & named, _name), (replaced & ~named, _free)):
        change(p, labels, which, small, draws)
    turn = 2 * np.pi * draws.uniform()
    p["object_roll"] = np.where(replaced & (draws.uniform() < 0.5), turn, p["object_roll"])
    _paint(p, labels, replaced & (draws.uniform() < 0.8), draws)


def _name(
    p: np.ndarray, labels: Numbers, which: npt.NDArray[np.bool_], small: np.ndarray, draws: Draws
) -> None:
    """One of the ten solids, its radius and height in another proportion at the same volume."""
    solid, stretch = draws.below(len(rig.SOLIDS)), np.exp(0.12 * draws.normal())
    sizes = np.zeros((len(rig.SOLIDS), 3))  # radius, half height, shift along the arm
    forms = np.zeros((len(rig.SOLIDS), p["form"].shape[1]))
    for look in ("complex", "real"):
        for code, radius, half_height, _, shift, *form in rig_of(look).shapes:
            sizes[code] = radius, half_height, shift
            forms[code, : len(form)] = form
    round_ones = np.isin(solid, (rig.SPHERE, rig.TENNIS_BALL, rig.CROISSANT))
    stretch = np.where(round_ones, 1.0, stretch)
    radius, half_height, shift = sizes[solid].T * small
    shift += p["arm_length"]
    for name, value in (
        ("shape", solid),
        ("radius", radius * stretch),
        ("half_height", half_height / stretch**2),
    ):
        p[name] = np.where(which, value, p[name])
    cups = which & np.isin(solid, rig.COMPLEX_SOLIDS)
    p["arm_length"] = np.where(cups, shift, p["arm_length"])
    p["form"] = np.where(which[:, None], forms[solid], p["form"])
    labels[:, 1] = np.where(which, solid, labels[:, 1])


def _free(
    p: np.ndarray, labels: Numbers, which: npt.NDArray[np.bool_], small: np.ndarray, draws: Draws
) -> None:
    """An object of a free family; its shape has no name."""
    family = np.array(_FREE)[draws.below(len(_FREE))]
    u = draws.uniform(6)
    sides = np.array([3, 4, 5, 6, 8])[(5 * u[:, 0]).astype(int)]
    forms = {  # width, two exponents | nothing | nothing | sides, taper | foot, handle, its size
        rig.SUPERQUADRIC: (0.6 + 0.8 * u[:, 0], 1 + 5 * u[:, 1] ** 2, 1 + 5 * u[:, 2] ** 2),
        rig.PRISM: (sides, 0.9 * u[:, 1], np.zeros(len(p))),
        rig.MUG: (0.4 + 0.6 * u[:, 0], u[:, 1], 0.3 + 0.4 * u[:, 2]),
        rig.CRESCENT: (0.5 + 0.9 * u[:, 0], u[:, 1], np.zeros(len(p))),
        rig.TWO_PARTS: (np.floor(16 * u[:, 0]), 0.4 + 0.6 * u[:, 1], 0.3 + 0.4 * u[:, 2]),
    }
    form = np.zeros((len(p), 3))
    for code, columns in forms.items():
        form[family == code] = np.stack(columns, axis=1)[family == code]
    # Half height over radius, then both so that the mean half extent is as asked for.
    aspect = np.exp(np.log(0.5) + np.log(4.0) * u[:, 3])  # .5 .. 2
    aspect = np.where(family == rig.TORUS, 0.2 + 0.25 * u[:, 3], aspect)
    aspect = np.where(family == rig.CAPSULE, 1 + u[:, 3], aspect)
    aspect = np.where(family == rig.CRESCENT, 0.15 + 0.25 * u[:, 3], aspect)
    low, high = _LARGE_MEAN_EXTENT
    extent = (low + (high - low) * u[:, 4]) * small
    radius = extent / _mean_extent(family, form, aspect)
    for name, value in (("shape", family), ("radius", radius), ("half_height", radius * aspect)):
        p[name] = np.where(which, value, p[name])
    p["form"][which, : form.shape[1]] = form[which]
    labels[:, 1] = np.where(which, -1, labels[:, 1])


def _mean_extent(family: Numbers, form: np.ndarray, aspect: np.ndarray) -> np.ndarray:
    """Mean half extent of an object of radius 1 and half height `aspect`, (n,)."""
    x, y, z = np.ones(len(aspect)), np.ones(len(aspect)), aspect.copy()
    y[family == rig.SUPERQUADRIC] = form[family == rig.SUPERQUADRIC, 0]
    # An arc of radius 1 and half angle a, its rod as thick as `aspect`.
    arc, angle = family == rig.CRESCENT, form[:, 0]
    x[arc] = aspect[arc]
    y[arc] = (np.where(angle < np.pi / 2, np.sin(angle), 1.0) + aspect)[arc]
    z[arc] = (0.5 * (1 - np.cos(angle)) + aspect)[arc]
    return np.asarray(np.cbrt(x * y * z))


def _paint(p: np.ndarray, labels: Numbers, which: npt.NDArray[np.bool_], draws: Draws) -> None:
    """Any colour, and for a third a second one in stripes or as a seam: none that has a name."""
    u = draws.uniform(8)
    u[:, [2, 5]] = 0.15 + 0.85 * u[:, [2, 5]]  # none is black
    first, second = (255 * hsv_to_rgb(u[:, i : i + 3]) for i in (0, 3))
    p["object_rgb"] = np.where(which[:, None], first, p["object_rgb"])
    p["inside_rgb"] = np.where(which[:, None], second, p["inside_rgb"])
    striped = which & (u[:, 6] < 1 / 3)
    p["stripes"][:, 0] = np.where(striped, 1 + draws.below(3), 0)
    p["stripes"][:, 1] = np.where(striped, np.pi * (1 + 2 * u[:, 7]) / p["radius"], 0)
    labels[:, 0] = np.where(which, -1, labels[:, 0])
