"""The pages of results are what their scripts make of the numbers beside them, and the figures that
the README and the model card take from there are the same."""

import importlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from submission.features.weights import SHIPPED_WEIGHTS, check_sha256

ROOT = Path(__file__).resolve().parent.parent
METRICS = ("factor_vae", "dci", "sap", "irs", "mig")


def numbers(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((ROOT / "docs" / f"{name}.json").read_text())
    return read


@pytest.mark.parametrize("name", ["results", "finetuning"])
def test_the_page_is_made_of_the_numbers(name: str) -> None:
    page = (ROOT / "docs" / f"{name}.md").read_text()
    made = importlib.import_module(f"docs.{name}")
    assert page == f"{made.INTRODUCTION}\n{made.table(numbers(name))}"
    assert "NOT MPI3D" in page


@pytest.mark.parametrize(
    ("name", "rows"), [("results", "public, pruned"), ("finetuning", "craft, scratch")]
)
def test_the_script_runs_from_the_checkout_alone(name: str, rows: str) -> None:
    """Nothing but the checkout as working folder tells it where the project is."""
    result = subprocess.run(
        [sys.executable, "-m", f"docs.{name}", "nothing"], cwd=ROOT, capture_output=True, text=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )  # fmt: skip
    assert result.returncode == 2
    assert f"no row nothing; there are {rows}" in result.stderr


@pytest.mark.parametrize(
    ("row", "begin"),
    [("public", "`public.gin`"), ("refined", "`refined.gin`"), ("public_4", "appendix B not")],
)
def test_the_readmes_rows_are_the_means(row: str, begin: str) -> None:
    weights = check_sha256(SHIPPED_WEIGHTS)[:8]
    found = numbers("results")["rows"][f"{row} {weights}"]
    columns = [[seed[m] for seed in found["scores"]] for m in METRICS]
    columns.append([sum(seed[m] for m in METRICS) for seed in found["scores"]])
    cells = [f"{statistics.mean(column):.3f}" for column in columns]
    if len(found["scores"]) > 1:
        cells = [str(len(found["scores"])), *cells]
    lines = [
        line for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith(f"| {begin}") and "0." in line
    ]  # fmt: skip
    assert [line.split(" | ")[1:] for line in lines] == [[*cells[:-1], f"{cells[-1]} |"]]


def test_the_cards_rows_are_the_probes() -> None:
    probes = numbers("finetuning")["rows"]["shipped"]["probe"]
    card = (ROOT / "submission" / "weights" / "README.md").read_text()
    for look in ("real", "realistic", "toy"):
        answer = probes[f"Stand-in, {look} look, NOT MPI3D"]
        assert answer["images"] == 20_000
        scores = answer["scores"]
        cells = [
            f"{100 * scores[factor]['mean_over_values']:.1f} %"
            for factor in ("object_color", "object_shape", "object_size", "camera_height",
                           "background_color")
        ]  # fmt: skip
        cells += [f"{scores[axis]['error']:.2f}" for axis in ("tilt", "pan")]
        cells.append(f"{scores['arm']['median_angle']:.1f} degrees")
        assert f"| stand-in, {look} look | {' | '.join(cells)} |" in card


def test_fewer_seeds_stand_below_the_same_seeds_of_their_parent() -> None:
    """Public's two seeds are 1 and 3 in the sum; pruned, made of seed 0 alone, is to be read
    against 1 and not against their mean, 2."""
    from docs.results import table

    common = {
        "domain": "real", "weights": "0a", "grid": [2], "what": "", "udr": [],
        "ideal_code": dict.fromkeys(METRICS, 1.0),
    }  # fmt: skip
    rows = {
        "public": common | {
            "name": "public", "scores": [dict.fromkeys(METRICS, v) for v in (0.2, 0.6)],
        },
        "pruned": common | {"name": "pruned", "scores": [dict.fromkeys(METRICS, 0.1)]},
    }  # fmt: skip
    lines = [line for line in table({"rows": rows}).splitlines() if line.startswith("| p")]
    cells = [(line.split(" | ")[0], line.split(" | ")[-1]) for line in lines]
    assert [cell.removesuffix(" |") for _, cell in cells] == ["2.000 ± 1.414", "1.000", "0.500"]
    assert cells[1][0] == "| public, its seed 0 alone, for the rows below"
