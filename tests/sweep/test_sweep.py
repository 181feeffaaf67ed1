"""Sweeps: jobs in real processes, killed and continued; on Ray where it is installed."""

import argparse
import csv
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import gin
import numpy as np
import pytest
from patches import write_patches

from submission.commands.sweep import add_arguments, options_of
from submission.data.dataset import Dataset, find_file, open_dataset
from submission.runtime.errors import UserError
from submission.runtime.paths import CONFIGS, PROJECT
from submission.sweep.job import Job, scores_of, work
from submission.sweep.plan import checked, own_copy, plan_jobs
from submission.sweep.table import write_report

SIZES = (2, 2, 2, 2, 2, 2, 2)
SMALL = """
Extractor.aggregation = "learned"
Extractor.resolution = 64
extract_features.batch_size = 32
extract_features.bfloat16 = True
VAE.latents = 4
Encoder.widths = (32,)
Encoder.init = "orthogonal"
Decoder.widths = (32,)
Decoder.init = "orthogonal"
Decoder.sigmoid = True
elbo_loss.average_over_batch = True
beta_at_epoch.beta_start = 0.001
beta_at_epoch.beta_end = 0.1
beta_at_epoch.t_start = 1
beta_at_epoch.t_end = 2
train_vae.epochs = 30
train_vae.batch_size = 64
train_vae.optimizer = "radam"
train_vae.learning_rate = 1e-3
train_vae.betas = (0.9, 0.999)
train_vae.seed = 0
"""
HAS_RAY = importlib.util.find_spec("ray") is not None


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny data set (two of its factors visible), four configurations, and a cache."""
    folder = tmp_path_factory.mktemp("sweeps")
    write_patches(folder / "data", SIZES)
    (folder / "narrow.gin").write_text(SMALL)
    (folder / "wide.gin").write_text(SMALL.replace("(32,)", "(64,)"))
    (folder / "short.gin").write_text(SMALL.replace("Extractor.resolution = 64\n", ""))
    (folder / "broken.gin").write_text(SMALL.replace("1e-3", "1e30"))
    return folder


@pytest.fixture(autouse=True)
def at_home(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith(("AICROWD", "DISENT", "SUBMISSION"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SUBMISSION_HOME", str(world))
    monkeypatch.setenv("DISENTANGLEMENT_LIB_DATA", str(world / "data"))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A temporary folder short enough for Ray's sockets; Ray's command lines name it."""
    with tempfile.TemporaryDirectory(prefix="sweep", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield folder


def arguments(world: Path, out: Path, *more: str, configs: str = "narrow") -> list[str]:
    named = [word for name in configs.split() for word in ("--config", str(world / f"{name}.gin"))]
    return [*named, "--out", str(out), "--metrics", "mig,sap,irs", "--quick", "--cpus", "1", *more]


def planned(
    world: Path, out: Path, *more: str, configs: str = "narrow", data: Dataset | None = None
) -> list[Job]:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(arguments(world, out, "--gpus", "0", *more, configs=configs))
    return plan_jobs(checked(options_of(args)), data or dataset(world), "md5 of the data")


def dataset(world: Path) -> Dataset:
    return open_dataset(world / "data", "mpi3d_real")


@pytest.mark.parametrize("place", ["mpi3d_real/mpi3d_real.npz", "mpi3d_real.npz", "real.npz"])
def test_a_jobs_folder_finds_the_sweeps_file(world: Path, tmp_path: Path, place: str) -> None:
    file = tmp_path / "data" / place
    file.parent.mkdir(parents=True)
    file.hardlink_to(dataset(world).path)
    opened = open_dataset(tmp_path / "data", "mpi3d_real")
    for job in planned(world, tmp_path / "out", data=opened):
        for command in job.commands:
            folder = Path(command[command.index("--data") + 1])
            found = find_file(folder, command[command.index("--dataset") + 1])[1]
            assert found is not None
            assert found.samefile(file)


def wait_for(there: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 900
    while not there():
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.01)


def wait_for_none(*words: str) -> None:
    """Processes need a moment to end."""
    end = time.monotonic() + 60
    while left := processes_about(*words):
        assert time.monotonic() < end, left
        time.sleep(0.1)


def interruptible() -> None:
    """Ctrl-C works in what a shell has in the foreground, not in what this test's caller may have
    put in the background, where it is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def processes_about(*words: str) -> list[str]:
    """Command lines of the processes that mention a word, from the kernel's own list."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if any(word in line for word in words) and int(path.parent.name) != os.getpid():
            found.append(line)
    return found


def test_every_configuration_with_every_seed(world: Path, tmp_path: Path) -> None:
    jobs = planned(world, tmp_path, "--seeds", "3", "VAE.latents=5", configs="narrow wide")
    assert [(job.config, job.seed) for job in jobs] == [
        (config, seed) for config in ("narrow", "wide") for seed in range(3)
    ]
    assert len({job.folder for job in jobs}) == len({job.training for job in jobs}) == 6
    for job in jobs:
        assert {"VAE.latents=5", f"train_vae.seed={job.seed}"} <= set(job.commands[0])
        assert job.environment["OMP_NUM_THREADS"] == "1"


def test_a_readout_which_has_no_seed_is_one_job(world: Path, tmp_path: Path) -> None:
    shutil.copy(CONFIGS / "readout.gin", world / "readout.gin")
    jobs = planned(world, tmp_path, "--seeds", "3", configs="narrow readout")
    names = [job.folder.name for job in jobs]
    assert names == ["narrow-seed0", "narrow-seed1", "narrow-seed2", "readout-seed0"]
    assert not [word for word in jobs[-1].commands[0] if "train_vae" in word]


@pytest.mark.parametrize(
    ("more", "configs", "says"),
    [
        (["train_vae.seed=1"], "narrow", "leave out its binding"),
        (["--seeds", "0"], "narrow", "at least 1"),
        (["--metrics", "mig,beauty"], "narrow", "unknown metric 'beauty'"),
        (["VAE.latent=3"], "narrow", "VAE.latent=3"),
        ([], "short", "Extractor.resolution has no value"),
        ([], "narrow narrow", "two configurations are called narrow"),
        ([], "nowhere", "no configuration"),
    ],
)
def test_a_mistake_is_refused_before_any_job(
    world: Path, tmp_path: Path, more: list[str], configs: str, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        planned(world, tmp_path, *more, configs=configs)


def test_a_job_reads_the_configuration_as_it_was_at_the_start(world: Path, tmp_path: Path) -> None:
    """Edited while the sweep runs, it would train something else under the first one's hash."""
    mine = tmp_path / "mine.gin"
    mine.write_text(SMALL)
    out = tmp_path / "out"
    out.mkdir()
    copy = own_copy(mine, out)
    before = gin.config_str()
    mine.write_text(SMALL.replace("VAE.latents = 4", "VAE.latents = 5"))
    assert copy.parent == out
    assert own_copy(copy, out) == copy, "as when the copy itself is named"
    assert gin.config_str() == before
    assert gin.query_parameter("VAE.latents") == 4


def test_a_jobs_share_of_the_memory_is_checked_before_the_features(
    world: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"are allowed \(a job's share by --cpus"):
        planned(world, tmp_path, "train_vae.batch_size=20000000")
    with pytest.raises(UserError, match=r"700 MiB are allowed \(--memory\)"):
        planned(world, tmp_path, "--memory", "700m")


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed here")
def test_without_ray_it_says_how_to_get_it(world: Path, tmp_path: Path) -> None:
    result = call(arguments(world, tmp_path / "out"))
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "pip install -r requirements-sweep.lock" in result.stderr
    assert not (tmp_path / "out").exists()


def call(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "submission", "sweep", *command],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def test_a_failed_job_says_why(world: Path, tmp_path: Path) -> None:
    job = planned(world, tmp_path, "--seeds", "1")[0]
    bad = replace(job, commands=(("train", "--config", str(tmp_path / "no.gin")),))
    reason = work(bad)
    assert "no configuration" in reason
    assert reason in bad.log.read_text()
    assert scores_of(bad) is None


@pytest.mark.slow
def test_a_job_outlives_its_worker_by_its_checkpoint_alone(world: Path, tmp_path: Path) -> None:
    """SIGKILL to who called `work`: the training saves and ends; `work` goes on from there, and
    the job is then known as done, as long as it is the same one."""
    job = planned(world, tmp_path, "--seeds", "1", "train_vae.epochs=3000")[0]
    (tmp_path / "call.py").write_text(
        "from pathlib import PosixPath\nfrom submission.sweep.job import Job, work\n"
        f"work({job!r})\n"
    )
    process = subprocess.Popen([sys.executable, str(tmp_path / "call.py")], text=True)
    wait_for((job.folder / "checkpoint.pt").exists, process)
    assert processes_about(str(world))
    process.kill()
    process.wait()
    wait_for_none(str(world))
    assert "stopped by SIGTERM" in job.log.read_text()
    assert scores_of(job) is None
    assert work(job) == ""
    assert "continuing after epoch" in job.log.read_text()

    scores = scores_of(job)
    assert scores is not None
    assert set(scores["scores"]["headline"]) == {"mig", "sap", "irs"}
    assert scores["seconds"] > 0
    again = planned(world, tmp_path, "--seeds", "2", "train_vae.epochs=3000")
    assert [scores_of(each) is not None for each in again] == [True, False]
    official = replace(job, scoring="all")
    assert scores_of(official) is None, "other metrics: scored again, not trained again"
    with pytest.raises(UserError, match="another configuration"):
        planned(world, tmp_path, "--seeds", "1", "train_vae.epochs=3001")
    text = (job.folder / "scores.json").read_text()
    (job.folder / "scores.json").write_text(text + " ")
    assert scores_of(job) is None, "scores that somebody else has put there since"


def put_scores(job: Job, headline: dict[str, float]) -> None:
    """What a job leaves behind, by hand."""
    job.folder.mkdir(parents=True)
    document = {
        "data": {"name": "a rendered stand-in for mpi3d_real", "stand_in": True},
        "scores": {"headline": headline, "counts": "quick"},
        "ideal_code": {"headline": dict.fromkeys(headline, 1.0)},
    }
    text = json.dumps(document)
    (job.folder / "scores.json").write_text(text)
    record = {
        "training": job.training,
        "scoring": job.scoring,
        "seconds": 61.26,
        "scores_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    (job.folder / "job.json").write_text(json.dumps(record))


def test_table_and_csv_hold_what_the_folders_hold(world: Path, tmp_path: Path) -> None:
    jobs = planned(world, tmp_path, "--seeds", "3", configs="narrow wide")
    names = ("factor_vae", "dci", "sap", "irs", "mig")
    values = np.random.default_rng(1).random((3, 5))
    for job, row in zip(jobs[:3], values.tolist(), strict=True):
        put_scores(job, dict(zip(names, row, strict=True)))
    put_scores(jobs[4], {"mig": 0.25})
    write_report(tmp_path, jobs, {"wide-seed2": "too wide"}, dataset(world), quick=True)

    with open(tmp_path / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["config"], row["seed"]) for row in rows] == [
        (config, str(seed)) for config in ("narrow", "wide") for seed in range(3)
    ]
    read = np.array([[float(row[name]) for name in names] for row in rows[:3]])
    np.testing.assert_array_equal(read, values)
    np.testing.assert_allclose([float(row["sum"]) for row in rows[:3]], values.sum(axis=1))
    assert [row["status"] for row in rows] == ["scored"] * 3 + ["not done", "scored", "failed"]
    assert {row["data"] for row in rows} == {"stand-in for mpi3d_real, NOT MPI3D"}
    assert {row["counts"] for row in rows} == {"quick"}
    assert (rows[4]["mig"], rows[4]["dci"], rows[4]["sum"]) == ("0.25", "", "")
    assert (rows[0]["seconds"], rows[3]["seconds"]) == ("61.3", "")

    table = (tmp_path / "sweep.txt").read_text()
    narrow, wide, ideal = (
        next(line for line in table.splitlines() if line.startswith(name))
        for name in ("narrow", "wide ", "ideal code")
    )
    sums = values.sum(axis=1)
    for column in [*values.T, sums]:
        assert f"{np.mean(column):.3f} +- {np.std(column, ddof=1):.3f}" in narrow
    assert "3 of 3" in narrow
    assert "1 of 3" in wide
    assert "0.250" in wide, "one seed has no deviation"
    assert "1.000" in ideal
    assert "STAND-IN for mpi3d_real, not MPI3D" in table
    assert "QUICK" in table
    assert "wide-seed2 failed: too wide" in table
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RAY, reason="Ray is an optional extra: requirements-sweep.lock")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_a_sweep_on_ray_goes_on_where_it_was(
    world: Path, tmp_path: Path, short: str, number: signal.Signals
) -> None:
    """Ctrl-C (to the whole foreground group) or SIGKILL while a second job runs; nothing is left
    running, and the same command finishes the sweep without doing the first job again."""
    command = arguments(
        world, tmp_path, "--seeds", "2", "train_vae.epochs=400", configs="narrow wide"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "submission", "sweep", *command],
        text=True,
        stderr=subprocess.PIPE,
        process_group=0,
        preexec_fn=interruptible,
    )
    record = tmp_path / "narrow-seed0" / "job.json"
    wait_for(lambda: record.exists() and "scores_sha256" in record.read_text(), process)
    waits = [tmp_path / f"{name}" / "checkpoint.pt" for name in ("wide-seed0", "wide-seed1")]
    wait_for(lambda: any(path.exists() for path in waits), process)
    assert any("raylet" in line for line in processes_about(short))
    assert any("--name wide" in line for line in processes_about(str(world)))
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 130
        assert "the same command goes on from there" in said
        assert "Traceback" not in said
        assert not processes_about(str(world)), "a training outlives the sweep"
    else:
        process.kill()
        process.communicate()
    wait_for_none(str(world), short)
    first = record.stat().st_mtime_ns
    result = call(command)
    assert result.returncode == 0, result.stderr
    assert record.stat().st_mtime_ns == first, "what was done is not done again"
    logs = "".join(path.read_text() for path in tmp_path.glob("*/job.log"))
    assert "continuing after epoch" in logs
    with open(tmp_path / "sweep.csv", newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["scored"] * 4
    assert (tmp_path / "sweep.txt").read_text() in result.stdout
    wait_for_none(str(world), short)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RAY, reason="Ray is an optional extra: requirements-sweep.lock")
def test_one_failing_job_stops_no_other(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a temporary folder whose name is too long for Ray's sockets, as schedulers give."""
    deep = tmp_path / ("deep" * 10)
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    command = arguments(world, tmp_path, "--seeds", "1", configs="broken narrow")
    result = call(command)
    assert result.returncode == 1
    assert "broken-seed0 failed: the loss is not finite" in result.stderr
    assert "jobs failed: 1" in result.stderr.splitlines()[-1]
    with open(tmp_path / "sweep.csv", newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["failed", "scored"]


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RAY, reason="Ray is an optional extra: requirements-sweep.lock")
def test_a_job_that_cannot_begin_says_why(world: Path, tmp_path: Path) -> None:
    """Its folder is a file: an error of the worker's own, not of the commands that it calls."""
    (tmp_path / "narrow-seed0").write_text("somebody's")
    result = call(arguments(world, tmp_path, "--seeds", "1"))
    assert result.returncode == 1
    assert "narrow-seed0 failed: [Errno 17] File exists: " in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "narrow-seed0").read_text() == "somebody's"
