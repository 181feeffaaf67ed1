"""`./run.sh` without arguments: several configurations on one data set, one table, one report."""

import json
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from test_resume import Run as Process
from test_resume import World
from test_run import FAST, GROUPS, environment, world  # noqa: F401 (world is a fixture)

from submission.__main__ import main
from submission.commands import run
from submission.data.factors import FACTOR_NAMES
from submission.latents.export import load
from submission.runtime.files import sha256

# The columns as shipped, but small; the gin files are written by the fixture.
TITLES = ("paper's method", "ours")
FOLDERS = ("dry_run", "dry_run_refined")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for runs, and two small configurations in the place of the dry run's."""
    shipped = [run.DRY_RUNS[0], run.DRY_RUNS[-1]]
    assert [title for title, *_ in shipped] == list(TITLES)
    files = []
    for name, own in (("dry_run.gin", FAST), ("refined.gin", GROUPS)):
        lines = [f'include "{name}"', *own, *(["train_vae.epochs=8"] if own is GROUPS else [])]
        files.append(tmp_path / f"small_{name}")
        files[-1].write_text("\n".join(dict.fromkeys(_last_binding(lines))) + "\n")
    small = zip(shipped, files, strict=True)
    monkeypatch.setattr(run, "DRY_RUNS", [(t, str(f), s) for (t, _, s), f in small])
    return tmp_path


def _last_binding(lines: Sequence[str]) -> list[str]:
    """Of lines that bind the same parameter the last."""
    return list({line.partition("=")[0]: line for line in lines}.values())


