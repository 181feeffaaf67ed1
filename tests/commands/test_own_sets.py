"""`run` on sets of a user's own, from the images to the table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

PROJECT = Path(__file__).resolve().parents[2]
SIZES = (4, 4, 3)
SHORT = ("--quick", "--config", "dry_run.gin", "train_vae.epochs=4", "beta_at_epoch.t_end=2")


def discs() -> NDArray[np.uint8]:
    """A square at one of 4 x 4 places in one of three colours, on images of 48 x 80."""
    images = np.full((*SIZES, 48, 80, 3), 30, np.uint8)
    for i, j, k in np.ndindex(*SIZES):
        images[i, j, k, 10 * i + 2 : 10 * i + 12, 18 * j + 4 : 18 * j + 20, k] = 230
    return images.reshape(-1, 48, 80, 3)


def call(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SUBMISSION_HOME": str(home), "PYTHONPATH": str(PROJECT)}
    for name in ("AICROWD_OUTPUT_PATH", "SUBMISSION_CACHE", "DISENTANGLEMENT_LIB_DATA"):
        environment.pop(name, None)
    start = [sys.executable, "-m", "submission", *command]
    return subprocess.run(start, env=environment, cwd=home, capture_output=True, text=True)


@pytest.mark.slow
def test_a_folder_in_any_order_is_scored_as_the_grid_that_it_is(tmp_path: Path) -> None:
    """The same images as a file in C order, and shuffled in a folder: the codes of each image are
    the same model's, and the metrics see the same grid."""
    images = discs()
    np.savez(tmp_path / "ordered.npz", images=images, factor_sizes=np.array(SIZES))
    folder = tmp_path / "pictures"
    folder.mkdir()
    order = np.random.default_rng(0).permutation(len(images))
    rows = ["y,x,colour"]
    for name, row in enumerate(order):
        Image.fromarray(images[row]).save(folder / f"{name:03}.png")
        rows.append(",".join(map(str, np.unravel_index(row, SIZES))))
    (folder / "factors.csv").write_text("\n".join(rows) + "\n")
    done = call(tmp_path, "run", "--data", str(folder), "--name", "shuffled", *SHORT)
    assert done.returncode == 0, done.stderr
    assert "pictures: 48 images (4 x 4 x 3, given for each image)" in done.stdout
    assert "(48 images, grid 4 x 4 x 3)" in done.stdout
    assert "published" not in done.stdout
    run = tmp_path / "runs" / "shuffled"
    scores = json.loads((run / "scores.json").read_text())
    assert scores["data"]["factor_names"] == ["y", "x", "colour"]
    assert (len(scores["scores"]["headline"]), scores["paper"]) == (5, None)
    page = (run / "report.html").read_text()
    assert '<th scope="col">colour</th>' in page
    assert "published" not in page

    model = run / "representation" / "pytorch_model.pt"
    ordered = ("--data", str(tmp_path / "ordered.npz"), "--name", "ordered", "--model", str(model))
    done = call(tmp_path, "score", *ordered, "--quick")
    assert done.returncode == 0, done.stderr
    again = json.loads((tmp_path / "runs" / "ordered" / "scores.json").read_text())
    for name, value in scores["scores"]["headline"].items():
        assert again["scores"]["headline"][name] == pytest.approx(value, abs=1e-3), name

    # The exported model takes the set's own size and nothing else.
    network = torch.jit.load(str(model))
    batch = torch.from_numpy(images[:3]).permute(0, 3, 1, 2).float() / 255
    assert network(batch).shape == (3, 16)
    with pytest.raises(torch.jit.Error, match="not \\(N, 3, 48, 80\\)"):
        network(torch.zeros(1, 3, 64, 64))

    # A report later on finds the images where the scores name them.
    done = call(tmp_path, "report", "--run", str(run), "--out", str(tmp_path / "again.html"))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_without_factors_the_model_is_trained_and_nothing_is_scored(tmp_path: Path) -> None:
    grey = discs()[..., 0]
    np.save(tmp_path / "grey.npy", grey)
    done = call(tmp_path, "run", "--data", str(tmp_path / "grey.npy"), "--name", "grey", *SHORT)
    assert done.returncode == 0, done.stderr
    assert "Nothing is scored: grey has 0 known factors" in done.stdout
    run = tmp_path / "runs" / "grey"
    network = torch.jit.load(str(run / "representation" / "pytorch_model.pt"))
    assert network(torch.rand(2, 1, 48, 80)).shape == (2, 16)
    assert not (run / "scores.json").exists()
    done = call(tmp_path, "score", "--data", str(tmp_path / "grey.npy"), "--name", "grey")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "says nothing of factors, so nothing can be scored" in done.stderr


