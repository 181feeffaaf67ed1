"""Independent components, groups and one latent each, on features whose make-up is known."""

import csv
from collections.abc import Iterator
from pathlib import Path

import gin
import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score
from sklearn.mixture import GaussianMixture
from sklearn.tree import DecisionTreeClassifier

from submission.latents.clusters import gaps, to_clusters
from submission.latents.components import dependence, dependent_groups
from submission.latents.groups import _standardised, train_groups
from submission.latents.redundancy import explained_by_others
from submission.latents.training import encode_features
from submission.pipeline.configuration import load_training
from submission.runtime.errors import UserError

SIZES = (5, 8, 2)  # a factor with five unordered values, one with eight in a row, one with two


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    load_training(
        Path("refined.gin"),
        [
            "train_groups.components=7",
            "train_groups.groups=3",
            "train_vae.epochs=25",
            "beta_at_epoch.t_start=0",
            "beta_at_epoch.t_end=12",
            "train_groups.starts=1",
        ],
    )
    threads = torch.get_num_threads()
    # Layers this small gain nothing from threads and lose much to them on a busy machine.
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    gin.clear_config()


def factors() -> np.ndarray:
    grid = np.stack(np.unravel_index(np.arange(np.prod(SIZES)), SIZES), axis=1)
    return np.tile(grid, (50, 1))


def features() -> torch.Tensor:
    """A sum over the factors: five corners, a bent line in the plane, two points; and noise."""
    rng = np.random.default_rng(0)
    values = factors()
    angle = np.pi * values[:, 1] / 9
    parts = [
        np.eye(5)[values[:, 0]],
        np.stack([np.cos(angle), np.sin(angle)], 1) * 1.5,
        values[:, 2:] * 2.0 - 1,
    ]
    directions = np.linalg.qr(rng.normal(size=(512, 8)))[0]
    x = np.concatenate(parts, axis=1) @ directions.T + 0.01 * rng.normal(size=(len(values), 512))
    return torch.from_numpy(x.astype(np.float32))


def test_each_latent_knows_one_factor_and_nothing_of_the_others(tmp_path: Path) -> None:
    """A tree on a single latent reads its factor, whatever the order of the values along it, and
    of the other factors no more than a guess does."""
    x = features()
    means = train_groups(x, tmp_path, "here", seed=0)
    codes = encode_features(means, x).numpy()
    assert codes.shape == (len(x), 3)
    assert codes.dtype == np.float32
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(codes.std(axis=0), 1, atol=1e-3)
    share = np.empty((3, 3))
    order = np.random.default_rng(1).permutation(len(x))
    learn, test = order[:2000], order[2000:]
    for latent in range(3):
        for factor in range(3):
            tree = DecisionTreeClassifier(max_leaf_nodes=16).fit(
                codes[learn, latent : latent + 1], factors()[learn, factor]
            )
            share[latent, factor] = tree.score(
                codes[test, latent : latent + 1], factors()[test, factor]
            )
    own = share.argmax(axis=0)
    assert sorted(own) == [0, 1, 2]
    for factor, latent in enumerate(own):
        assert share[latent, factor] > 0.95
        assert max(np.delete(share[:, factor], latent)) < 1 / SIZES[factor] + 0.15


def test_of_several_starts_the_one_of_least_loss_is_kept(tmp_path: Path) -> None:
    with gin.unlock_config():
        gin.bind_parameter("train_groups.starts", 3)
        gin.bind_parameter("train_vae.epochs", 3)
    x = features()
    codes = encode_features(train_groups(x, tmp_path, "here", seed=2), x)
    with open(tmp_path / "groups.csv", newline="") as file:
        groups = [row for row in csv.DictReader(file) if row["components"] != "1"]
    assert groups
    for row in groups:
        losses = []
        for start in range(3):
            below = tmp_path / f"group_{row['group']}" / f"start_{start}"
            with open(below / "losses.csv", newline="") as file:
                losses.append(float(list(csv.DictReader(file))[-1]["loss"]))
        assert int(row["start"]) == int(np.argmin(losses))
        assert len(set(losses)) == 3
    assert codes.shape == (len(x), 3)


