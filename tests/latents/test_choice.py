"""How many components and groups "auto" finds, on features whose make-up is known."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import gin
import numpy as np
import pytest
import torch

from submission.latents.choice import MOST_COMPONENTS, largest, separate
from submission.latents.groups import train_groups
from submission.latents.training import encode_features
from submission.pipeline.configuration import load_training
from submission.pipeline.memory_plan import plan
from submission.runtime.errors import UserError
from submission.runtime.limits import Limit


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    gin.clear_config()


def corners(values: list[int], directions: int, images: int = 2000) -> np.ndarray:
    """Factors of so many unordered values each, drawn independently: (images, directions) features,
    a sum of one corner of a simplex for each factor, whose K values span K - 1 directions, and in
    all directions noise of a thirtieth of an edge."""
    rng = np.random.default_rng(0)
    parts = []
    for count in values:
        corner = np.eye(count)[rng.integers(0, count, images)]
        # The plane of the corners, whose coordinates add up to 1.
        parts.append(corner @ np.linalg.svd(np.eye(count) - 1 / count)[0][:, :-1])
    x = np.concatenate(parts, axis=1)
    turned = np.linalg.qr(rng.normal(size=(directions, x.shape[1])))[0]
    return (x @ turned.T + 0.05 * rng.normal(size=(images, directions))).astype(np.float32)


@pytest.mark.parametrize(
    ("values", "directions"),
    [([5, 5], 10), ([3, 3, 3], 8), pytest.param([6, 6, 5], 16, marks=pytest.mark.slow)],
)
def test_as_many_components_as_the_values_span_and_a_group_for_each_factor(
    tmp_path: Path, values: list[int], directions: int
) -> None:
    """K - 1 components for a factor of K values, though there are directions of noise."""
    x = corners(values, directions)
    unmix, offset, members = separate(x, "auto", "auto", 0, tmp_path, "here")
    assert len(unmix) == sum(count - 1 for count in values)
    assert sorted(map(len, members)) == sorted(count - 1 for count in values)
    components = x @ unmix.T + offset
    np.testing.assert_allclose(components.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(components.std(axis=0), 1, atol=1e-4)
    record = json.loads((tmp_path / "choice.json").read_text())
    assert (record["components"], record["groups"]) == (len(unmix), len(members))


def test_one_number_may_be_given_and_the_other_found(tmp_path: Path) -> None:
    x = corners([3, 3, 3], 8)
    _, _, members = separate(x, 6, "auto", 0, tmp_path, "a")
    assert sorted(map(len, members)) == [2, 2, 2]
    _, _, members = separate(x, "auto", 3, 0, tmp_path, "b")
    assert sorted(map(len, members)) == [2, 2, 2]


def test_the_same_run_goes_on_with_its_choice_and_another_chooses_anew(tmp_path: Path) -> None:
    """The first call's record is changed by hand: the same fingerprint takes what it says, another
    one, or a damaged record, what the features say."""
    x = corners([5, 5], 10)
    separate(x, "auto", "auto", 0, tmp_path, "here")
    record = tmp_path / "choice.json"
    chosen = json.loads(record.read_text())
    assert (chosen["components"], chosen["groups"]) == (8, 2)
    text = json.dumps(chosen | {"components": 5, "groups": 2})
    record.write_text(text)
    unmix, _, members = separate(x, "auto", "auto", 0, tmp_path, "here")
    assert (len(unmix), len(members)) == (5, 2)
    for damaged, fingerprint in ((text, "other"), (text[:-9], "here"), ("[]", "here")):
        record.write_text(damaged)
        unmix, _, members = separate(x, "auto", "auto", 0, tmp_path, fingerprint)
        assert (len(unmix), len(members)) == (8, 2)


@pytest.mark.slow
def test_a_training_says_what_it_chose_and_called_again_keeps_it(tmp_path: Path) -> None:
    """choice.json and groups.csv agree; with a VAE's checkpoint there, the record decides."""
    numbers = ["train_groups.components='auto'", "train_groups.groups='auto'"]
    schedule = ["train_vae.epochs=3", "beta_at_epoch.t_end=2", "train_groups.starts=1"]
    load_training(Path("refined.gin"), [*numbers, *schedule, "train_groups.redundant=1.0"])
    x = torch.from_numpy(np.pad(corners([5, 5], 10), ((0, 0), (0, 502))))
    codes = [encode_features(train_groups(x, tmp_path, "here", seed=0), x) for _ in range(2)]
    assert torch.equal(*codes)
    record = json.loads((tmp_path / "choice.json").read_text())
    with open(tmp_path / "groups.csv", newline="") as file:
        sizes = [int(row["components"]) for row in csv.DictReader(file)]
    assert sizes == [4, 4]
    assert (record["components"], record["groups"]) == (sum(sizes), len(sizes))


def test_fixed_numbers_are_taken_as_they_are(tmp_path: Path) -> None:
    unmix, _, members = separate(corners([5, 5], 10), 7, 5, 0, tmp_path, "here")
    assert (len(unmix), len(members)) == (7, 5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("bindings", "said"),
    [
        ({"components": "'some'"}, "whole number in 1..2147483647, or 'auto'"),
        ({"groups": "0"}, "whole number in 1..2147483647, or 'auto'"),
        ({"components": "'auto'", "groups": "1"}, r"groups is 1, it must be in 2..29"),
        ({"components": "'auto'", "groups": "30"}, r"groups is 30, it must be in 2..29"),
        ({"components": "2", "groups": "'auto'"}, "components is 2, it must be at least 3"),
        ({"components": "600", "groups": "'auto'"}, "components is 600, .*512 dimensions"),
    ],
)
def test_numbers_that_cannot_be_are_refused_before_any_work(
    bindings: dict[str, str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        load_training(Path("refined.gin"), [f"train_groups.{n}={v}" for n, v in bindings.items()])


def test_features_in_too_few_directions_are_refused(tmp_path: Path) -> None:
    load_training(Path("refined.gin"), ["train_groups.components='auto'", "train_groups.groups=4"])
    x = torch.zeros(200, 512)
    x[:, :4] = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match=r"vary in 4 directions, .*lower train_groups.groups"):
        train_groups(x, tmp_path, "here", seed=0)


def test_the_plan_counts_the_most_that_may_be_chosen() -> None:
    assert largest("auto", "auto") == (MOST_COMPONENTS, MOST_COMPONENTS - 1)
    assert largest("auto", 8) == (MOST_COMPONENTS, 8)
    assert largest(20, 8) == (20, 8)
    limit, needed = Limit(64 * 2**30, "given", True), {}
    for components, groups in (("20", "8"), ("'auto'", "'auto'"), ("30", "29")):
        numbers = [f"train_groups.components={components}", f"train_groups.groups={groups}"]
        load_training(Path("refined.gin"), numbers)
        needed[components] = plan(1_036_800, limit, torch.device("cpu")).own
    assert needed["'auto'"] == needed["30"]
    assert needed["'auto'"]["VAE"] > needed["20"]["VAE"]