@pytest.mark.slow
def test_learning_from_some_images_scores_as_the_whole_route_does(tmp_path: Path) -> None:
    """`run --images` computes the codes that are drawn; scoring its model with all codes gives the
    same numbers. 48 images and a count of 20: not all are drawn by MIG and IRS."""
    np.savez(tmp_path / "x.npz", images=discs(), factor_sizes=np.array(SIZES))
    own = ("--data", str(tmp_path / "x.npz"), "--metrics", "irs,mig", "--quick")
    done = call(tmp_path, "run", *own, "--images", "30", "--name", "some", *SHORT[1:])
    assert done.returncode == 0, done.stderr
    assert "learning from 30 of 48 images, drawn at random by seed 0" in done.stderr
    some, table = tmp_path / "runs" / "some", ("scores", "headline")
    first = json.loads((some / "scores.json").read_text())[table[0]][table[1]]
    assert not [*(tmp_path / "cache" / "codes").glob("*")], "codes of a part are not kept"
    features = [*(tmp_path / "cache" / "features").glob("*.npy")]
    assert [np.load(file).shape for file in features] == [(30, 512)]
    done = call(tmp_path, "score", *own, "--name", "some")
    assert done.returncode == 0, done.stderr
    whole = json.loads((some / "scores.json").read_text())[table[0]][table[1]]
    assert first == pytest.approx(whole, abs=2e-3)
    assert len(np.load(next((tmp_path / "cache" / "codes").glob("*.npy")))) == 48


@pytest.mark.slow
@pytest.mark.parametrize("form", ["a factor that nobody observes", "a sample"])
def test_what_is_no_plain_grid_is_scored_and_reported(tmp_path: Path, form: str) -> None:
    """As smallNORB's instances; and 40 of 48 images, where no value has the 20 images that
    FactorVAE and IRS need. The path is relative; the report is made again from another folder."""
    arrays: dict[str, NDArray[np.generic]] = {"images": discs()}
    if form == "a sample":
        values = np.stack(np.unravel_index(np.arange(48), SIZES), axis=1)
        rows = np.random.default_rng(0).permutation(48)[:40]
        arrays = {"images": discs()[rows], "factors": values[rows]}
        arrays["factor_names"] = np.array(["y", "x", "colour"])
        names, scored, what = ["y", "x", "colour"], {"dci", "sap", "mig"}, "a sample, not a grid"
    else:
        arrays |= {"factor_sizes": np.array(SIZES), "observed": np.array([0, 2])}
        arrays["factor_names"] = np.array(["y", "x", "colour"])
        names, scored = ["y", "colour"], {"dci", "sap", "mig", "irs", "factor_vae"}
        what = "grid 4 x 4 x 3"
    np.savez(tmp_path / "mine.npz", **arrays)  # type: ignore[arg-type]
    done = call(tmp_path, "run", "--data", "mine.npz", "--name", "mine", *SHORT)
    assert done.returncode == 0, done.stderr
    assert what in done.stdout
    run = tmp_path / "runs" / "mine"
    scores = json.loads((run / "scores.json").read_text())
    assert scores["data"]["factor_names"] == names
    assert set(scores["scores"]["headline"]) == scored
    assert {len(row) for row in scores["scores"]["information"]} == {len(names)}
    if form == "a sample":
        assert "FactorVAE is not scored: it compares rows that share a value" in done.stdout
    (tmp_path / "elsewhere").mkdir()
    environment = os.environ | {"SUBMISSION_HOME": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    again = subprocess.run(
        [sys.executable, "-m", "submission", "report", "--run", str(run), "--out", "../again.html"],
        env=environment,
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    page = (tmp_path / "again.html").read_text()
    assert f'<th scope="col">{names[-1]}</th>' in page


def test_too_few_images_for_the_last_run_are_heard_of_before_the_first(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=discs()[:20])
    done = call(tmp_path, "run", "--data", str(tmp_path / "x.npz"))
    assert done.returncode == 2
    assert "the number of images (20)" in done.stderr.splitlines()[-1]
    assert "features ..." not in done.stderr


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (np.zeros(48, int), "same value in all rows"),
        (np.arange(48), "fewer than two rows for each"),
    ],
)
def test_factors_that_cannot_be_scored_are_heard_of_before_the_training(
    tmp_path: Path, column: NDArray[np.int64], said: str
) -> None:
    other = np.arange(48) % 3
    arrays = {"images": discs(), "factors": np.stack([other, column], axis=1)}
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    done = call(tmp_path, "run", "--data", str(tmp_path / "x.npz"), *SHORT)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
    assert "features" not in done.stderr
