"""The ranking without labels: by hand, and on models whose worth is known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from submission.latents import udr
from submission.latents.vae import carries_anything

ALL = np.ones(3, bool)


def test_two_models_by_hand() -> None:
    """R = (1 0 0; 0 .5 .5; 0 0 0), all informative but the third of the first model.

    Columns: 1/1, .25/.5, .25/.5; rows: 1/1, .25/1; (2 + 1.25) / (2 + 3) = .65.
    """
    r = np.array([[1, 0, 0], [0, 0.5, 0.5], [0, 0, 0]])
    assert udr.agreement(r, np.array([True, True, False]), ALL) == pytest.approx(0.65)
    assert udr.agreement(r.T, ALL, np.array([True, True, False])) == pytest.approx(0.65)
    assert udr.agreement(np.eye(3), ALL, ALL) == 1
    assert udr.agreement(np.eye(3), ~ALL, ALL) == 0


def test_similarity_is_scipys() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(200, 3)), rng.normal(size=(200, 2))
    first[:, 2] = 7  # constant: like nothing
    second[:, 0] = np.exp(first[:, 0])
    r = udr.similarity(first.astype(np.float32), second.astype(np.float32))
    assert r[0, 0] == pytest.approx(1)
    assert (r[2] == 0).all()
    assert r[1, 1] == pytest.approx(abs(spearmanr(first[:, 1], second[:, 1])[0]), abs=1e-6)


def test_disentangled_models_come_before_entangled_ones() -> None:
    """Four models see three sources as they are, permuted, warped and with signs; three more see
    a rotation each."""
    rng = np.random.default_rng(0)
    sources = rng.uniform(-1, 1, size=(2000, 3))
    good = [np.tanh(sources[:, rng.permutation(3)] * rng.choice([-1, 1], 3)) for _ in range(4)]
    bad = [sources @ np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(3)]
    pairs = udr.ranking([*good, *bad], [ALL] * 7)
    scores = udr.scores(pairs)
    assert scores[:4].min() > scores[4:].max()
    assert np.isnan(np.diag(pairs)).all()
    # Four equally good ones: which is the best is a matter of chance, that it is one of them not.
    assert udr.confidence(udr.ranking([good[0], *bad], [ALL] * 4)) < 1
    assert 0 < udr.confidence(pairs) <= 1


def test_chance_alone_is_told_from_an_order() -> None:
    """Pairs that agree at random: as sure an order comes by chance about as often as not, whatever
    the number of models. One model that all agree with: hardly ever."""
    rng = np.random.default_rng(0)
    as_sure = []
    for _ in range(20):
        pairs = rng.random((6, 6))
        pairs = pairs + pairs.T + np.diag([np.nan] * 6)
        sure = udr.confidence(pairs)
        as_sure.append(np.mean([one >= sure for one in udr.by_chance(pairs, draws=20)]))
    assert 0.3 < np.mean(as_sure) < 0.7
    pairs[2] += 2
    pairs[:, 2] += 2
    sure = udr.confidence(pairs)
    assert sure > 0.9
    assert np.mean([one >= sure for one in udr.by_chance(pairs)]) < 0.05


def test_a_latent_that_carries_nothing_is_not_informative() -> None:
    """Half the mean square against .01 nats: sd .2 gives .02, sd .1 gives .005."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(10_000, 3)) * [0.2, 0.1, 0.0]
    assert carries_anything(codes.astype(np.float32)).tolist() == [True, False, False]


def test_identical_models_agree_fully() -> None:
    codes = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    assert udr.scores(udr.ranking([codes] * 3, [ALL] * 3)) == pytest.approx(1, abs=0.1)
