"""`from submission.metrics import score`: known codes, the library's own functions, no trace."""

import threading
from typing import Any

import gin
import numpy as np
import pytest
import torch
from factor_grids import NO_DCI, SMALL, factors_of
from numpy.typing import NDArray

from submission.metrics import compute, score
from submission.metrics.grids import GridRepresentations, ideal_code
from submission.metrics.settings import load_settings
from submission.runtime.errors import UserError

from disentanglement_lib.evaluation.metrics import irs, mig, sap_score, utils  # isort: skip

GRID = (3, 4, 2)
RANDOM = np.random.RandomState(7)
# A sample with every value of every factor, and not every combination equally often.
FACTORS = np.stack([RANDOM.randint(size, size=240) for size in GRID], axis=1)
IDEAL = (FACTORS - FACTORS.mean(axis=0)) / FACTORS.std(axis=0)
NOISY = IDEAL + 0.3 * RANDOM.normal(size=IDEAL.shape)


# --- codes with known scores, after disentanglement_lib's tests of its metrics


def test_the_factors_themselves() -> None:
    scores = score(IDEAL, FACTORS, quick=True, workers=1).headline
    assert scores["factor_vae"] == 1.0
    assert scores["dci"] > 0.95
    assert scores["irs"] == pytest.approx(1.0)
    assert scores["mig"] > 0.95


@pytest.mark.slow
def test_each_factor_twice_has_no_gaps() -> None:
    scores = score(np.hstack([IDEAL, IDEAL]), FACTORS, quick=True, workers=1).headline
    assert scores["mig"] == pytest.approx(0, abs=1e-9)
    assert scores["sap"] == pytest.approx(0, abs=1e-9)
    assert scores["factor_vae"] == 1.0
    assert scores["dci"] > 0.9


def test_constant_codes_score_nothing() -> None:
    scores = score(np.zeros((240, 4)), FACTORS, metrics=NO_DCI, quick=True).headline
    assert scores == pytest.approx(dict.fromkeys(NO_DCI, 0.0), abs=1e-6)


def test_a_constant_latent_is_as_good_as_none_whatever_its_value() -> None:
    """The mean of many 0.3 in float32 is not 0.3, and the library's IRS divides by the rest."""
    constant = np.hstack([IDEAL, np.full((240, 2), 0.3)])
    kept = constant.copy()
    scores = score(constant, FACTORS, metrics=("factor_vae", "irs", "mig"), quick=True)
    assert scores.left_out == {}
    assert scores.headline["irs"] == pytest.approx(1.0, abs=1e-5)
    without = score(IDEAL, FACTORS, metrics=("factor_vae", "irs", "mig"), quick=True)
    assert scores.headline == pytest.approx(without.headline, abs=1e-6)
    np.testing.assert_array_equal(constant, kept)


def test_random_codes_score_next_to_nothing() -> None:
    factors = np.stack([RANDOM.randint(size, size=2000) for size in GRID], axis=1)
    scores = score(RANDOM.normal(size=(2000, 5)), factors, metrics=NO_DCI, quick=True).headline
    assert scores["mig"] < 0.02
    assert scores["sap"] < 0.1
    assert scores["factor_vae"] < 0.5
    assert scores["irs"] < 0.35


# --- against the library


def test_a_grids_scores_are_the_challenges() -> None:
    metrics = ("factor_vae", "irs", "mig")
    codes = ideal_code(SMALL) + RANDOM.normal(size=(432, 7))
    scores = score(codes, factor_sizes=SMALL, metrics=metrics, quick=True)
    load_settings(quick=True)
    expected = compute.score(GridRepresentations(codes, SMALL), metrics=metrics)
    assert scores.headline == expected["headline"]
    assert scores.grid
    # The same images in another order, with their factors.
    order = RANDOM.permutation(432)
    factors = factors_of(SMALL)[order]
    again = score(codes[order], 10 * factors - 3, metrics=metrics, quick=True)
    assert again.headline == scores.headline
    assert again.grid
    assert again.factor_sizes == SMALL
    # One image is not there: no grid, and about the same.
    sample = score(codes[order][1:], factors[1:], metrics=metrics, quick=True)
    assert not sample.grid
    for metric in metrics:
        assert sample.headline[metric] == pytest.approx(scores.headline[metric], abs=0.1)


def test_a_samples_scores_are_the_librarys_over_its_rows() -> None:
    scores = score(NOISY, FACTORS, metrics=("sap", "mig", "irs"), quick=True)
    load_settings(quick=True)
    codes = NOISY.astype(np.float32)
    expected = mig.compute_mig_on_fixed_data(codes, FACTORS.T, lambda x: x)["discrete_mig"]
    assert scores.headline["mig"] == pytest.approx(expected, abs=1e-9)
    bins = utils.make_discretizer(FACTORS.T).T
    expected = irs.scalable_disentanglement_score(bins, codes, 0.99)["avg_score"]
    assert scores.headline["irs"] == pytest.approx(expected, abs=1e-6)
    order = np.random.RandomState(0).permutation(240)
    train, test = order[:160], order[160:]
    arrays = (codes[train].T, FACTORS[train].T, codes[test].T, FACTORS[test].T)
    expected = sap_score._compute_sap(*arrays, continuous_factors=False)["SAP_score"]
    assert scores.headline["sap"] == pytest.approx(expected, abs=1e-9)
    assert scores.lowered == {
        "sap_score.num_train": (1000, 160),
        "sap_score.num_test": (500, 80),
        "mig.num_train": (1000, 240),
        "irs.num_train": (1000, 240),
    }