def here(world: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    for name in ("AICROWD_EVALUATION_NAME", "AICROWD_IS_GRADING"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment(world, output).items():
        if name != "AICROWD_EVALUATION_NAME":
            monkeypatch.setenv(name, value)


@pytest.mark.slow
def test_one_table_one_report_and_a_folder_for_each(
    world: Path,  # noqa: F811
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here(world, small, monkeypatch)
    command = ["run", "--quick", "--metrics", "mig,irs"]
    assert main(command) == 0
    first, second = (small / name for name in FOLDERS)
    printed = capsys.readouterr().out
    kept = (first / "comparison.txt").read_text()
    report = f"the report, for a browser: {first / 'report.html'}\n\n"
    assert report in printed
    assert kept in printed.replace(report, ""), "the table and the times"
    table = kept.partition("\n\n")[0]
    head = " ".join(table.splitlines()[0].split())
    assert head == "metric paper's method ours ideal code published"
    scores = [json.loads((folder / "scores.json").read_text()) for folder in (first, second)]
    for metric, title in (("mig", "MIG"), ("irs", "IRS")):
        row = next(line.split()[1:] for line in table.splitlines() if line.startswith(title))
        own = [each["scores"]["headline"][metric] for each in scores]
        assert row[:2] == [f"{value:.3f}" for value in own]
    # The stages of both under it, in columns.
    times = printed.rpartition("peak memory\n")
    assert times[0].rstrip().endswith("together"), "the head's last column but one"
    rows = {line.split("  ")[0]: line for line in times[2].splitlines()}
    for stage in ("features", "VAE", "scoring"):
        assert len(re.findall(r"\d+:\d\d", rows[stage])) == 3
    assert len(re.findall(r"\d+:\d\d", rows["report"])) == 1
    # Each explains itself; what compares them is in the first.
    for folder in (first, second):
        left = {path.name for path in folder.iterdir()}
        assert {"config.gin", "train.log", "scores.txt", "scores.png", "stages.json"} <= left
    assert "train_groups.groups = 2" in (second / "config.gin").read_text()
    assert "train_groups" not in (first / "config.gin").read_text()
    assert "small_refined.gin" not in (first / "train.log").read_text()
    assert not (second / "report.html").exists()
    assert (first / "comparison.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    page = (first / "report.html").read_text(encoding="utf-8")
    assert "ours (dry_run_refined) beside paper" in page
    assert page.count(FACTOR_NAMES[0].replace("_", " ")) >= 2, "a heat map of each"

    # Again: nothing is trained, and the second is what it is when it is trained alone.
    models = [sha256(folder / "representation" / "pytorch_model.pt") for folder in (first, second)]
    assert main(command) == 0
    logs = [folder / "train.log" for folder in (first, second)]
    assert [log.read_text().count("nothing to train") for log in logs] == [1, 1]
    alone = ["--config", str(small / "small_refined.gin"), "--name"]
    assert main([*command, *alone, FOLDERS[1]]) == 0
    assert logs[1].read_text().count("nothing to train") == 2
    assert (second / "report.html").exists(), "of one run, too"
    assert main(["train", *alone, "alone"]) == 0
    model = Path("representation", "pytorch_model.pt")
    assert models == [sha256(folder / model) for folder in (first, second)]
    # The file's bytes count how many were traced in their process; what it answers does not.
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        codes = [load(folder / model)(images) for folder in (second, small / "alone")]
    assert torch.equal(*codes)


def test_a_name_is_the_firsts_and_bindings_are_one_configurations(
    world: Path,  # noqa: F811
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import argparse

    here(world, small, monkeypatch)
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)

    def folders(*command: str) -> list[str]:
        asked = run._asked_for(parser.parse_args(command), run.Stages(), True)
        return [one.folder.name for one in asked]

    assert folders() == list(FOLDERS)
    assert folders("--name", "mine", "--quick") == ["mine", "mine_refined"]
    assert folders("--config", "public.gin", "--name", "mine") == ["mine"]
    assert folders("--name", "beta1", "beta_at_epoch.beta_end=1.0") == ["beta1"]
    monkeypatch.setenv("AICROWD_EVALUATION_NAME", "given")
    assert folders() == ["given", "given_refined"]


def test_the_heads_are_a_column_and_have_no_seed() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    asked = run._asked_for(parser.parse_args(["--seeds", "3"]), run.Stages(), True)
    configs = {one.options.config.name: one.options.seeds for one in asked}
    assert configs == {"dry_run.gin": 3, "readout.gin": 1, "dry_run_refined.gin": 3}


def test_what_the_last_one_needs_is_refused_before_the_first_is_trained(
    world: Path,  # noqa: F811
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here(world, small, monkeypatch)
    with open(small / "small_refined.gin", "a") as file:
        file.write("train_groups.sample=100000000\n")
    lines = (small / "small_refined.gin").read_text().splitlines()
    wide = [line for line in lines if "epochs" not in line] + ["Encoder.widths=(30000, 30000)"]
    (small / "small_refined.gin").write_text("\n".join(wide) + "\n")
    assert main(["run", "--quick", "--memory", "4g"]) == 2
    said = capsys.readouterr().err
    assert "4,096 MiB are allowed (--memory)" in said
    assert not list(small.rglob("*.pt"))
    # So is a run that is at work in the last one's folder.
    import fcntl

    (small / FOLDERS[1]).mkdir(exist_ok=True)
    with open(small / FOLDERS[1] / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["run", "--quick"]) == 2
    assert f"another run is working on {small / FOLDERS[1]}" in capsys.readouterr().err
    assert not list(small.rglob("*.pt"))


@pytest.mark.slow
def test_stopped_in_the_second_the_first_is_not_trained_again(tmp_path: Path) -> None:
    import numpy as np

    images = np.random.default_rng(0).integers(0, 256, (128, 64, 64, 3), dtype=np.uint8)
    place = World(tmp_path, images, (2,) * 7)
    arguments = ["run", "--quick", "--metrics", "mig"]
    process = Process(arguments, place.environment(), tmp_path / "said.txt")
    second = place.output / FOLDERS[1]
    process.wait_for(lambda: list(second.rglob("checkpoint.pt")))
    process.send(signal.SIGTERM)
    code, said = process.end()
    assert code == 143, said
    assert not (second / "scores.json").exists()
    model = place.output / FOLDERS[0] / "representation" / "pytorch_model.pt"
    exported = model.stat().st_mtime_ns
    code, said = Process(arguments, place.environment(), tmp_path / "said.txt").end()
    assert code == 0, said
    assert "continuing after epoch" in said
    assert model.stat().st_mtime_ns == exported
    assert "paper's method" in said.rpartition("STAND-IN")[2]