@pytest.mark.slow
def test_a_factor_of_two_values_is_drawn_to_two_points(tmp_path: Path) -> None:
    """Noise within a value goes, the values' difference stays; eight values are left where they
    are, refined.gin asks for six at most."""
    x = features()
    x += 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    found = {}
    for clusters in (1, 6):
        (tmp_path / f"{clusters}").mkdir()
        with gin.unlock_config():
            gin.bind_parameter("train_groups.clusters", clusters)
        means = train_groups(x, tmp_path / f"{clusters}", "here", seed=0)
        found[clusters] = encode_features(means, x).numpy().astype(np.float64)
    values = factors()

    def spread(codes: np.ndarray, factor: int) -> float:
        """Variance within the factor's values over all variance, of its best latent."""
        within = [
            np.mean([latent[values[:, factor] == v].var() for v in range(SIZES[factor])])
            for latent in codes.T
        ]
        return float(min(within))

    assert 0.01 < spread(found[1], 2) < 0.1
    assert spread(found[6], 2) < 0.1 * spread(found[1], 2)
    np.testing.assert_allclose(found[6].mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(found[6].std(axis=0), 1, atol=1e-3)
    assert spread(found[6], 1) == pytest.approx(spread(found[1], 1), rel=1e-6)


def test_a_latent_that_the_others_determine_is_left_out(tmp_path: Path) -> None:
    """A direction in which two factors are multiplied is a component of its own; what it says
    follows from the two. It is the only one to go, and groups.csv says so."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 8, size=(6000, 3))
    own = 2 * values / 7 - 1
    parts = np.concatenate([own, 0.5 * own[:, :1] * own[:, 1:2]], axis=1)
    directions = np.linalg.qr(rng.normal(size=(512, 4)))[0]
    x = parts @ directions.T + 0.005 * rng.normal(size=(len(values), 512))
    features = torch.from_numpy(x.astype(np.float32))
    found = {}
    for redundant in (1.0, 0.5):
        folder = tmp_path / str(redundant)
        folder.mkdir()
        with gin.unlock_config():
            gin.bind_parameter("train_groups.components", 4)
            gin.bind_parameter("train_groups.groups", 4)
            gin.bind_parameter("train_groups.redundant", redundant)
        means = train_groups(features, folder, "here", seed=0)
        found[redundant] = np.abs(
            np.corrcoef(encode_features(means, features).numpy(), parts, rowvar=False)[:-4, -4:]
        )
    assert found[1.0].shape == (4, 4)
    assert found[1.0].max(axis=0).min() > 0.95
    assert found[0.5].shape == (3, 4)
    assert found[0.5][:, :3].max(axis=0).min() > 0.95
    assert found[0.5][:, 3].max() < 0.1
    rows = list(csv.DictReader((tmp_path / "0.5" / "groups.csv").open()))
    told = [float(row["explained_by_others"]) for row in rows]
    assert [row["latent"] == "left out" for row in rows] == [share > 0.5 for share in told]
    assert sorted(row["latent"] for row in rows) == ["0", "1", "2", "left out"]
    assert max(told) > 0.9


def test_only_as_many_are_left_out_as_tell_nothing_new() -> None:
    """Of three, one the sum of the others: any one follows from the other two, two do not from
    one. A copy goes, the original stays, and a constant goes whatever the others are."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(8000, 2))
    told, kept = explained_by_others(np.column_stack([z, z.sum(axis=1)]), 0.5)
    assert len(kept) == 2
    assert all((told[i] >= 0.5) == (i not in kept) for i in range(3))
    told, kept = explained_by_others(np.column_stack([z, z[:, 0], np.ones(8000)]), 0.5)
    assert len(kept) == 2
    assert 1 in kept
    assert 3 not in kept
    told, kept = explained_by_others(np.column_stack([z, z[:, 0]]), 1.0)
    assert kept == [0, 1, 2]


def test_clusters_are_told_by_the_gaps_between_them() -> None:
    rng = np.random.default_rng(0)

    def drawn(*clusters: tuple[float, float]) -> np.ndarray:
        return np.concatenate(
            [rng.normal(middle, deviation, 5000) for middle, deviation in clusters]
        )

    assert len(gaps(rng.normal(size=10_000))) == 0
    assert len(gaps(rng.uniform(size=10_000))) == 0
    borders = gaps(drawn((-1, 0.1), (0, 0.1), (2, 0.2)))
    assert len(borders) == 2
    assert -0.7 < borders[0] < -0.3
    assert 0.3 < borders[1] < 1.5
    # Two of the three overlap: none is told from the others.
    assert len(gaps(drawn((-2, 0.2), (0, 0.3), (1.0, 0.3)))) == 0


def test_a_value_is_drawn_to_where_a_mixture_expects_it() -> None:
    """scikit-learn's mixture of the same middles, shares and variance, then rescaled."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(-1, 0.2, 600), rng.normal(0.3, 0.2, 1400)])
    layers = _standardised(
        to_clusters(values, np.array([-0.4])), torch.from_numpy(values[:, None]).float()
    )
    heap = (values > -0.4).astype(int)
    middles = np.array([values[heap == k].mean() for k in (0, 1)])
    mixture = GaussianMixture(2, covariance_type="spherical")
    mixture.weights_ = np.bincount(heap) / len(values)
    mixture.means_ = middles[:, None]
    mixture.covariances_ = np.full(2, np.mean((values - middles[heap]) ** 2))
    mixture.precisions_cholesky_ = mixture.covariances_**-0.5
    asked = np.linspace(-2, 1.5, 50)[:, None]
    expected = mixture.predict_proba(asked) @ middles
    all_of_them = mixture.predict_proba(values[:, None]) @ middles
    expected = (expected - all_of_them.mean()) / all_of_them.std()
    got = layers(torch.from_numpy(asked).float()).detach().numpy()[:, 0]
    np.testing.assert_allclose(got, expected, atol=2e-3)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_latents(tmp_path: Path) -> None:
    x = features()
    codes = []
    for name in "ab":
        (tmp_path / name).mkdir()
        codes.append(encode_features(train_groups(x, tmp_path / name, "f", 3), x))
    assert torch.equal(codes[0], codes[1])


def test_dependence_is_the_mutual_information_of_binned_columns() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=5000)
    z = np.stack([a, a**2 + 0.1 * rng.normal(size=5000), rng.normal(size=5000)], axis=1)
    measured = dependence(z)
    binned = [np.argsort(np.argsort(column)) * 12 // 5000 for column in z.T]
    for i in range(3):
        for j in range(i):
            expected = mutual_info_score(binned[i], binned[j]) / np.log(12)
            assert measured[i, j] == measured[j, i] == pytest.approx(expected, abs=2e-3)
    assert measured[1, 0] > 0.3
    assert measured[2, 0] < 0.01


def test_what_depends_most_is_joined_first() -> None:
    """By hand: {1, 3} at .5, then {0, 4} at .3; 2 would join at an average of .1."""
    table = np.eye(5)
    for i, j, value in ((1, 3, 0.5), (0, 4, 0.3), (2, 1, 0.2), (2, 3, 0.0)):
        table[i, j] = table[j, i] = value
    assert dependent_groups(table, 5) == [[0], [1], [2], [3], [4]]
    assert dependent_groups(table, 4) == [[0], [1, 3], [2], [4]]
    assert dependent_groups(table, 3) == [[0, 4], [1, 3], [2]]
    assert dependent_groups(table, 2) == [[0, 4], [1, 2, 3]]


@pytest.mark.parametrize(
    ("components", "groups", "sample", "said"),
    [
        (3, 4, 20000, r"components is 3, .*at least train_groups.groups \(4\)"),
        (1, 1, 20000, "groups is 1, it must be at least 2"),
        (600, 4, 20000, "components is 600, .*features' 512 dimensions"),
        (7, 3, 7, r"components is 7, .*train_groups.sample \(7\)"),
    ],
)
def test_sizes_that_cannot_be_are_refused(
    tmp_path: Path, components: int, groups: int, sample: int, said: str
) -> None:
    """By training, and before any work by what reads the configuration."""
    sizes = {"components": components, "groups": groups, "sample": sample}
    with gin.unlock_config():
        for name, value in sizes.items():
            gin.bind_parameter(f"train_groups.{name}", value)
    refused = f"train_groups.{said}"
    with pytest.raises(UserError, match=refused):
        train_groups(features(), tmp_path, "here", seed=0)
    with pytest.raises(UserError, match=refused):
        load_training(Path("refined.gin"), [f"train_groups.{n}={v}" for n, v in sizes.items()])


@pytest.mark.parametrize(
    ("bindings", "said"),
    [
        (["train_groups.components=20"], "vary in fewer than 20 directions"),
        (
            [
                "beta_at_epoch.beta_start=30.0",
                "beta_at_epoch.beta_end=30.0",
                "train_vae.epochs=9",
                "train_groups.components=7",
                "train_groups.groups=2",
                "train_groups.starts=1",
            ],
            "of 2 latents 0 carry anything",
        ),
        (
            [
                "beta_at_epoch.beta_start=30.0",
                "beta_at_epoch.beta_end=30.0",
                "train_vae.epochs=9",
                "train_groups.components=3",
                "train_groups.groups=2",
                "train_groups.starts=1",
            ],
            "of 2 latents 1 carries anything, and the metrics compare two",
        ),
    ],
)
def test_what_cannot_be_taken_apart_is_refused(
    tmp_path: Path, bindings: list[str], said: str
) -> None:
    load_training(
        Path("refined.gin"), ["train_groups.components=7", "train_groups.groups=3", *bindings]
    )
    x = features() - features().mean(dim=0)
    # Eight directions and no noise.
    flat = x @ torch.linalg.svd(x, full_matrices=False).Vh[:8].T
    x = torch.cat([flat, torch.zeros(len(flat), 504)], dim=1)
    with pytest.raises(UserError, match=said):
        train_groups(x, tmp_path, "here", seed=0)