def test_further_numbers_are_beside_the_scores_and_not_among_them() -> None:
    also = ("betavae", "infomec", "completeness", "informativeness", "modularity")
    scores = score(IDEAL, FACTORS, metrics=("dci", "mig"), also=also, quick=True, workers=1)
    assert set(scores.headline) == {"dci", "mig"}
    assert scores.further["betavae"] == 1.0
    assert scores.further["completeness"] == scores.details["dci"]["completeness"] > 0.95
    assert scores.further["informativeness"] == 1.0
    for name in ("InfoM", "InfoC", "modularity", "explicitness"):
        assert scores.further[name] > 0.9, name
    table = str(scores)
    assert "sum " not in table.partition("Further numbers, not the challenge's and in no sum")[0]
    assert "betavae" in table


def test_numbers_that_codes_do_not_have_are_left_out_with_the_reason() -> None:
    constant = np.hstack([IDEAL[:, :1], np.zeros((240, 2))])
    scores = score(constant, FACTORS, metrics=("mig",), also=("modularity", "infomec"), quick=True)
    assert scores.further == {}
    assert "latents that vary" in scores.left_out["modularity"]
    assert "1 of the latents" in scores.left_out["infomec"]


# --- samples


def test_metrics_without_the_pairs_that_they_need_are_left_out() -> None:
    rare = np.concatenate([FACTORS, [[0, 0, 2]] * 19])
    codes = np.concatenate([NOISY, NOISY[:19]])
    names = ("size", "shape", "colour")
    scores = score(codes, rare, factor_names=names, metrics=NO_DCI, also=("betavae",), quick=True)
    assert set(scores.headline) == {"sap", "mig"}
    assert set(scores.left_out) == {"factor_vae", "irs", "betavae"}
    assert "'colour' has 19" in scores.left_out["irs"]
    table = " ".join(str(scores).split())
    assert "sample of 259, not a grid" in table
    assert "SAP: 172 rows to train on, not 1,000" in table
    assert "sum" not in table.partition("Measured")[0]
    codes, rare = np.concatenate([codes, NOISY[:1]]), np.concatenate([rare, rare[-1:]])
    enough = score(codes, rare, metrics=("irs",), quick=True)
    assert set(enough.headline) == {"irs"}


def test_on_fewer_than_twenty_rows_a_value_random_codes_look_robust(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("submission.metrics.arrays.FEWEST_ROWS", 1)

    def mean_irs(rows: int) -> float:
        found = []
        for seed in range(4):
            random = np.random.RandomState(seed)
            factors = np.stack([random.permutation(np.arange(5 * rows) % 5) for _ in range(4)], 1)
            codes = random.normal(size=factors.shape)
            found.append(score(codes, factors, metrics=("irs",), quick=True).headline["irs"])
        return float(np.mean(found))

    assert mean_irs(5) > mean_irs(400) + 0.15
    assert mean_irs(20) < mean_irs(400) + 0.08


# --- no trace


def test_gin_and_numpys_generator_are_as_before_and_have_no_part_in_the_scores() -> None:
    expected = score(NOISY, FACTORS, metrics=NO_DCI, also=("modularity",), quick=True)
    gin.clear_config()
    with gin.unlock_config():
        gin.parse_config("mig.num_train = 7\nmine/irs.num_train = 9\ndiscretizer.num_bins = 2")
    before, used = gin.config_str(), gin.operative_config_str()
    gin.config._set_config_is_locked(True)
    np.random.seed(3)
    try:
        with gin.config_scope("mine"):
            scores = score(NOISY, FACTORS, metrics=NO_DCI, also=("modularity",), quick=True)
        with pytest.raises(UserError):
            score(NOISY, FACTORS[1:])
        assert gin.config_is_locked()
    finally:
        gin.config._set_config_is_locked(False)
    assert (scores.headline, scores.further) == (expected.headline, expected.further)
    assert (gin.config_str(), gin.operative_config_str()) == (before, used)
    assert np.random.random_sample() == np.random.RandomState(3).random_sample()
    gin.clear_config()


def test_threads_do_not_disturb_each_other() -> None:
    """Each with counts of its own, which are gin's bindings for all threads."""
    given = [(NOISY[:count], FACTORS[:count]) for count in (240, 180)] * 2
    expected = [score(*pair, metrics=("sap", "mig"), quick=True).headline for pair in given]
    found: dict[int, Any] = {}

    def work(place: int) -> None:
        found[place] = score(*given[place], metrics=("sap", "mig"), quick=True).headline

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(given))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[place] for place in range(len(given))] == expected


