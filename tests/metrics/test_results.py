"""The table of scores, and the files."""

import json
from pathlib import Path

import numpy as np
from factor_grids import NO_DCI, SMALL

from submission.data.factors import FACTOR_NAMES
from submission.metrics.compute import score
from submission.metrics.grids import GridRepresentations, ideal_code
from submission.metrics.results import Context, format_table, write_scores
from submission.metrics.settings import Result, load_settings


def fake_result(counts: str, **values: float) -> Result:
    return {"headline": values, "counts": counts}


FIVE = {"factor_vae": 0.5, "dci": 0.4, "sap": 0.3, "irs": 0.2, "mig": 0.1}
STAND_IN = Context(
    data="stand-in, rendered domain real, 4 axis steps",
    stand_in=True,
    domain="real",
    factor_sizes=(6, 6, 2, 3, 3, 4, 4),
    ideal={"headline": dict.fromkeys(FIVE, 0.9), "counts": "official"},
)


def test_table_of_a_stand_in_cannot_be_taken_for_mpi3d() -> None:
    table = format_table({"this run": fake_result("official", **FIVE)}, STAND_IN)
    lines = table.splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert "stand-in, NOT MPI3D" in lines[1]
    assert "MPI3D-real, full grid" in lines[1]
    caption = " ".join(" ".join(lines[10:]).split())
    assert "stand-in, rendered domain real, 4 axis steps; NOT MPI3D" in caption
    assert "10,368 images" in caption
    assert "a different data set from this run's" in caption
    rows = {line.split()[0]: line.split()[1:] for line in lines[3:9]}
    assert rows["FactorVAE"] == ["0.500", "0.900", "0.992"]
    assert rows["MIG"] == ["0.100", "0.900", "0.297"]
    assert rows["sum"] == ["1.500", "4.500", "2.868"]
    assert "official" in table
    assert "QUICK" not in table


def test_table_of_published_data_names_it_and_takes_the_papers_row_of_its_kind() -> None:
    context = Context("mpi3d_real_complex", False, "complex", (4, 4, 2, 3, 3, 40, 40))
    table = format_table({"this run": fake_result("quick", **FIVE)}, context)
    assert "NOT MPI3D" not in table
    assert "stand-in" not in table
    assert "MPI3D-real complex, full grid" in table.splitlines()[1]
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines()[3:9]}
    assert rows["FactorVAE"] == ["0.500", "-", "0.893"]
    assert rows["sum"] == ["1.500", "-", "2.389"]
    assert "QUICK" in table


def test_further_numbers_stand_below_and_leave_the_sum_as_it_is() -> None:
    result = fake_result("official", **FIVE)
    result |= {"further": {"betavae": 0.75}, "left_out": {"infomec": "no latent is active"}}
    table = format_table({"this run": result}, STAND_IN)
    above, _, below = table.partition("Further numbers, not the challenge's and in no sum:")
    assert "1.500" in next(line for line in above.splitlines() if line.startswith("sum"))
    assert "Left out: InfoMEC: no latent is active." in above
    assert below.split()[:2] == ["betavae", "0.750"]


def test_a_part_of_the_metrics_gives_no_sum() -> None:
    table = format_table({"this run": fake_result("official", mig=0.1)}, STAND_IN)
    assert "sum" not in table
    assert "DCI" not in table


def test_a_metric_without_a_score_is_marked_with_the_reason() -> None:
    result = fake_result("official", factor_vae=0.5, dci=0.4, sap=0.3, mig=0.1)
    table = format_table({"this run": result | {"not_scored": {"irs": "it gives nan"}}}, STAND_IN)
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines()[3:9]}
    assert rows["IRS"] == ["-", "0.900", "0.547"]
    assert rows["MIG"] == ["0.100", "0.900", "0.297"]
    assert rows["sum"] == ["-", "4.500", "2.868"], "four scores are no sum of five"
    assert "IRS is not scored: it gives nan." in table


def test_several_runs_stand_beside_each_other() -> None:
    other = fake_result("official", **FIVE) | {"headline": {m: v / 10 for m, v in FIVE.items()}}
    columns = {"paper's method": fake_result("official", **FIVE), "ours": other}
    lines = format_table(columns | {"heads alone": other}, STAND_IN).splitlines()
    assert all(len(line) <= 100 for line in lines)
    last = next(number for number, line in enumerate(lines) if set(line) == {"-"})
    heads = [" ".join(line.split()) for line in lines[:last]]
    assert heads[0].startswith("metric paper's method ours heads alone ideal code published")
    assert " ".join(heads).count("NOT MPI3D") == 3, "each run's column says so"
    rows = {line.split()[0]: line.split()[1:] for line in lines[last + 1 : last + 7]}
    assert rows["FactorVAE"] == ["0.500", "0.050", "0.050", "0.900", "0.992"]
    assert rows["sum"] == ["1.500", "0.150", "0.150", "4.500", "2.868"]
    # A metric that one of them lacks is in no row, and then there is no sum.
    columns["ours"] = fake_result("official", mig=0.2)
    rest = [line.split()[0] for line in format_table(columns, STAND_IN).splitlines() if line]
    assert "MIG" in rest
    assert not {"DCI", "sum"} & set(rest)


def test_written_scores_read_back(tmp_path: Path) -> None:
    load_settings(quick=True)
    data = GridRepresentations(ideal_code(SMALL), SMALL)
    result = score(data, metrics=NO_DCI)
    context = Context("stand-in, rendered domain toy", True, "toy", SMALL, result, "d1", "5a")
    folder = tmp_path / "new" / "scores"
    write_scores(folder, result, context)
    assert sorted(path.name for path in folder.iterdir()) == ["scores.json", "scores.txt"]
    document = json.loads((folder / "scores.json").read_text())
    assert document["scores"] == result
    assert document["scores"]["settings"]["mig.num_train"] == 1000
    assert document["scores"]["factor_vae"].keys() == {
        "train_accuracy",
        "eval_accuracy",
        "num_active_dims",
    }
    assert document["ideal_code"] == result
    assert document["data"] == {
        "name": "stand-in, rendered domain toy",
        "stand_in": True,
        "domain": "toy",
        "factor_sizes": list(SMALL),
        "num_images": 432,
        "factor_names": list(FACTOR_NAMES),
        "sample": False,
        "md5": "d1",
    }
    assert document["model_sha256"] == "5a"
    assert document["versions"]["disentanglement-lib"] == "1.5"
    assert document["versions"]["numpy"] == np.__version__
    assert (folder / "scores.txt").read_text() == format_table({"this run": result}, context)
