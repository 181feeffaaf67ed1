"""Evaluation of tags without a container: tiny repositories, real git, a real redis-server."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from patches import write_patches

from submission.__main__ import main
from submission.metrics.tensorflow_route import is_installed
from submission.runtime.paths import PROJECT

Evaluate = Callable[..., tuple[int, dict[str, Any]]]
SIZES = (2, 2, 2, 2, 2, 2, 2)

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None and not os.environ.get("REQUIRE_CONTAINER"),
    reason="no redis-server here: apt-get install redis-server",
)


class Codes(torch.nn.Module):
    """Takes the means of four patches of an image, or misbehaves."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        codes = torch.stack([x[:, 0].mean((1, 2)), x[:, 2, :, :16].mean((1, 2))], 1)
        if self.fault == "shape":
            return x.mean(1)
        if self.fault == "nan":
            return codes / 0.0 * 0.0
        if self.fault == "sparse":
            return codes.to_sparse()
        if self.fault == "late nan":  # in bright images only, which do not come first
            return torch.where(codes[:, 1:] > 0.8, codes / 0.0 * 0.0, codes)
        return codes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, named as --mount has to quote, with 128 images, two of their factors visible."""
    folder = tmp_path_factory.mktemp("da,ta")
    folder.chmod(0o755)  # for an image's user, who is another
    write_patches(folder, SIZES, red=(1, 100), blue=(0, 210))
    return folder


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(
        ["git", *who, "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def repository(folder: Path, script: str, model: torch.nn.Module | None = None) -> Path:
    """A repository whose run.sh is `script`, tagged; `place` copies the model to its place."""
    folder.mkdir(parents=True)
    if model is not None:
        torch.jit.script(model).save(str(folder / "model.pt"))
    place = (
        'place() { to="$AICROWD_OUTPUT_PATH/$AICROWD_EVALUATION_NAME/representation"\n'
        'mkdir -p "$to/results"; cp "$1" "$to/pytorch_model.pt"; }\n'
    )
    (folder / "run.sh").write_text(f"#!/bin/bash\nset -e\n{place}{script}\n")
    (folder / "run.sh").chmod(0o755)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "a submission")
    git(folder, "tag", "submission-v1")
    return folder


@pytest.fixture
def evaluate(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """Evaluates a repository; returns exit code and the leaderboard's last row."""
    for name in [n for n in os.environ if n.startswith(("AICROWD", "DISENT", "SUBMISSION"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SUBMISSION_HOME", str(tmp_path / "my home"))

    def call(repo: Path, *options: str) -> tuple[int, dict[str, Any]]:
        command = [
            "evaluate",
            "--no-container",
            "--quick",
            "--tag",
            "submission-v1",
            "--device",
            "cpu",
            "--repo",
            str(repo),
            "--data",
            str(data),
            "--dataset",
            "mpi3d_real",
            *options,
        ]
        try:
            code = main(command)
        except SystemExit as end:
            code = int(end.code or 0)
        board = tmp_path / "my home" / "leaderboard.json"
        rows = json.loads(board.read_text()) if board.exists() else [{}]
        return code, rows[-1]

    return call


@needs_redis
def test_a_good_submission_gets_a_rank(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its run.sh sees the challenge's environment, and its grader takes and answers events."""
    script = f"""
env >"$AICROWD_OUTPUT_PATH/environment"
"{sys.executable}" - <<'END'
from aicrowd_api.events import AIcrowdEvents
from crowdai_api.events import CrowdAIEvents
prefix = "disentanglement_challenge:"
for wire, api in ("AICROWD", AIcrowdEvents()), ("CROWDAI", CrowdAIEvents()):
    def send(kind, name, blocking=False):
        api.register_event(f"{{wire}}_EVENT_{{kind}}", "", {{"event_type": name}}, blocking)
    send("INFO", prefix + "execution_started")
    send("INFO", "\\x1b[2J no event of the challenge")
    send("SUCCESS", prefix + "submit", blocking=True)
END
place model.pt
"""
    code, row = evaluate(repository(tmp_path / "repo", script, Codes()))
    printed = capsys.readouterr().out
    assert code == 0, Path(row["log"]).read_text()
    assert row["status"] == "ok"
    assert row["scorer"] == ("tensorflow" if is_installed() else "light")
    assert ("scored without TensorFlow" in printed) == (not is_installed())
    assert set(row["scores"]) == {"factor_vae", "dci", "sap", "irs", "mig"}
    assert row["commit"] == git(tmp_path / "repo", "rev-parse", "HEAD")
    for wire in ("AICROWD", "CROWDAI"):
        heard = f"1 x execution_started, 1 x unknown, 1 x submit ({wire})"
        assert heard in printed, "each blocking event was answered"
    assert "STAND-IN" in printed
    assert "NOT MPI3D" in printed
    assert "arXiv" not in printed.split("Local leaderboard")[1], "no paper's row on a stand-in"
    assert "(1)" in printed
    folder = Path(row["log"]).parent
    seen = (folder / "output" / "environment").read_text().splitlines()
    for line in (
        "AICROWD_IS_GRADING=True",
        "AICROWD_DATASET_NAME=mpi3d_real",
        "AICROWD_EVALUATION_NAME=submission-v1",
        "AICROWD_REDIS_HOST=127.0.0.1",
        "CROWDAI_IS_GRADING=True",
    ):
        assert line in seen
    assert not (folder / "clone").exists()
    code, again = evaluate(tmp_path / "repo", "--once")
    assert code == 0
    assert again == row, "its commit has a row: nothing is done"
    assert "evaluated already" in capsys.readouterr().out


FAILURES = {
    "nothing exported": ("true", None, "no model", "exported no submission-v1/representation"),
    "run fails": ("echo out of luck; exit 3", None, "run failed", "exit code 3"),
    "wrong shape": ("place model.pt", Codes("shape"), "wrong shape", "(16, 64, 64) on 16 images"),
    "NaN": ("place model.pt", Codes("nan"), "NaN", "NaN"),
    "sparse": ("place model.pt", Codes("sparse"), "wrong shape", "no plain array"),
    "NaN later on": ("place model.pt", Codes("late nan"), "bad codes", "over all images"),
    "a link elsewhere": (
        'place model.pt; ln -sf /etc/passwd "$to/pytorch_model.pt"',
        Codes(),
        "no model",
        "no",
    ),
    "no run.sh": ("true", None, "build error", "no executable run.sh"),
    "packages": ("true", None, "build error", "prepare.sh could not install"),
    "too slow": ("sleep 600", None, "time out", "killed after 0.0005 hours"),
}


@needs_redis
@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_gets_a_row_that_says_which(
    case: str, evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script, model, status, reason = FAILURES[case]
    repo = repository(tmp_path / "repo", script, model)
    if case == "no run.sh":
        git(repo, "rm", "--quiet", "run.sh")
    if case == "packages":
        (repo / "prepare.sh").write_text("prepare() { echo no such package >&2; exit 2; }\n")
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "--allow-empty", "-m", "as the case has it")
    git(repo, "tag", "--force", "submission-v1")
    hours = ["--hours", "0.0005"] if case == "too slow" else []
    code, row = evaluate(repo, *hours)
    assert code == 1
    assert row["status"] == status
    assert reason in row["reason"]
    assert "scores" not in row
    said = capsys.readouterr()
    assert row["reason"] in said.err
    assert row["reason"] in said.out, "in the table, too"
    log = Path(row["log"]).read_text()
    assert row["reason"] in log
    if case == "run fails":
        assert "out of luck" in log


@pytest.mark.slow
@needs_redis
@pytest.mark.skipif(not is_installed(), reason="an optional extra: requirements-tensorflow.lock")
def test_it_scores_with_tensorflow_where_that_is_installed(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = repository(tmp_path / "repo", "place model.pt", Codes())
    scores = {}
    for options, scorer in (((), "tensorflow"), (("--scorer", "light"), "light")):
        code, row = evaluate(repo, *options)
        assert code == 0, row
        assert row["scorer"] == scorer
        assert "scored without TensorFlow" not in capsys.readouterr().out
        written = json.loads((Path(row["log"]).parent / "scores.json").read_text())
        assert ("tensorflow" in written["versions"]) == (scorer == "tensorflow")
        scores[scorer] = row["scores"]
    same = ("factor_vae", "sap", "irs", "mig")
    for metric in same:
        assert scores["tensorflow"][metric] == pytest.approx(scores["light"][metric], abs=1e-8)


@needs_redis
def test_a_pickled_module_is_not_loaded(evaluate: Evaluate, tmp_path: Path) -> None:
    """It would run code of the submission's choice outside the container."""
    marker = tmp_path / "ran"
    script = f"""
"{sys.executable}" - <<'END'
import pathlib, torch
class Trap:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("{marker}"),)
torch.save(Trap(), "model.pt")
END
place model.pt
"""
    code, row = evaluate(repository(tmp_path / "repo", script))
    assert code == 1
    assert row["status"] == "no TorchScript"
    assert "pickled" in row["reason"]
    assert not marker.exists()


@pytest.mark.slow
@needs_redis
@pytest.mark.skipif(os.getuid() != 0, reason="a control group needs root here")
def test_too_much_memory_without_a_container(evaluate: Evaluate, tmp_path: Path) -> None:
    script = f'"{sys.executable}" -c "b = bytearray(400 << 20); print(len(b))"\nplace model.pt'
    repo = repository(tmp_path / "repo", script, Codes())
    code, row = evaluate(repo, "--memory", "100m")
    assert code == 1
    assert row["status"] == "killed for memory"
    assert "100m" in row["reason"]
    code, row = evaluate(repo, "--memory", "2g")
    assert code == 0, "the same submission under a limit that suffices"


MISTAKES = {
    "no such tag": (["--tag", "submission-v9"], "no tag 'submission-v9'"),
    "no repository": (["--repo", "/nowhere/at/all"], "/nowhere/at/all cannot be read"),
    "no size": (["--memory", "much"], "'much'"),
    "no time": (["--hours", "0"], "--hours 0 must be above 0"),
    "no data": (["--dataset", "mpi3d_toy"], "mpi3d_toy.npz"),
    "no leaderboard": (["--leaderboard", "odd.json"], "odd.json is no leaderboard"),
    "no folder": (["--leaderboard", "odd.json/board.json"], "odd.json cannot be written"),
    "no GPU": (["--device", "cuda:99"], "no device 'cuda:99' here"),
    "damaged data": (["--data", "damaged"], "truncated or corrupt"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence(
    mistake: str,
    evaluate: Evaluate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.json").write_text("{}")
    write_patches(tmp_path / "damaged", SIZES)
    with open(tmp_path / "damaged" / "mpi3d_real" / "mpi3d_real.npz", "r+b") as file:
        file.seek(5000)
        file.write(b"\1\2")
    options, message = MISTAKES[mistake]
    code, _ = evaluate(repository(tmp_path / "repo", "true"), *options)
    said = capsys.readouterr().err
    assert code == 2
    assert message in said
    assert said.count("error: ") == 1
    assert not (tmp_path / "my home" / "leaderboard.json").exists()
    assert (tmp_path / "odd.json").read_text() == "{}"
    assert not (tmp_path / "my home" / "evaluations").exists(), "nothing was begun"


@pytest.mark.slow
@needs_redis
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_that_was_begun(
    number: signal.Signals, data: Path, tmp_path: Path
) -> None:
    """The run, which would go on without a clock; the grader; the control group; the clone."""
    home, started = tmp_path / "home", tmp_path / "started"
    repo = repository(tmp_path / "repo", f"echo $$ >{started}; exec sleep 600", Codes())
    command = [
        sys.executable,
        "-m",
        "submission",
        "evaluate",
        "--no-container",
        "--quick",
        "--tag",
        "submission-v1",
        "--repo",
        str(repo),
        "--data",
        str(data),
        "--dataset",
        "mpi3d_real",
    ]
    process = subprocess.Popen(
        command,
        env=os.environ | {"SUBMISSION_HOME": str(home)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=PROJECT,
    )
    while not (started.exists() and started.read_text().strip()):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}: this evaluation has no row" in printed
    assert "Traceback" not in printed
    assert not Path(f"/proc/{started.read_text().strip()}").exists()
    (folder,) = (home / "evaluations").iterdir()
    assert not (folder / "clone").exists()
    running = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
    assert not any(str(folder).encode() in line for line in running)
    port = (folder / "redis.conf").read_text().split("port ")[1].split()[0]
    with pytest.raises(OSError, match="refused"):  # the grader's
        socket.create_connection(("127.0.0.1", int(port)))
    assert not list(Path("/sys/fs/cgroup").rglob(f"submission-evaluate-{process.pid}"))
    assert not (home / "leaderboard.json").exists()


def test_without_an_engine_it_offers_no_container(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    monkeypatch.setenv("SUBMISSION_HOME", str(tmp_path / "my home"))
    repo = repository(tmp_path / "repo", "true")
    command = ["evaluate", "--tag", "submission-v1", "--repo", str(repo), "--data", str(data)]
    assert main(command) == 2
    assert "--no-container" in capsys.readouterr().err


def test_remote_makes_a_repository_and_spares_what_is_there(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISENTANGLEMENT_LIB_DATA", str(data))
    monkeypatch.setenv("SUBMISSION_HOME", str(tmp_path / "home"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    assert main(["remote", str(tmp_path / "mine")]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]
    assert main(["remote", str(tmp_path / "server"), "--quick"]) == 0
    assert main(["remote", str(tmp_path / "server"), "--quick", "--memory", "1g"]) == 0
    assert "--memory 1g" in (tmp_path / "server" / "hooks" / "post-receive").read_text()
    with pytest.raises(SystemExit) as wrong:
        main(["remote", str(tmp_path / "other"), "--memoir", "1g"])
    assert wrong.value.code == 2
    assert main(["remote", str(tmp_path / "other"), "--dataset", "mpi3d_toy"]) == 2
    assert "mpi3d_toy.npz" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_closed_pipe_and_a_poor_terminal_are_no_mistakes(data: Path, tmp_path: Path) -> None:
    """As `... | head -1` closes it; and a terminal that has no tick for the list."""
    command = [sys.executable, "-m", "submission"]
    home = os.environ | {"SUBMISSION_HOME": str(tmp_path / "home"), "PYTHONIOENCODING": "ascii"}
    remote = subprocess.Popen(
        [
            *command,
            "remote",
            str(tmp_path / "server"),
            "--data",
            str(data),
            "--dataset",
            "mpi3d_real",
        ],
        env=home,
        cwd=PROJECT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert remote.stdout
    assert remote.stderr
    remote.stdout.close()
    assert remote.stderr.read() == ""
    assert remote.wait() == 141
    repo = repository(tmp_path / "repo", "true")
    shutil.copytree(PROJECT / "submission", repo / "submission")
    listed = subprocess.run(
        [*command, "check", "--config", "dry_run.gin", "extract_features.batch_size=8"],
        env=home | {"PYTHONPATH": str(repo)},
        cwd=repo,
        text=True,
        capture_output=True,
        check=False,
    )
    assert "? run.sh: executable, and" in listed.stdout, listed.stderr
    assert listed.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams_are_silence(streams: str, data: Path, tmp_path: Path) -> None:
    """The work is done; a mistake is told by the exit code, and by nothing in the other stream."""
    command = f'exec "$@" {streams}'
    python = ["sh", "-c", command, "sh", sys.executable, "-m", "submission"]
    options: dict[str, Any] = {"cwd": PROJECT, "capture_output": True, "text": True}
    for name, code in (("mpi3d_real", 0), ("mpi3d_toy", 2)):
        folder = tmp_path / name
        words = ["remote", str(folder), "--data", str(data), "--dataset", name]
        done = subprocess.run([*python, *words], check=False, **options)
        assert done.returncode == code, done
        assert "Traceback" not in done.stderr
        if code == 0:
            hook = (folder / "hooks" / "post-receive").read_text()
            assert hook.startswith("#!/bin/sh\n")
        else:
            assert done.stdout == ""
            assert done.stderr.startswith("error: ") == (streams == ">&-")


@pytest.mark.slow
@needs_redis
def test_pushing_a_tag_evaluates_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a container; the printed result reaches the pusher's terminal, whatever hooks the
    user has set for all repositories."""
    (tmp_path / "gitconfig").write_text(f"[core]\nhooksPath = {tmp_path}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("SUBMISSION_HOME", str(tmp_path / "my home"))
    server = tmp_path / "server"
    options = ["--no-container", "--quick", "--device", "cpu", "--data", str(data)]
    assert main(["remote", str(server), *options, "--dataset", "mpi3d_real"]) == 0
    repo = repository(tmp_path / "repo", "place model.pt", Codes())
    git(repo, "tag", "another-name")
    git(repo, "tag", "submission-again")

    def push(*what: str) -> str:
        return subprocess.run(
            ["git", "-C", str(repo), "push", str(server), *what],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ).stdout

    assert "log: " not in push("HEAD:refs/heads/main", "another-name")
    printed = push("submission-v1")
    assert "Local leaderboard" in printed, printed
    rows = json.loads((server / "leaderboard.json").read_text())
    assert [row["status"] for row in rows] == ["ok"]
    assert "evaluated already" in push("submission-again")
    assert "remote: " not in push("--delete", "submission-v1")
