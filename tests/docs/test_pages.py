"""The tables of docs/ are what their scripts make of the numbers beside them, and the figures that
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

from experiments import pages
from submission.features.weights import SHIPPED_WEIGHTS, check_sha256

ROOT = Path(__file__).resolve().parents[2]
METRICS = ("factor_vae", "dci", "sap", "irs", "mig")


def numbers(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((ROOT / "docs" / f"{name}.json").read_text())
    return read


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("results", "experiments.results"),
        ("finetuning", "experiments.finetuning"),
        ("benchmarks", "benchmarks.report"),
    ],
)
def test_the_tables_are_made_of_the_numbers(name: str, module: str) -> None:
    """If this fails: `pages.show` of experiments/ writes a table into its page."""
    shown = pages.shown(ROOT / "docs" / f"{name}.md", name)
    assert shown == importlib.import_module(module).table(numbers(name)).strip("\n")
    assert "NOT MPI3D" in shown


@pytest.mark.parametrize("name", ["results", "finetuning"])
def test_the_numbers_are_of_the_rows_that_the_script_has(name: str) -> None:
    """A row described otherwise in the script than in the table would never be written anew."""
    rows = {row.name: row for row in importlib.import_module(f"experiments.{name}").ROWS}
    for key, measured in numbers(name)["rows"].items():
        row = rows.get(measured.get("name", key))
        if row is None:
            assert (name, key) == ("finetuning", "half")  # its code is gone
            continue
        assert measured["what"] == row.what, key
        assert measured["bindings"] == list(row.bindings), key


def test_the_rows_are_of_the_configurations_as_they_are() -> None:
    """If this fails, a configuration has changed: `python -m experiments.results` measures the rows
    anew."""
    from experiments.results import ROWS, settings_of

    bound = {row.name: settings_of(row) for row in ROWS}
    for key, row in numbers("results")["rows"].items():
        assert row["settings"] == bound[row["name"]], key


def test_only_what_is_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Prose.\n\n<!-- a -->\nold\n<!-- /a -->\n\n<!-- b -->\n\n<!-- /b -->\nEnd.\n")
    pages.show(page, "a", "| new |\n")
    pages.show(page, "b", "| more |\n| rows |")
    assert page.read_text() == (
        "Prose.\n\n<!-- a -->\n| new |\n<!-- /a -->\n\n"
        "<!-- b -->\n| more |\n| rows |\n<!-- /b -->\nEnd.\n"
    )
    assert pages.shown(page, "a") == "| new |"
    for text in ("", "<!-- a -->\n", "\n<!-- /a --><!-- a -->\n", page.read_text() * 2):
        page.write_text(text)
        with pytest.raises(ValueError, match="must hold the markers"):
            pages.show(page, "a", "table")
        assert page.read_text() == text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rows"), [("results", "public, pruned"), ("finetuning", "craft, scratch")]
)
def test_the_script_runs_from_the_checkout_alone(name: str, rows: str) -> None:
    """Nothing but the checkout as working folder tells it where the project is."""
    result = subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", "nothing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert result.returncode == 2
    assert f"no row nothing; there are {rows}" in result.stderr


@pytest.mark.parametrize(
    ("page", "row", "begin"),
    [
        ("README.md", "public", "`public.gin`"),
        ("README.md", "refined", "`refined.gin`"),
        ("docs/runs.md", "public_4", "appendix B not"),
    ],
)
def test_the_pages_rows_are_the_means(page: str, row: str, begin: str) -> None:
    weights = check_sha256(SHIPPED_WEIGHTS)[:8]
    found = numbers("results")["rows"][f"{row} {weights}"]
    columns = [[seed[m] for seed in found["scores"]] for m in METRICS]
    columns.append([sum(seed[m] for m in METRICS) for seed in found["scores"]])
    cells = [f"{statistics.mean(column):.3f}" for column in columns]
    if len(found["scores"]) > 1:
        cells = [str(len(found["scores"])), *cells]
    lines = [
        line
        for line in (ROOT / page).read_text().splitlines()
        if line.startswith(f"| {begin}") and "0." in line
    ]
    assert [line.split(" | ")[1:] for line in lines] == [[*cells[:-1], f"{cells[-1]} |"]]


def test_the_readmes_table_is_that_of_the_page_on_runs() -> None:
    """If this fails: `python -m experiments.dry_run` writes both, as `./run.sh` left them."""
    from experiments.dry_run import scores_of

    printed = pages.shown(ROOT / "docs" / "runs.md", "dry_run")
    assert pages.shown(ROOT / "README.md", "dry_run") == scores_of(printed) + "\n```"
    assert printed.count("\nsum ") == 1
    assert "NOT MPI3D" in scores_of(printed)


def test_the_readme_has_the_ideal_codes_row_and_the_complex_sums() -> None:
    rows, weights = numbers("results")["rows"], check_sha256(SHIPPED_WEIGHTS)[:8]
    readme = (ROOT / "README.md").read_text()
    ideal = [rows[f"public {weights}"]["ideal_code"][m] for m in METRICS]
    cells = " | ".join(f"{value:.3f}" for value in (*ideal, sum(ideal)))
    assert f"| ideal code (one latent per factor) | | {cells} |" in readme
    sums = [
        statistics.mean(sum(seed.values()) for seed in rows[f"{name} {weights}"]["scores"])
        for name in ("refined_complex", "public_complex")
    ]
    assert f"(sums of {sums[0]:.3f} and {sums[1]:.3f})" in readme


def test_the_cards_rows_are_the_probes() -> None:
    probes = numbers("finetuning")["rows"]["shipped"]["probe"]
    card = (ROOT / "submission" / "weights" / "README.md").read_text()
    for look in ("real", "realistic", "toy"):
        answer = probes[f"Stand-in, {look} look, NOT MPI3D"]
        assert answer["images"] == 20_000
        scores = answer["scores"]
        cells = [
            f"{100 * scores[factor]['mean_over_values']:.1f} %"
            for factor in (
                "object_color",
                "object_shape",
                "object_size",
                "camera_height",
                "background_color",
            )
        ]
        cells += [f"{scores[axis]['error']:.2f}" for axis in ("tilt", "pan")]
        cells.append(f"{scores['arm']['median_angle']:.1f} degrees")
        assert f"| stand-in, {look} look | {' | '.join(cells)} |" in card


def test_fewer_seeds_stand_below_the_same_seeds_of_their_parent() -> None:
    """Public's two seeds are 1 and 3 in the sum; pruned, made of seed 0 alone, is to be read
    against 1 and not against their mean, 2."""
    from experiments.results import table

    common = {
        "domain": "real",
        "weights": "0a",
        "grid": [2],
        "what": "",
        "udr": [],
        "ideal_code": dict.fromkeys(METRICS, 1.0),
    }
    rows = {
        "public": common
        | {"name": "public", "scores": [dict.fromkeys(METRICS, v) for v in (0.2, 0.6)]},
        "pruned": common | {"name": "pruned", "scores": [dict.fromkeys(METRICS, 0.1)]},
    }
    lines = [line for line in table({"rows": rows}).splitlines() if line.startswith("| p")]
    cells = [(line.split(" | ")[0], line.split(" | ")[-1]) for line in lines]
    assert [cell.removesuffix(" |") for _, cell in cells] == ["2.000 ± 1.414", "1.000", "0.500"]
    assert cells[1][0] == "| public, its seed 0 alone, for the rows below"
