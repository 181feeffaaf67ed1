"""Scoring against codes whose scores are known and against the library's own functions."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factor_grids import NO_DCI, SMALL, bind, factors_of, standardised
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier

from submission.metrics.compute import score
from submission.metrics.grids import (
    GridImages,
    GridRepresentations,
    ideal_code,
    identity,
    torchscript_function,
)
from submission.metrics.settings import METRICS, bound_settings, load_settings
from submission.runtime.errors import UserError

# These have been imported, under the stand-ins, by submission.metrics.library.
from disentanglement_lib.data.ground_truth import ground_truth_data, util  # isort: skip
from disentanglement_lib.evaluation.metrics import (  # isort: skip
    dci,
    factor_vae,
    irs,
    mig,
    sap_score,
    utils,
)

REAL = (6, 6, 2, 3, 3, 40, 40)


@pytest.fixture
def quick() -> None:
    load_settings(quick=True)
    bind(dci__num_train=200, dci__num_test=100)


@pytest.fixture
def tiny(quick: None) -> None:
    """Counts for the route over images, not divisible by the batch sizes."""
    bind(
        factor_vae_score__num_variance_estimate=150,
        factor_vae_score__num_train=40,
        factor_vae_score__num_eval=30,
        dci__num_train=150,
        dci__num_test=70,
        sap_score__num_train=150,
        sap_score__num_test=70,
        irs__num_train=150,
        mig__num_train=150,
    )


def headline(
    code: NDArray[Any], sizes: Sequence[int] = SMALL, metrics: Sequence[str] = METRICS
) -> dict[str, float]:
    data = GridRepresentations(code, sizes)
    values: dict[str, float] = score(data, metrics=metrics, workers=1)["headline"]
    return values


class StockImages(ground_truth_data.GroundTruthData):
    """The library's MPI3D class (data/ground_truth/mpi3d.py) without its reading of a file."""

    def __init__(self, images: NDArray[np.uint8], factor_sizes: Sequence[int]) -> None:
        self.images = images
        self.factor_sizes = list(factor_sizes)
        self.state_space = util.SplitDiscreteStateSpace(self.factor_sizes, [0, 1, 2, 3, 4, 5, 6])
        self.factor_bases = np.prod(self.factor_sizes) / np.cumprod(self.factor_sizes)

    @property
    def num_factors(self) -> int:
        return int(self.state_space.num_latent_factors)

    def sample_factors(self, num: int, random_state: np.random.RandomState) -> Any:
        return self.state_space.sample_latent_factors(num, random_state)

    def sample_observations_from_factors(
        self, factors: NDArray[np.int64], random_state: np.random.RandomState
    ) -> Any:
        all_factors = self.state_space.sample_all_factors(factors, random_state)
        indices = np.array(np.dot(all_factors, self.factor_bases), dtype=np.int64)
        return self.images[indices] / 255.0


# --- codes with known scores


def test_ideal_code_scores(quick: None) -> None:
    scores = score(GridRepresentations(factors_of(SMALL).astype(float), SMALL), workers=1)
    assert scores["factor_vae"]["eval_accuracy"] == 1.0
    assert scores["dci"]["disentanglement"] > 0.99
    assert scores["dci"]["completeness"] > 0.99
    assert scores["dci"]["informativeness_test"] == pytest.approx(1.0)
    assert scores["irs"]["IRS"] == pytest.approx(1.0)
    assert scores["mig"]["discrete_mig"] > 0.97
    # One-against-rest lines on one ordinal latent tell two and three values apart (the middle
    # one's line is the flattest and wins between the others), against chance elsewhere.
    expected = (4 * (1 - 1 / 2) + 3 * (1 - 1 / 3)) / 7
    assert scores["sap"]["SAP_score"] == pytest.approx(expected, abs=0.06)


def test_every_latent_twice_costs_the_gaps(quick: None) -> None:
    code = np.hstack([factors_of(SMALL), factors_of(SMALL)]).astype(float)
    scores = score(GridRepresentations(code, SMALL), workers=1)
    assert scores["mig"]["discrete_mig"] == pytest.approx(0.0, abs=1e-12)
    assert scores["sap"]["SAP_score"] == pytest.approx(0.0, abs=1e-12)
    assert scores["factor_vae"]["eval_accuracy"] == 1.0
    assert scores["dci"]["disentanglement"] > 0.99
    # Each factor's importance is halved between two of fourteen latents.
    assert scores["dci"]["completeness"] == pytest.approx(1 - math.log(2) / math.log(14), abs=0.1)


