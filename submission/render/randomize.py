"""Randomised appearance: labels and render parameters of single images, for `finetune`.

The four looks are varied around their fitted values (rigs.toml) in light, colour response, camera,
geometry, noise, blur and number of colours, so that a network which reads them all also reads
images that were never rendered. The deviations are wide enough to cover the difference between the
domains' own values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from submission.render import rig
from submission.render.draws import Draws, FloatArray, Numbers
from submission.render.objects import replace_objects
from submission.render.raycast import render
from submission.render.rig import AXIS_VALUES, DOMAINS, HEXAGONAL
from submission.render.scene import factor_sizes, parameters

# What a quarter of the images borrow from another domain: where things are, not how they look.
_GEOMETRY = (
    *("camera", "yaw", "pitch", "roll", "focal", "ring_inner", "tilt", "pan"),
    *("shoulder_height", "shoulder_offset", "arm_length"),
)
_SIZES = ("radius", "half_height")  # of an object: only where both looks show the same ones


@dataclass(frozen=True)
class Look:
    """What is drawn.

    Attributes:
        mix: shares of the toy, realistic, real and complex look.
        strength: 1 for the ranges below, 0 for the looks as they are.
        free_objects: share of images whose object is another one, see objects.py.
    """

    mix: Sequence[float]
    strength: float
    free_objects: float = 0.0


def render_random(
    seed: int, numbers: Numbers, look: Look, threads: int
) -> tuple[npt.NDArray[np.uint8], Numbers]:
    """Images number `numbers` of the endless set `seed`, and their factors.

    Args:
        numbers: int64 (n,), 0 or more.

    Returns:
        uint8 (n, 64, 64, 3), 0..255, and int64 (n, 7) in the order of rig.FACTOR_NAMES: colour and
        shape as indices of rig.COLOURS and rig.SOLIDS, -1 for one that is not among them.
    """
    columns, factors, _ = random_parameters(seed, numbers, look)
    keys = Draws(seed + 1, numbers).keys  # of the noise, unrelated to the other draws
    return render(columns, keys, threads), factors


def random_parameters(
    seed: int, numbers: Numbers, look: Look
) -> tuple[np.ndarray, Numbers, Numbers]:
    """Records (n,) of rig.PARAMETERS, factors int64 (n, 7), domain int64 (n,) as in rig.DOMAINS;
    each follows from (seed, its number, look) alone."""
    draws, strength = Draws(seed, numbers), look.strength
    factors = np.stack([draws.below(size) for size in factor_sizes("real")], axis=1)
    shares = np.asarray(look.mix, np.float64)
    edges = np.cumsum(shares / shares.sum())
    last = np.flatnonzero(shares)[-1]
    domain = np.minimum(np.searchsorted(edges, draws.uniform(), side="right"), last)
    # What complex images and free objects need beside is drawn apart: without them the other
    # draws are the same as ever.
    more = Draws(seed + 2, numbers)
    own = factors.copy()  # each look's own numbers of colours and shapes
    complex_ones = domain == DOMAINS.index("complex")
    for i, size in enumerate(factor_sizes("complex")[:2]):
        own[:, i] = np.where(complex_ones, more.below(size), own[:, i])
    lenders = len(DOMAINS) if shares[-1] > 0 else 3  # complex looks only where some are shown
    plain = [parameters(name, own % factor_sizes(name)) for name in DOMAINS[:lenders]]
    columns = plain[0].copy()
    borrowed = np.where(draws.uniform() < 0.25 * strength, draws.below(lenders), domain)
    for i, values in enumerate(plain):
        columns[domain == i] = values[domain == i]
    for i, other in enumerate(plain):
        for name in _GEOMETRY:
            columns[name][borrowed == i] = other[name][borrowed == i]
        for name in _SIZES if i < 3 else ():
            lent = (borrowed == i) & ~complex_ones
            columns[name][lent] = other[name][lent]
    labels = factors
    labels[complex_ones, 0] = np.array(rig.COMPLEX_COLOURS)[own[complex_ones, 0]]
    labels[complex_ones, 1] = np.array(rig.COMPLEX_SOLIDS)[own[complex_ones, 1]]
    replace_objects(columns, labels, look.free_objects, more)
    # Proportions of the complex objects are known from a few frames only.
    named = np.isin(columns["shape"], rig.COMPLEX_SOLIDS)[:, None]
    vague = np.exp(0.1 * strength * more.normal(*columns["form"].shape[1:]))
    columns["form"] *= np.where(named, vague, 1.0)
    variation = _Variation(columns, labels, domain == 0, draws, strength)
    # Each place of a draw decides its numbers: the order must stay, here and in what they call.
    for vary in ("camera", "platform", "arm", "object", "light", "response"):
        getattr(variation, vary)()
    return columns, labels, domain


class _Variation:
    """Varies records `p` (n,) of PARAMETERS in place, part by part, one column after the other.

    Deviations are standard deviations: angles in degrees, colours in grey levels, lengths in radii
    of the platform. `toy` says which records show that look.
    """

    def __init__(
        self, p: np.ndarray, factors: Numbers, toy: np.ndarray, draws: Draws, strength: float
    ) -> None:
        self.p, self.factors, self.toy, self.draws, self.strength = p, factors, toy, draws, strength
        # A quarter of the images have a much less certain pillar: the axes hang on it.
        self.wild = 1 + 1.5 * (draws.uniform() < 0.25)
        self.lit = np.where(toy, 0.0, 1.0)  # toy has no uneven light

    def add(self, **deviations: float | FloatArray) -> None:
        """Adds normal numbers."""
        for name, deviation in deviations.items():
            shape = self.p[name].shape[1:]
            self.p[name] += (deviation * (self.strength * self.draws.normal(*shape)).T).T

    def add_some(self, **deviations: float | FloatArray) -> None:
        """Adds the magnitudes of normal numbers."""
        for name, deviation in deviations.items():
            self.p[name] += deviation * self.strength * np.abs(self.draws.normal())

    def turn(self, **degrees: float) -> None:
        self.add(**{name: np.radians(deviation) for name, deviation in degrees.items()})

    def times(self, *, each: float = 0.0, **deviations: float) -> None:
        """Scales by exp of normal numbers: one for the whole column and one for each element."""
        p, draws = self.p, self.draws
        for name, deviation in deviations.items():
            p[name] = (p[name].T * np.exp(self.strength * deviation * draws.normal())).T
            if each:
                p[name] *= np.exp(self.strength * each * draws.normal(*p[name].shape[1:]))

    def resize(self, name: str, deviations: FloatArray, least: Sequence[float]) -> None:
        """Adds normal numbers to three sizes, which stay at least so large."""
        self.p[name] += deviations * self.strength * self.draws.normal(3)
        self.p[name] = np.maximum(self.p[name], least)

    def within(self, **ranges: tuple[float, float]) -> None:
        for name, (low, high) in ranges.items():
            self.p[name] = np.clip(self.p[name], low, high)

    def camera(self) -> None:
        p = self.p
        azimuth = np.radians(1.3) * self.strength * self.draws.normal()
        self.add(camera=0.015)
        x, y = p["camera"][:, 0].copy(), p["camera"][:, 1].copy()
        p["camera"][:, 0] = x * np.cos(azimuth) - y * np.sin(azimuth)
        p["camera"][:, 1] = x * np.sin(azimuth) + y * np.cos(azimuth)
        p["yaw"] -= azimuth
        self.turn(yaw=0.5, pitch=0.4, roll=0.7)
        p["focal"] *= 1 + 0.015 * self.strength * self.draws.normal()
        self.add(centre=0.6)

    def platform(self) -> None:
        p, toy, lit = self.p, self.toy, self.lit
        self.add(ring_inner=0.008)
        self.turn(ring_turn=6.0)
        self.add_some(ring_soft=0.15)
        self.times(ring_rgb=0.10, each=0.06)
        self.times(floor_rgb=0.12, each=0.04)
        self.times(table_rgb=0.25, wall_rgb=0.3, foot_rgb=0.25, foot_ring_rgb=0.35)
        # Toy is flat grey all over, without a horizon: floor, table and walls vary as one.
        p["table_rgb"][toy] = p["wall_rgb"][toy] = p["floor_rgb"][toy]
        self.add(floor_gradient=0.1 * lit)
        self.add_some(floor_falloff=0.05 * lit)
        p["foot_shadow"][:, 0] += 0.1 * lit * self.strength * np.abs(self.draws.normal())
        p["foot_shadow"][:, 1] *= np.exp(0.2 * self.strength * self.draws.normal())
        self.add(foot_ring=0.006, wall_distance=0.02)
        self.turn(wall_turn=3.0)
        self.add(wall_gradient=0.4 * lit)
        self.times(wall_spot=0.4)
        self.add(seam=0.2 * lit)
        self.add_some(seam_width=0.03)
        self.within(seam=(0.0, 1.0))

    def arm(self) -> None:
        p, draws, wild = self.p, self.draws, self.wild
        for name, index in (("tilt", self.factors[:, 5]), ("pan", self.factors[:, 6])):
            step = np.radians(4.6) * 0.01 * self.strength * draws.normal()
            p[name] += step * (index - (AXIS_VALUES - 1) / 2)
            self.turn(**{name: 0.6})
        self.add(shoulder_height=0.006, shoulder_offset=0.006, arm_length=0.012, rod_radius=0.001)
        self.times(rod_rgb=0.35)
        self.resize("bracket", np.array([0.003, 0.012, 0.025]), [0.006, 0.0, 0.0])
        self.times(bracket_rgb=0.4, each=0.06)
        self.resize("plate", np.array([0.003, 0.003, 0.008]) * wild[:, None], [0.008, 0.02, 0.2])
        self.add(plate_offset=0.004 * wild)
        self.times(plate_rgb=0.25)
        contrast = np.where(self.toy, 0.12, 0.45) * np.exp(0.4 * draws.normal())
        patches = 0.5 * self.strength * contrast[:, None, None] * draws.normal(8, 2)
        p["plate_texture"] *= np.exp(patches)
        self.add(head_radius=0.003 * wild, head_rise=0.007 * wild, head_reach=0.15 * wild)
        self.within(head_radius=(0.012, np.inf))
        self.times(head_brightness=0.4)
        sizes = np.array([0.004, 0.005, 0.006]) * wild[:, None]
        self.resize("foot_block", sizes, [0.004, 0.006, 0.008])
        self.add(foot_block_offset=0.004 * wild)
        self.times(foot_block_rgb=0.4, each=0.1)

    def object(self) -> None:
        """Small objects are .70 of large ones, far outside what is drawn here."""
        p, draws, strength = self.p, self.draws, self.strength
        size = 1 + 0.04 * strength * draws.normal()
        p["radius"] *= size * (1 + 0.04 * strength * draws.normal())
        p["half_height"] *= size * (1 + 0.05 * strength * draws.normal())
        self.turn(object_roll=4.0)
        sixth = np.radians(60) * strength * draws.uniform()  # how a hexagon is turned is not known
        p["object_roll"] += np.where(self.factors[:, 1] == HEXAGONAL, sixth, 0.0)
        self.times(object_rgb=0.15, each=0.15)
        self.add(object_rgb=4.0)
        self.within(object_rgb=(0.0, 306.0))
        self.times(inside_rgb=0.2)

    def light(self) -> None:
        p, draws, strength = self.p, self.draws, self.strength
        p["light"][:, :2] += 0.5 * strength * draws.normal(2)
        self.add(ambient=0.08, sky=0.1, diffuse=0.12)
        self.within(ambient=(0.15, 0.8), sky=(-0.3, 1.0), diffuse=(0.2, 1.2))
        self.times(specular=0.8)
        self.add_some(specular=10.0 * self.lit)  # real's own is none
        any_gloss = np.exp(np.log(4) + np.log(10) * draws.uniform())  # 4..40
        p["shininess"] = p["shininess"] ** (1 - strength) * any_gloss**strength
        self.add(shadow=0.1 * self.lit, shadow_soft=0.2)
        self.within(shadow=(0.0, 0.6), shadow_soft=(0.1, 0.95))

    def response(self) -> None:
        """The camera's colour response and noise."""
        p, draws, strength = self.p, self.draws, self.strength
        self.add_some(vignette=0.05 * self.lit)
        self.add(saturation=0.25)
        self.times(gain=0.10, each=0.06)
        self.add(bias=3.8)
        self.times(gamma=0.12, blur=0.4, noise=0.6, colour_noise=0.6)
        patches = np.where(self.toy, 0.008, 0.04) * np.exp(0.5 * draws.normal())
        p["patch_noise"] = np.maximum(p["patch_noise"], strength * patches)
        # Few colours, as the palettes of published animations have: half the images. The palette of
        # one image with these many leaves an object as few colours as theirs of seven with 256.
        few = draws.uniform() < 0.5 * strength
        p["palette"] = np.where(few, np.floor(96 + 161 * draws.uniform()), p["palette"])
