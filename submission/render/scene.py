"""From factors of variation to the ray caster's parameters."""

import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from submission.render.rig import AXIS_VALUES, COLUMNS, DOMAINS, PARAMETERS, SOLIDS
from submission.runtime.errors import UserError

Rig = SimpleNamespace  # one domain's numbers, under the names that rigs.toml explains


def _rigs() -> dict[str, Rig]:
    text = Path(__file__).with_name("rigs.toml").read_text(encoding="utf-8")
    read: dict[str, dict[str, Any]] = tomllib.loads(text)
    rigs = {}
    for domain in DOMAINS:
        own = read[domain]
        numbers = read["default"] | read.get(own.pop("base", ""), {}) | own
        shapes = [[SOLIDS.index(solid), *sizes] for solid, *sizes in numbers["shapes"]]
        rigs[domain] = Rig(**numbers | {"shapes": shapes})
    return rigs


RIGS = _rigs()


def rig_of(domain: str) -> Rig:
    """The rig of a domain; UserError if there is no such domain."""
    if domain not in RIGS:
        raise UserError(f"Unknown domain '{domain}': choose one of {', '.join(DOMAINS)}.")
    return RIGS[domain]


def factor_sizes(domain: str, axis_steps: int = AXIS_VALUES) -> tuple[int, ...]:
    """Number of values of each factor, in the order of FACTOR_NAMES."""
    rig = rig_of(domain)
    return (len(rig.colours), len(rig.shapes), 2, 3, 3, axis_steps, axis_steps)


def axis_indices(axis_steps: int) -> npt.NDArray[np.int64]:
    """Which of the 40 values of an axis a grid of `axis_steps` values keeps, int64 (axis_steps,):
    evenly from 0 to 39, so a thinned set is a subset of the full one. UserError outside 2..40."""
    if not 2 <= axis_steps <= AXIS_VALUES:
        remedy = f"choose how many of the {AXIS_VALUES} values of each axis to keep."
        raise UserError(f"--axis-steps {axis_steps} is outside 2..{AXIS_VALUES}: {remedy}")
    return np.rint(np.linspace(0, AXIS_VALUES - 1, axis_steps)).astype(np.int64)


def parameters(domain: str, factors: npt.NDArray[np.int64], rig: Rig | None = None) -> np.ndarray:
    """Records (n,) of PARAMETERS for factors int (n, 7) in the order of FACTOR_NAMES, the axes as
    indices 0..39. `rig` replaces the domain's own numbers."""
    rig = rig or rig_of(domain)
    colour, shape, size, height, background, tilt, pan = factors.T
    columns = np.zeros(len(factors), PARAMETERS)
    for name in COLUMNS:
        if hasattr(rig, name):
            value = np.asarray(getattr(rig, name), np.float32)
            per_camera = value.ndim > len(PARAMETERS[name].shape)
            columns[name] = value[height] if per_camera else value
    for name in ("ring_turn", "wall_turn"):
        columns[name] = np.radians(columns[name])

    cameras = np.asarray(rig.cameras)[height]
    columns["camera"] = cameras[:, :3]
    columns["yaw"], columns["pitch"], columns["roll"] = np.radians(cameras[:, 3:]).T
    middle = (AXIS_VALUES - 1) / 2
    columns["tilt"] = np.radians((tilt - middle) * rig.tilt_step + rig.tilt_zero)
    columns["pan"] = np.radians((pan - middle) * rig.pan_step + rig.pan_zero)

    shapes = np.asarray(rig.shapes)[shape]
    correction = np.broadcast_to(np.asarray(rig.object_scale), (3,))[height]
    scale = np.where(size == 1, 1.0, rig.small) * correction
    columns["shape"], columns["object_roll"] = shapes[:, 0], np.radians(shapes[:, 3])
    columns["radius"], columns["half_height"] = shapes[:, 1] * scale, shapes[:, 2] * scale
    columns["arm_length"] += shapes[:, 4] * scale
    forms = shapes[:, 5:]
    columns["form"][:, : forms.shape[1]] = forms
    columns["object_rgb"] = np.asarray(rig.colours)[colour]
    # The factor's colour lies at the far side; clockwise from it come the others as fixed on
    # the turning platform.
    order = (background[:, None] + np.array([0, 2, 1])) % 3
    columns["ring_rgb"] = np.asarray(rig.ring_colours)[order]
    return columns