# --- what is taken, and what is refused


@pytest.mark.parametrize(
    "change",
    [
        lambda codes, factors: (np.asfortranarray(codes), np.asfortranarray(factors)),
        lambda codes, factors: (codes.tolist(), factors.tolist()),
        lambda codes, factors: (codes.astype(np.float64), factors.astype(np.uint8)),
        lambda codes, factors: (codes, factors.astype(np.float32) * 3 - 1),
        lambda codes, factors: (torch.from_numpy(codes), torch.from_numpy(factors)),
        lambda codes, factors: (codes.astype(">f4")[::1], factors[::1]),
    ],
)
def test_arrays_of_other_forms_are_the_same_codes(change: Any) -> None:
    codes = NOISY.astype(np.float32)
    expected = score(codes, FACTORS, metrics=("mig",), quick=True).headline
    assert score(*change(codes, FACTORS), metrics=("mig",), quick=True).headline == expected


def test_whole_numbers_are_numbers_to_the_metrics_and_symbols_to_infomec() -> None:
    symbols = FACTORS @ np.array([[1, 0], [0, 1], [0, 0]])
    scores = score(symbols, FACTORS, metrics=("mig",), also=("infomec",), quick=True)
    floats = score(symbols.astype(np.float32), FACTORS, metrics=("mig",), quick=True)
    assert scores.headline == floats.headline
    # Two of three factors are read without an error, and the third not at all.
    assert scores.further["InfoE"] == pytest.approx(2 / 3, abs=0.02)
    assert scores.further["InfoM"] > 0.95


def with_value(array: NDArray[Any], value: Any, row: int, column: int) -> NDArray[Any]:
    changed = array.astype(np.result_type(array, type(value)), copy=True)
    changed[row, column] = value
    return changed


GOOD = {"codes": NOISY, "factors": FACTORS}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"factors": None}, "neither"),
        ({"factor_sizes": GRID}, "both"),
        ({"codes": NOISY[1:]}, "239 rows of codes, but 240 rows of factors"),
        ({"codes": NOISY[:, 0]}, r"shape \(240,\)"),
        ({"codes": NOISY[:, :1]}, "at least two latents"),
        ({"codes": [[0.5], [0.5, 0.7]]}, "cannot be made an array"),
        ({"codes": NOISY.astype(str)}, "are text"),
        ({"codes": NOISY.astype(object)}, "Python objects"),
        ({"codes": NOISY > 0}, "true and false"),
        ({"codes": NOISY + 1j}, "complex128"),
        ({"codes": with_value(NOISY, np.nan, 10, 1)}, "1 of 240 rows, the first of them row 10"),
        ({"codes": with_value(NOISY, 1e300, 11, 1)}, "row 11"),
        ({"factors": FACTORS[:, 0]}, r"shape \(240,\)"),
        ({"factors": FACTORS[:, :1]}, "one factor"),
        ({"factors": FACTORS[:, :0]}, "no factor"),
        ({"factors": FACTORS.astype(str)}, "text: number"),
        ({"factors": with_value(FACTORS, 0.5, 9, 1)}, "'factor_1' is 0.5 in row 9"),
        ({"factors": with_value(FACTORS, np.nan, 9, 2)}, "'factor_2' is nan in row 9"),
        ({"factors": with_value(FACTORS, np.inf, 9, 2)}, "'factor_2' is inf in row 9"),
        ({"factors": FACTORS * [1, 0, 1]}, "'factor_1' has the same value in all rows"),
        (
            {"factors": np.stack([FACTORS[:, 0], np.arange(240)], axis=1)},
            "'factor_1' has 240 values in 240 rows",
        ),
        ({"factor_names": ("a", "b")}, "there must be 3"),
        ({"factor_names": ("a", "b", "a")}, "different"),
        ({"factors": None, "factor_sizes": (240,)}, "one factor"),
        ({"factors": None, "factor_sizes": (240, 1)}, "fewer than two values"),
        ({"factors": None, "factor_sizes": (4, 3)}, "has 12 images"),
        ({"factors": None, "factor_sizes": (4.0, 60.0)}, "whole numbers in a row"),
        ({"metrics": ("mig", "fid")}, "'fid'"),
        ({"also": ("mig",)}, "'mig' in also"),
        ({"workers": 0}, "at least one"),
    ],
)
def test_what_cannot_be_scored_is_said_in_one_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        score(**(GOOD | {"metrics": ("mig",), "quick": True} | changes))
    assert "\n" not in str(caught.value)


def test_a_factor_that_does_not_vary_where_it_is_learned_is_named() -> None:
    """Its second value is among the rows that SAP and DCI test on."""
    order = np.random.RandomState(0).permutation(240)
    factors = FACTORS.copy()
    factors[:, 2] = 0
    factors[order[-1], 2] = 1
    for metric in ("sap", "dci"):
        with pytest.raises(UserError, match="'factor_2' has one value only"):
            score(NOISY, factors, metrics=(metric,), quick=True, workers=1)
    assert set(score(NOISY, factors, metrics=("mig",), quick=True).headline) == {"mig"}
