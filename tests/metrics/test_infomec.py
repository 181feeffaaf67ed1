"""InfoMEC against cases worked by hand."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from submission.metrics.infomec import (
    active_latents,
    info_compactness,
    info_explicitness,
    info_modularity,
    normalised_information,
)

# A fair bit, and the same bit wrong in 10 of 100 rows: H(bit | code) = h(1/10).
BIT = np.repeat([0, 0, 1, 1], [45, 5, 5, 45])
NOISY = np.repeat([0, 1, 0, 1], [45, 5, 5, 45])
H_TENTH = -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))
KNOWN = 1 - H_TENTH / math.log(2)  # .531: of ln 2 nats


def codes(*latents: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.stack(latents, axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("information", "modularity", "compactness"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], 1.0, 1.0),
        ([[0.5, 0.5], [0.5, 0.5]], 0.0, 0.0),
        # Two latents of one factor: each tells of one, and the factor is in two of three.
        ([[0.6, 0.6, 0.0], [0.0, 0.0, 0.9]], 1.0, ((0.5 + 1) / 2 - 1 / 3) / (2 / 3)),
        # One latent of both factors.
        ([[0.8, 0.0], [0.8, 0.0]], 0.0, 1.0),
        # Columns .8, .5 and 1 of a whole; rows 8 / 11 and 5 / 10.
        (
            [[0.8, 0.3, 0.0], [0.2, 0.3, 0.5]],
            ((0.8 + 0.5 + 1) / 3 - 1 / 2) / (1 / 2),
            ((8 / 11 + 5 / 10) / 2 - 1 / 3) / (2 / 3),
        ),
    ],
)
def test_modularity_and_compactness(
    information: list[list[float]], modularity: float, compactness: float
) -> None:
    assert info_modularity(np.array(information)) == pytest.approx(modularity)
    assert info_compactness(np.array(information)) == pytest.approx(compactness)


def test_a_latent_that_tells_nothing_prefers_no_factor() -> None:
    assert info_modularity(np.array([[1.0, 0.0], [0.0, 0.0]])) == pytest.approx(0.5)
    assert info_modularity(np.zeros((2, 3))) == 0.0


def test_information_of_symbols_is_counted() -> None:
    other = np.tile([0, 1], 50)
    told = normalised_information(
        codes(NOISY, other), np.stack([BIT, other], axis=1), discrete=True, neighbors=3
    )
    assert told[0, 0] == pytest.approx(KNOWN)
    assert told[1, 1] == pytest.approx(1.0)


def test_the_parts_of_a_parity_tell_nothing_alone() -> None:
    first, second = np.tile([0, 0, 1, 1], 25), np.tile([0, 1, 0, 1], 25)
    parity = (first ^ second)[:, None]
    for discrete in (True, False):
        told = normalised_information(codes(first, second), parity, discrete, neighbors=3)
        np.testing.assert_allclose(told, 0, atol=0.05)
        # No linear probe reads it either.
        read = info_explicitness(codes(first, second), parity, discrete, iterations=100)
        assert read == pytest.approx(0, abs=1e-6)


def test_information_of_real_numbers_is_estimated() -> None:
    random = np.random.RandomState(0)
    bits = random.randint(2, size=(1000, 2))
    latents = (10.0 * bits + random.normal(size=bits.shape)).astype(np.float32)
    told = normalised_information(latents, bits, discrete=False, neighbors=10)
    np.testing.assert_allclose(told, np.eye(2), atol=0.05)


def test_explicitness_is_what_a_probe_reads() -> None:
    constant = np.zeros(100, np.int64)
    for discrete in (True, False):
        read = info_explicitness(codes(NOISY, constant), BIT[:, None], discrete, iterations=100)
        assert read == pytest.approx(KNOWN, abs=1e-3)
    steps = np.repeat([0, 1, 2], 50)
    # One-hot symbols are told apart by a line each; the mean over a factor that is and one that is
    # not is a half.
    both = np.stack([steps, np.tile([0, 1], 75)], axis=1)
    read = info_explicitness(codes(steps, steps), both, discrete=True, iterations=100)
    assert read == pytest.approx(0.5, abs=0.01)


def test_rare_values_count_as_much_as_frequent_ones() -> None:
    """A probe that always names the frequent value knows nothing, however often it is right."""
    rare = np.repeat([0, 1], [95, 5])[:, None]
    nothing = codes(np.zeros(100, np.int64), np.zeros(100, np.int64))
    assert info_explicitness(nothing, rare, False, 100) == pytest.approx(0, abs=1e-6)


def test_latents_of_a_twentieth_of_the_widest_range_are_not_active() -> None:
    wide = np.array([[0.0, 0.0, 0.0], [1.0, 0.04, 0.06]], np.float32)
    np.testing.assert_array_equal(active_latents(wide, False, 0.05), [True, False, True])
    np.testing.assert_array_equal(active_latents(wide, True, 0.05), [True, True, True])
