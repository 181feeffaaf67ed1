"""Randomised appearance: numbered images, and the plain looks without it."""

import hashlib
import math
from typing import Any

import numpy as np
import pytest
from numba import njit

from submission.render import object_solids, randomize, solids
from submission.render.randomize import Look
from submission.render.rig import COLOURS, COLUMNS, DOMAINS, MUG, PARAMETERS, SOLIDS
from submission.render.scene import factor_sizes, parameters
from submission.render.vectors import FAR, dot, vec3


def test_rendered_images_follow_from_their_numbers_alone() -> None:
    mix = (0.2, 0.25, 0.55)
    look = Look((*mix, 0), 1.0)
    many = randomize.random_parameters(1, np.arange(4000), look)
    few = randomize.random_parameters(1, np.array([2**40, 17]), look)
    assert many[0][17].tobytes() == few[0][1].tobytes()
    assert np.array_equal(many[1][17], few[1][1])
    other = randomize.random_parameters(2, np.arange(4000), look)
    assert np.mean(np.all(many[1] == other[1], axis=1)) < 0.01
    # Each value of each factor is as likely as the others, and the looks are as the mix says.
    for i, size in enumerate(factor_sizes("real")):
        counts = np.bincount(many[1][:, i], minlength=size)
        assert np.all(np.abs(counts - 4000 / size) < 5 * math.sqrt(4000 / size))
    np.testing.assert_allclose(np.bincount(many[2]) / 4000, mix, atol=0.04)
    for name in COLUMNS:
        assert np.isfinite(many[0][name]).all(), name
    # Randomised sizes must leave the size factor readable.
    small = many[1][:, 2] == 0
    for shape in range(6):
        of = many[1][:, 1] == shape
        limit = np.quantile(many[0]["radius"][of & ~small], 0.01)
        assert np.mean(many[0]["radius"][of & small] < limit) > 0.95


def test_no_strength_gives_the_plain_looks() -> None:
    columns, factors, domain = randomize.random_parameters(
        1, np.arange(60), Look((1, 1, 2, 0), 0.0)
    )
    for i, name in enumerate(DOMAINS[:3]):
        own = domain == i
        plain = parameters(name, factors[own])
        for column in COLUMNS:
            np.testing.assert_allclose(columns[column][own], plain[column], rtol=1e-5, atol=1e-6)


def test_images_of_before_are_the_same_without_complex_and_free_objects() -> None:
    """The shipped weights' training images, by a hash that was taken before there were others."""
    records = randomize.random_parameters(3, np.arange(200), Look((0.2, 0.25, 0.55, 0), 1.0))[0]
    kept = [name for name in COLUMNS if name not in ("form", "stripes")]
    digest = hashlib.md5(b"".join(np.ascontiguousarray(records[n]).tobytes() for n in kept))
    assert digest.hexdigest() == "ef64016013ee8d1d0d9040f44e3cb71b"


def test_complex_looks_have_the_names_of_what_they_show() -> None:
    look = Look((0, 0, 0, 1), 0.0)
    columns, labels, domain = randomize.random_parameters(1, np.arange(300), look)
    assert set(domain) == {DOMAINS.index("complex")}
    # rigs.toml's complex look: a yellow, a dark green, an olive and a strong red.
    named = {
        "yellow": (215, 165, 40),
        "green": (33, 101, 46),
        "olive": (115, 128, 55),
        "red": (240, 51, 30),
    }
    for name, colour in named.items():
        own = labels[:, 0] == COLOURS.index(name)
        assert 40 < own.sum() < 110
        # No colour is brighter than 306.
        np.testing.assert_allclose(
            columns["object_rgb"][own] - np.minimum(colour, 306), 0, atol=1e-4
        )
    np.testing.assert_array_equal(columns["shape"], labels[:, 1])
    assert {SOLIDS[i] for i in labels[:, 1]} == {
        "coffee_cup",
        "tennis_ball",
        "croissant",
        "beer_cup",
    }


@pytest.mark.slow
def test_free_objects_keep_the_size_factor_readable() -> None:
    """Their mean half extent, measured on the solid itself by rays from far away, lies in the range
    that their label states: nothing else tells a large object from a small one."""
    look = Look((0, 0, 1, 0), 0.0, free_objects=1.0)
    columns, labels, _ = randomize.random_parameters(5, np.arange(400), look)
    free = np.flatnonzero(columns["shape"] >= len(SOLIDS))
    assert 150 < len(free) < 250
    assert np.all(labels[free, 1] == -1)
    # Named solids keep their names, in any look.
    named = np.setdiff1d(np.arange(400), free)
    np.testing.assert_array_equal(columns["shape"][named], labels[named, 1])
    assert set(labels[named, 1]) == set(range(len(SOLIDS)))
    # Four fifths have a colour without a name.
    assert 0.72 < np.mean(labels[:, 0] == -1) < 0.88
    low = np.where(labels[:, 2] == 1, 0.07, 0.049)
    high = np.where(labels[:, 2] == 1, 0.09, 0.063)
    wide = columns[free].astype([(name, "f8", PARAMETERS[name].shape) for name in COLUMNS])
    for i, extents in zip(free, half_extents(wide), strict=True):
        # Rays miss the outermost edges.
        what = f"{columns['shape'][i]}, {columns['form'][i]}"
        assert 0.9 * low[i] < np.cbrt(np.prod(extents)) < 1.02 * high[i], what


@njit
def half_extents(records: Any) -> Any:
    """Half width, depth and height (n, 3) of objects without their handles, by parallel rays."""
    found = np.zeros((len(records), 3))
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    lines = np.linspace(-0.2, 0.2, 81)
    for n in range(len(records)):
        parts: Any = np.empty(solids.MOST_SOLIDS, solids.SOLID)
        for part in parts:
            part.kind = -1.0
        p = records[n]
        object_solids.add_object(parts, p, (0.0, 0.0, 0.0), axes)
        low, high = np.full(3, 9.0), np.full(3, -9.0)
        for part in parts:
            if part.kind < 0.0 or (int(p.shape) == MUG and int(part.kind) == solids.CAPSULE):
                continue
            centre = vec3(part.centre)
            frame = (vec3(part.axes[0]), vec3(part.axes[1]), vec3(part.axes[2]))
            for along_axis in range(3):
                for a in lines:
                    for b in lines:
                        for sign in (-1.0, 1.0):
                            o = np.zeros(3)
                            d = np.zeros(3)
                            o[along_axis], d[along_axis] = -sign, sign
                            o[(along_axis + 1) % 3], o[(along_axis + 2) % 3] = a, b
                            away = (o[0] - centre[0], o[1] - centre[1], o[2] - centre[2])
                            own = (dot(away, frame[0]), dot(away, frame[1]), dot(away, frame[2]))
                            ahead = (dot(d, frame[0]), dot(d, frame[1]), dot(d, frame[2]))
                            extents, extra = vec3(part.extents), vec3(part.extra)
                            t, _, _ = solids.hit(int(part.kind), own, ahead, extents, extra)
                            if t < FAR:
                                for k in range(3):
                                    low[k] = min(low[k], o[k] + t * d[k])
                                    high[k] = max(high[k], o[k] + t * d[k])
        for k in range(3):
            found[n, k] = 0.5 * (high[k] - low[k])
    return found
