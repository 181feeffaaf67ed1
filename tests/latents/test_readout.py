"""readout.gin's latents, on heads whose answers are known by hand."""

import csv
from collections.abc import Iterator
from pathlib import Path

import gin
import numpy as np
import pytest
import torch

from submission.latents.readout import Head, read_out
from submission.latents.training import encode_features
from submission.pipeline.configuration import load_training
from submission.runtime.errors import UserError


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    load_training(Path("readout.gin"), ["read_out.sharpness=2.0"])
    yield
    gin.clear_config()


def saying(*probabilities: np.ndarray) -> torch.Tensor:
    """Features that are the logits of such answers, one head's (N, values) after the other's."""
    logits = np.concatenate([np.log(answer) for answer in probabilities], axis=1)
    return torch.from_numpy(logits.astype(np.float32))


def heads(*sizes: int, ordered: tuple[bool, ...] = ()) -> list[Head]:
    """Each reads its own columns of such features."""
    eye, ends = torch.eye(sum(sizes)), np.cumsum(sizes)
    return [
        Head(f"factor {i}", eye[end - size : end], torch.zeros(size), bool(ordered and ordered[i]))
        for i, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "readout.csv", newline="") as file:
        return list(csv.DictReader(file))


def even(values: int, n: int) -> np.ndarray:
    """Answers that are in no cluster and say each value equally often."""
    rng = np.random.default_rng(values)
    return rng.dirichlet(np.full(values, 4.0), n)


def test_a_latent_is_the_expected_value_of_the_sharpened_answer(tmp_path: Path) -> None:
    """.25 and .75 are to each other as 1 to 3, squared as 1 to 9: .1 and .9."""
    first, axis = even(2, 4000), even(5, 4000)
    first[0], axis[0] = (0.25, 0.75), (0.1, 0.2, 0.4, 0.2, 0.1)
    first[1], axis[1] = (0.5, 0.5), (0.0001, 0.0001, 0.0001, 0.2997, 0.7)
    x = saying(first, axis)
    shares: list[float] = []
    means = read_out(x, heads(2, 5, ordered=(False, True)), tmp_path, shares.append)
    codes = encode_features(means, x).numpy()
    assert codes.dtype == np.float32
    assert [row["clusters"] for row in table(tmp_path)] == ["1", "1"]
    np.testing.assert_allclose(codes[:2, 0], [0.9 - 0.5, 0], atol=1e-5)
    # An axis is not sharpened: 3 * .2997 + 4 * .7 = 3.6991, and .0003 of the lower ones; less 2.
    np.testing.assert_allclose(codes[:2, 1], [0, 1.6994], atol=1e-4)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_values_that_do_not_occur_are_left_out_and_the_others_counted(tmp_path: Path) -> None:
    """A head of seven values on data with four of them: what it says of the rest is dropped, and
    the four are 0 to 3, whose middle is 1.5."""
    rng = np.random.default_rng(0)
    true = rng.integers(4, size=4000)
    occurring = np.array([1, 2, 5, 6])
    answers = np.full((4000, 7), 0.01)
    answers[np.arange(4000), occurring[true]] = 0.94
    doubtful = rng.permutation(4000)[:400]  # a value that is not there is said in five of 100
    answers[doubtful] = 0.04
    answers[doubtful, 0], answers[doubtful, occurring[true[doubtful]]] = 0.4, 0.4
    answers /= answers.sum(axis=1, keepdims=True)
    x = saying(answers, even(3, 4000))
    codes = encode_features(read_out(x, heads(7, 3), tmp_path), x).numpy()
    assert table(tmp_path)[0]["occurring"] == "1 2 5 6"
    assert table(tmp_path)[0]["clusters"] == "4"
    np.testing.assert_allclose(codes[:, 0], true - 1.5, atol=0.05)


def test_an_axis_keeps_its_steps_and_is_drawn_to_its_positions(tmp_path: Path) -> None:
    """40 steps of which the data has the four of a thinned grid: clusters, 13 steps apart."""
    rng = np.random.default_rng(0)
    true = 13 * rng.integers(4, size=4000)
    at = true + rng.normal(scale=0.6, size=4000)
    answers = np.exp(-0.5 * (np.arange(40) - at[:, None]) ** 2) + 1e-6
    x = saying(answers / answers.sum(axis=1, keepdims=True), even(2, 4000))
    codes = encode_features(read_out(x, heads(40, 2, ordered=(True, False)), tmp_path), x).numpy()
    row = table(tmp_path)[0]
    assert (row["values"], row["occurring"], row["clusters"]) == ("40", "all", "4")
    within = [codes[true == value, 0] for value in (0, 13, 26, 39)]
    assert max(part.std() for part in within) < 0.01
    np.testing.assert_allclose(np.diff([part.mean() for part in within]), 13, atol=1)


def test_a_head_of_one_value_has_no_latent_and_two_are_needed(tmp_path: Path) -> None:
    constant = np.tile([0.98, 0.01, 0.01], (4000, 1))
    x = saying(constant, even(2, 4000), even(3, 4000))
    means = read_out(x, heads(3, 2, 3), tmp_path)
    assert encode_features(means, x).shape == (4000, 2)
    assert [row["latent"] for row in table(tmp_path)] == ["left out", "0", "1"]
    x = saying(constant, constant, even(3, 4000))
    with pytest.raises(UserError, match="of 3 heads 1 read more than one value"):
        read_out(x, heads(3, 3, 3), tmp_path)
