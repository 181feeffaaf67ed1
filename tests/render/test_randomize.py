"""Randomised appearance: numbered images, and the plain looks without it."""

import math

import numpy as np

from submission.render import randomize
from submission.render.rig import COLUMNS
from submission.render.scene import factor_sizes, parameters


def test_rendered_images_follow_from_their_numbers_alone() -> None:
    mix = (0.2, 0.25, 0.55)
    many = randomize.random_parameters(1, np.arange(4000), mix, 1.0)
    few = randomize.random_parameters(1, np.array([2**40, 17]), mix, 1.0)
    assert many[0][17].tobytes() == few[0][1].tobytes()
    assert np.array_equal(many[1][17], few[1][1])
    other = randomize.random_parameters(2, np.arange(4000), mix, 1.0)
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
    columns, factors, domain = randomize.random_parameters(1, np.arange(60), (1, 1, 2), 0.0)
    for i, name in enumerate(randomize.DOMAINS):
        own = domain == i
        plain = parameters(name, factors[own])
        for column in COLUMNS:
            np.testing.assert_allclose(columns[column][own], plain[column], rtol=1e-5, atol=1e-6)