def test_constant_code_scores_nothing(quick: None) -> None:
    scores = headline(np.zeros((math.prod(SMALL), 4)))
    assert scores == pytest.approx(dict.fromkeys(METRICS, 0.0), abs=1e-6)


def test_latents_constant_at_zero_beside_a_code_change_nothing(quick: None) -> None:
    code = ideal_code(SMALL)
    padded = np.hstack([code, np.zeros((len(code), 5))])
    metrics = ("factor_vae", "irs", "mig")
    expected, scores = headline(code, metrics=metrics), headline(padded, metrics=metrics)
    assert scores == pytest.approx(expected, abs=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("value", "latents"), [(0.3, 7), (0.1, 0)])
def test_constants_that_break_the_librarys_irs_are_reported(
    quick: None, value: float, latents: int
) -> None:
    # In float32 the mean of many 0.3 is not 0.3: the library takes such a latent for active and
    # divides by its largest deviation, 0 or a rounding error.
    code = ideal_code(SMALL)[:, :latents]
    code = np.hstack([code, np.full((math.prod(SMALL), 3), value, np.float32)])
    data = GridRepresentations(code, SMALL)
    stock = irs.compute_irs(data, identity, np.random.RandomState(0))["IRS"]
    assert math.isnan(stock) or stock < -1
    with pytest.raises(UserError, match="IRS cannot be scored: it gives"):
        score(data, metrics=("irs",))
    result = score(data, metrics=NO_DCI)
    assert result["headline"].keys() == {"factor_vae", "sap", "mig"}
    assert "irs" not in result
    assert result["not_scored"].keys() == {"irs"}
    assert "constant at another value than zero" in result["not_scored"]["irs"]
    # The constant costs the other metrics nothing: they are those of the code beside it.
    code[:, latents:] = 0
    beside = headline(code, metrics=("factor_vae", "sap", "mig"))
    assert result["headline"] == pytest.approx(beside, abs=1e-6)


def test_two_mixed_factors_score_lower(quick: None) -> None:
    code = ideal_code(SMALL).astype(float)
    mixed = code.copy()
    mixed[:, 5] = (code[:, 5] + code[:, 6]) / math.sqrt(2)
    mixed[:, 6] = (code[:, 5] - code[:, 6]) / math.sqrt(2)
    expected, scores = headline(code), headline(mixed)
    for metric in ("factor_vae", "dci", "irs", "mig"):
        assert scores[metric] < expected[metric] - 0.05, metric


def test_codes_in_another_order_than_the_images_score_next_to_nothing(quick: None) -> None:
    code = ideal_code(SMALL)
    scores = headline(code[np.random.RandomState(5).permutation(len(code))])
    assert scores["mig"] < 0.1
    assert scores["sap"] < 0.15
    assert scores["dci"] < 0.3
    assert scores["factor_vae"] < 0.5


def test_simulated_codes_reach_the_known_ceilings_on_the_full_grid() -> None:
    # Figures measured with the library under TensorFlow, to three places.
    load_settings()
    code = standardised(factors_of(REAL))
    scores = headline(code, REAL, NO_DCI)
    rounded = {metric: round(value, 3) for metric, value in scores.items()}
    assert rounded == {"factor_vae": 1.0, "sap": 0.408, "irs": 0.991, "mig": 0.942}


# --- the routes


def stock_functions() -> dict[str, Any]:
    return {
        "factor_vae": factor_vae.compute_factor_vae,
        "sap": sap_score.compute_sap,
        "irs": irs.compute_irs,
        "mig": mig.compute_mig,
    }


def stock_dci(data: Any, function: Any) -> dict[str, float]:
    """DCI from the library's parts, with a classifier seeded outside numpy's global generator."""
    settings = bound_settings()
    random = np.random.RandomState(0)
    x_train, y_train = utils.generate_batch_factor_code(
        data, function, settings["dci.num_train"], random, 16
    )
    x_test, y_test = utils.generate_batch_factor_code(
        data, function, settings["dci.num_test"], random, 16
    )
    columns, accuracy = [], []
    for factor in range(data.num_factors):
        model = GradientBoostingClassifier(random_state=np.random.RandomState(factor))
        model.fit(x_train.T, y_train[factor])
        columns.append(model.feature_importances_)
        accuracy.append(np.mean(model.predict(x_test.T) == y_test[factor]))
    matrix = np.stack(columns, axis=1)
    return {
        "disentanglement": float(dci.disentanglement(matrix)),
        "completeness": float(dci.completeness(matrix)),
        "informativeness_test": float(np.mean(accuracy)),
    }


