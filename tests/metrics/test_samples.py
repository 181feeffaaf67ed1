"""Samples that are no grid: which rows a metric of the library gets."""

import numpy as np
from factor_grids import factors_of

from submission.metrics.grids import identity
from submission.metrics.samples import SampleRepresentations, lowered
from submission.metrics.settings import load_settings

from disentanglement_lib.evaluation.metrics import factor_vae, utils  # isort: skip

# Twenty rows of each combination but one, with a code that says which row it is.
FACTORS = np.repeat(factors_of((3, 2, 2))[1:], 20, axis=0)
ROWS = np.arange(len(FACTORS), dtype=np.float32)[:, None].repeat(2, axis=1)


def test_rows_are_drawn_without_replacement_and_by_the_metrics_own_generator() -> None:
    data = SampleRepresentations(ROWS, FACTORS)
    random = np.random.RandomState(0)
    codes, factors = utils.generate_batch_factor_code(data, identity, 150, random, 16)
    rest, _ = utils.generate_batch_factor_code(data, identity, 70, random, 16)
    drawn = np.concatenate([codes[0], rest[0]]).astype(int)
    np.testing.assert_array_equal(np.sort(drawn), np.arange(220))
    np.testing.assert_array_equal(drawn, np.random.RandomState(0).permutation(220))
    np.testing.assert_array_equal(factors, FACTORS[drawn[:150]].T)
    again, _ = utils.generate_batch_factor_code(data, identity, 9, np.random.RandomState(0), 16)
    np.testing.assert_array_equal(again[0], codes[0, :9])


def test_a_changed_factor_gives_random_rows_of_that_value() -> None:
    data, random = SampleRepresentations(ROWS, FACTORS), np.random.RandomState(1)
    for factor in range(3):
        first = data.sample_factors(500, random)
        second = data.sample_factors(500, random)
        second[:, factor] = first[:, factor]
        kept = second[:, factor].copy()
        rows = data.sample_observations_from_factors(first, random)[:, 0].astype(int)
        np.testing.assert_array_equal(FACTORS[rows], first)
        rows = data.sample_observations_from_factors(second, random)[:, 0].astype(int)
        np.testing.assert_array_equal(FACTORS[rows, factor], kept)
        assert len(np.unique(rows)) > 150  # of 220


def test_a_batch_of_one_value_draws_the_other_factors_as_the_sample_has_them() -> None:
    """FactorVAE's vote: of the latents that are the factors the fixed one has no variance."""
    load_settings(quick=True)
    data = SampleRepresentations(FACTORS.astype(np.float32), FACTORS)
    random = np.random.RandomState(2)
    spread = np.ones(3)
    for _ in range(50):
        arguments = (data, identity, 64, random, spread, np.array([True] * 3))
        factor, vote = factor_vae._generate_training_sample(*arguments)
        assert factor == vote


def test_counts_are_lowered_to_the_rows_that_there_are() -> None:
    settings = {"dci.num_train": 1000, "dci.num_test": 500, "dci.batch_size": 16}
    settings |= {"mig.num_train": 1000, "factor_vae_score.num_train": 1000}
    settings |= {"factor_vae_score.num_variance_estimate": 1000}
    assert lowered(1500, settings) == {}
    assert lowered(1499, settings) == {"dci.num_train": 999}
    assert lowered(600, settings) == {
        "dci.num_train": 400,
        "dci.num_test": 200,
        "mig.num_train": 600,
        "factor_vae_score.num_variance_estimate": 600,
    }


def test_the_rarest_value_is_known() -> None:
    factors = np.concatenate([FACTORS, np.array([[2, 1, 2]] * 3)])
    codes = np.zeros((len(factors), 2), np.float32)
    assert SampleRepresentations(codes, factors).rarest() == (2, 3)
