"""`score --codes`: from a file to the table."""

import json
from pathlib import Path

import numpy as np
import pytest

from submission.__main__ import main
from submission.metrics import score

FACTORS = np.stack(np.unravel_index(np.arange(120), (4, 3, 10)), axis=1)
CODES = (FACTORS + 0.2 * np.random.RandomState(0).normal(size=FACTORS.shape)).astype(np.float32)
SCORE = ["score", "--quick", "--metrics", "irs,mig", "--codes"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUBMISSION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SUBMISSION_CACHE", str(tmp_path / "cache"))


def rows(printed: str) -> dict[str, list[str]]:
    """The lines of the table by their first word."""
    return {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.split()}


def test_a_grid_is_scored_beside_the_ideal_code(capfd: pytest.CaptureFixture[str]) -> None:
    np.savez("mine.npz", codes=CODES, factor_sizes=np.array([4, 3, 10]))
    assert main([*SCORE, "mine.npz", "--out", "new/scores", "--also", "betavae"]) == 0
    table = capfd.readouterr().out
    expected = score(CODES, FACTORS, metrics=("irs", "mig"), also=("betavae",), quick=True)
    assert expected.grid
    mine, ideal = rows(table)["MIG"]
    assert mine == f"{expected.headline['mig']:.3f}"
    assert float(ideal) > 0.95
    assert "mine.npz: 3 latents of 120 images, grid 4 x 3 x 10" in table
    assert "QUICK" in table
    assert rows(table)["betavae"][0] == f"{expected.further['betavae']:.3f}"
    assert Path("new/scores/scores.txt").read_text().strip() == table.strip()
    document = json.loads(Path("new/scores/scores.json").read_text())
    assert document["scores"]["headline"] == expected.headline
    assert document["scores"]["details"]["settings"]["mig.num_train"] == 1000
    assert document["ideal_code"]["irs"] == pytest.approx(1.0, abs=1e-5)
    assert all(len(line) <= 100 for line in table.splitlines())


def test_a_sample_is_called_one_and_text_files_do(capfd: pytest.CaptureFixture[str]) -> None:
    kept = np.random.RandomState(1).permutation(120)[:110]
    table = np.hstack([CODES, FACTORS])[kept]
    header = "z0,z1,z2,factor_a,factor_b,factor_c"
    np.savetxt("both.csv", table, delimiter=",", header=header, comments="")
    np.savetxt("codes.csv", table[:, :3], delimiter=",", header="x,y,z", comments="")
    np.savetxt("factors.csv", table[:, 3:], delimiter=",", header="a,b,c", comments="")
    assert main([*SCORE, "both.csv"]) == 0
    first = capfd.readouterr().out
    assert main([*SCORE, "codes.csv", "--factors", "factors.csv"]) == 0
    second = capfd.readouterr().out
    assert first.replace("both.csv", "codes.csv") == second
    assert "sample of 110, not a grid" in " ".join(first.split())
    assert "'c' has" in " ".join(first.split())
    assert float(rows(first)["MIG"][0]) > 0.7
    assert not Path("home").exists()


def test_what_encode_says_of_rendered_images_is_in_the_table(
    capfd: pytest.CaptureFixture[str],
) -> None:
    note = np.array("rendered domain toy")
    np.savez("c.npz", codes=CODES, factor_sizes=np.array([4, 3, 10]), stand_in=note)
    assert main([*SCORE, "c.npz"]) == 0
    assert "c.npz (rendered, NOT MPI3D)" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([*SCORE, "none.npz"], "no file none.npz"),
        ([*SCORE, "c.npz", "--model", "m.pt"], "--model does not go with --codes"),
        ([*SCORE, "c.npz", "--stock"], "--stock does not go with --codes"),
        (["score", "--out", "x"], "--out goes with --codes only"),
        ([*SCORE, "c.npz", "--also", "mig"], "unknown metric 'mig' in --also"),
        ([*SCORE, "c.npz"], "neither 'factors' nor 'factor_sizes'"),
        ([*SCORE, "c.npz", "--factors", "none.csv"], "no file none.csv"),
        ([*SCORE, "c.npz", "--factors", "c.npz"], "no CSV text"),
        ([*SCORE, "c.npz", "--factors", "f.csv", "--out", "f.csv"], "f.csv"),
    ],
)
def test_bad_input_gets_one_sentence(
    command: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    np.savez("c.npz", codes=CODES)
    np.savetxt("f.csv", FACTORS, delimiter=",", header="a,b,c", comments="")
    before = {path: path.read_bytes() for path in Path().glob("*.*")}
    assert main(command) == 2
    said = capfd.readouterr().err
    assert said.count("error: ") == 1
    assert "Traceback" not in said
    assert words in said.splitlines()[-1]
    assert {path: path.read_bytes() for path in Path().glob("*.*")} == before