def random_code(sizes: Sequence[int], latents: int) -> NDArray[np.float64]:
    random = np.random.RandomState(1)
    code = standardised(factors_of(sizes)) @ random.normal(size=(len(sizes), latents))
    return np.asarray(code + 0.5 * random.normal(size=(len(code), latents)))


def test_scores_are_those_of_the_librarys_own_calls(quick: None) -> None:
    code = random_code(SMALL, 4).astype(np.float32)
    scores = score(GridRepresentations(code, SMALL), workers=1)
    # The library's class hands out images / 255, here images that hold the code itself.
    stock = StockImages(code.astype(np.float64) * 255.0, SMALL)  # type: ignore[arg-type]

    def represent(observations: NDArray[np.float64]) -> NDArray[np.float32]:
        return observations.astype(np.float32)

    for metric, function in stock_functions().items():
        expected = function(stock, represent, np.random.RandomState(0))
        assert scores[metric] == pytest.approx(expected, abs=1e-9), metric
    assert scores["dci"] == pytest.approx(
        stock_dci(stock, represent)
        | {"informativeness_train": scores["dci"]["informativeness_train"]},
        abs=1e-9,
    )


def test_both_routes_agree_with_the_stock_route_over_images(tiny: None, tmp_path: Path) -> None:
    random = np.random.RandomState(2)
    num_images = math.prod(SMALL)
    path = tmp_path / "images.npy"
    np.save(path, random.randint(256, size=(num_images, 16, 16, 3)).astype(np.uint8))
    images = np.load(path, mmap_mode="r")
    weights = random.randint(-99, 100, size=(16 * 16 * 3, 3))

    def encode(observations: NDArray[np.float64]) -> NDArray[np.float32]:
        # Sums of integers: no rounding that could depend on the batch.
        pixels = np.rint(observations * 255.0).astype(np.int64).reshape(len(observations), -1)
        return (pixels @ weights / 1e5).astype(np.float32)

    codes = np.concatenate([encode(images[i : i + 48] / 255.0) for i in range(0, num_images, 48)])
    by_code = score(GridRepresentations(codes, SMALL), workers=1)
    by_image = score(GridImages(images, SMALL), encode, NO_DCI)
    stock = StockImages(images, SMALL)
    for metric, function in stock_functions().items():
        expected = function(stock, encode, np.random.RandomState(0))
        assert by_code[metric] == pytest.approx(expected, abs=1e-9), metric
        assert by_image[metric] == pytest.approx(expected, abs=1e-9), metric
    for key, value in stock_dci(stock, encode).items():
        assert by_code["dci"][key] == pytest.approx(value, abs=1e-9)


def test_torchscript_is_called_with_channels_first_in_zero_to_one(tmp_path: Path) -> None:
    import torch

    class Probe(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # Means of each channel, and of the top row alone.
            return torch.cat([x.mean(dim=(2, 3)), x[:, :, 0, :].mean(dim=2)], dim=1)

    torch.jit.script(Probe()).save(str(tmp_path / "probe.pt"))
    module = torch.jit.load(str(tmp_path / "probe.pt"))
    images = np.random.RandomState(0).randint(256, size=(4, 64, 64, 3)).astype(np.uint8)
    data = GridImages(images, (2, 2))
    factors = np.array([[1, 0], [0, 1], [1, 1]])
    observations = data.sample_observations_from_factors(factors, np.random.RandomState(0))
    codes = torchscript_function(module)(observations)
    chosen = images[[2, 1, 3]] / 255.0
    expected = np.hstack([chosen.mean(axis=(1, 2)), chosen[:, 0].mean(axis=1)])
    np.testing.assert_allclose(codes, expected, atol=1e-6)
    assert codes.dtype == np.float32


# --- DCI over processes


def test_dci_is_the_same_in_one_process_and_in_several(quick: None) -> None:
    data = GridRepresentations(random_code(SMALL, 3), SMALL)
    np.random.seed(11)
    serial = score(data, metrics=["dci"], workers=1)
    parallel = score(data, metrics=["dci"], workers=2)
    drawn = np.random.random_sample()
    assert serial["dci"] == parallel["dci"]
    # The caller's generator is where it was.
    assert drawn == np.random.RandomState(11).random_sample()


def test_the_librarys_function_is_put_back_after_a_failure(quick: None) -> None:
    stock = dci.compute_importance_gbt
    data = GridRepresentations(ideal_code(SMALL), SMALL)

    def broken(observations: NDArray[Any]) -> NDArray[Any]:
        return np.full_like(observations, np.nan)  # the classifier refuses NaN

    with pytest.raises(ValueError, match="NaN"):
        score(data, broken, metrics=["dci"], workers=1)
    assert dci.compute_importance_gbt is stock
