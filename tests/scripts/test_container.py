"""The image as the server builds and runs it: a real engine, real limits, a real push.

SUBMISSION_BASE names another base image than the Dockerfile's, SUBMISSION_BUILD_NETWORK the
network of its build (.ci/engine makes the one and needs the other).
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from test_evaluate import data, git  # noqa: F401 (data is a fixture)

from submission.__main__ import main
from submission.runtime.paths import PROJECT

IMAGE = "submission-test"
BUILD = [*(["--build-arg", f"BASE={base}"] if (base := os.environ.get("SUBMISSION_BASE")) else [])]
NETWORK = os.environ.get("SUBMISSION_BUILD_NETWORK")
FAST = [
    "--quick",
    "train_vae.epochs=2",
    "Encoder.widths=(32,)",
    "Decoder.widths=(32,)",
    "VAE.latents=4",
]

pytestmark = [pytest.mark.container, pytest.mark.usefixtures("engine")]


def docker(*arguments: str, code: int = 0) -> str:
    result = subprocess.run(
        ["docker", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == code, result.stdout[-3000:]
    return result.stdout


@pytest.fixture(scope="session")
def image(engine: None) -> str:
    network = ["--network", NETWORK] if NETWORK else []
    docker("build", *BUILD, *network, "--tag", IMAGE, str(PROJECT))
    return IMAGE


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    folder.chmod(0o777)  # the image's user is another than the one of these tests
    return folder


def test_the_image_holds_the_project_and_nothing_else(image: str) -> None:
    listed = docker("run", "--rm", image, "bash", "-c", "id -un; pwd; ls -A; ls -A submission")
    assert listed.split()[:2] == ["aicrowd", "/home/aicrowd"]
    assert {"run.sh", "prepare.sh", "aicrowd.json", "requirements.lock"} <= set(listed.split())
    assert not {"tests", ".git", ".venv", "scratch", ".ci", "__pycache__"} & set(listed.split())
    tools = docker(
        "run",
        "--rm",
        "--user",
        "0",
        image,
        "bash",
        "-c",
        "command -v gcc cc g++ make; ls -A /root/.cache /home/aicrowd/.cache 2>/dev/null; true",
    )
    assert tools == ""


def test_it_runs_locked_in(image: str, data: Path, output: Path) -> None:  # noqa: F811
    """Not root, no network, nothing writable but the output and a scratch folder."""
    printed = docker(
        "run",
        "--rm",
        "--network",
        "none",
        "--read-only",
        "--tmpfs",
        "/scratch",
        "--memory",
        "4g",
        "--memory-swap",
        "4g",
        "--volume",
        f"{data}:/data:ro",
        "--volume",
        f"{output}:/output",
        "--env",
        "DISENTANGLEMENT_LIB_DATA=/data",
        "--env",
        "AICROWD_OUTPUT_PATH=/output",
        image,
        "./run.sh",
        *FAST,
    )
    assert "NOT MPI3D" in printed
    assert "128 images, grid 2 x 2 x 2 x 2 x 2 x 2 x 2" in " ".join(printed.split())
    model = torch.jit.load(str(output / "dry_run" / "representation" / "pytorch_model.pt"))
    assert model(torch.rand(16, 3, 64, 64)).shape == (16, 4)
    assert (output / "dry_run").stat().st_uid == 1000


def test_it_runs_as_root_from_another_mount_point(
    image: str,
    data: Path,  # noqa: F811
    output: Path,
) -> None:
    printed = docker(
        "run",
        "--rm",
        "--user",
        "0",
        "--network",
        "none",
        "--volume",
        f"{PROJECT}:/elsewhere:ro",
        "--volume",
        f"{data}:/data:ro",
        "--volume",
        f"{output}:/output",
        "--env",
        "DISENTANGLEMENT_LIB_DATA=/data",
        "--env",
        "AICROWD_OUTPUT_PATH=/output",
        image,
        "/elsewhere/run.sh",
        "--metrics",
        "mig,irs",
        *FAST,
    )
    assert "NOT MPI3D" in printed
    assert (output / "dry_run" / "scores.json").exists()


def test_it_renders_where_there_is_no_data(image: str) -> None:
    """numba compiles and keeps its cache under a read-only root."""
    printed = docker(
        "run",
        "--rm",
        "--network",
        "none",
        "--read-only",
        "--tmpfs",
        "/scratch",
        image,
        "python",
        "-m",
        "submission",
        "render",
        "--domain",
        "toy",
        "--axis-steps",
        "2",
        "--out",
        "/scratch/thin",
    )
    assert "2592/2592" in printed


def test_a_pushed_tag_is_evaluated(
    image: str,
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a participant does: a smaller public.gin, committed, tagged, pushed."""
    copy = tmp_path / "copy"
    shutil.copytree(
        PROJECT,
        copy,
        ignore=shutil.ignore_patterns(".git", ".venv", "scratch", "__pycache__", ".*_cache"),
    )
    config = copy / "submission" / "configs" / "public.gin"
    text = config.read_text()
    for old, new in (
        ("(1024, 1024, 1024, 1024)", "(32,)"),
        ("epochs = 100", "epochs = 2"),
        ("latents = 16", "latents = 5"),
    ):
        assert old in text
        text = text.replace(old, new)
    config.write_text(text)
    git(copy, "init", "--quiet", "--initial-branch", "main")
    git(copy, "add", ".")
    git(copy, "commit", "--quiet", "-m", "smaller, for two cores")
    git(copy, "tag", "submission-v0.1")
    server = tmp_path / "server"
    monkeypatch.setenv("SUBMISSION_HOME", str(tmp_path / "home"))
    options = ["--quick", "--data", str(data), "--dataset", "mpi3d_real", "--memory", "4g"]
    network = ["--build-network", NETWORK] if NETWORK else []
    assert main(["remote", str(server), *options, *BUILD, *network]) == 0
    git(copy, "remote", "add", "local", str(server))
    pushed = subprocess.run(
        ["git", "-C", str(copy), "push", "local", "main", "submission-v0.1"],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout
    (row,) = json.loads((server / "leaderboard.json").read_text())
    assert row["status"] == "ok", Path(row["log"]).read_text()[-3000:]
    assert 0 <= row["scores"]["mig"] <= 1
    heard = next(line for line in pushed.splitlines() if "the grader heard" in line)
    assert "1 x execution_started" in heard
    assert "1 x submit" in heard
    assert "Local leaderboard on a rendered STAND-IN" in pushed
    assert f"{row['scores']['mig']:.3f} (1)" in pushed, "the pusher's terminal shows the result"
    folder = Path(row["log"]).parent / "output" / "submission-v0.1" / "representation"
    model = torch.jit.load(str(folder / "pytorch_model.pt"))
    assert model(torch.rand(64, 3, 64, 64)).shape == (64, 5)
    assert (folder / "results").is_dir()


# run.sh of a submission made to fail; options; status; what the log must say.
FAILURES: dict[str, tuple[str, list[str], str, str]] = {
    "memory": (
        'python -c "b = bytearray(600 << 20); print(len(b))"',
        ["--memory", "200m"],
        "killed for memory",
        "more than 200m",
    ),
    "nothing exported": ("true", [], "no model", "it exported no submission-bad/representation"),
    "too slow": ("sleep 600", ["--hours", "0.002"], "time out", "killed after 0.002 hours"),
    "build error": ("", [], "build error", "docker build failed"),
}


def evaluate(
    repo: Path, script: str, dockerfile: str, folder: Path, *options: str
) -> tuple[dict[str, Any], str]:
    """Evaluates a submission that fails; its row of the leaderboard, and its log."""
    repo.mkdir()
    (repo / "run.sh").write_text(f"#!/bin/bash\nset -e\n{script}\n")
    (repo / "run.sh").chmod(0o755)
    (repo / "Dockerfile").write_text(f"{dockerfile}\nCOPY run.sh run.sh\n")
    git(repo, "init", "--quiet")
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "-m", "made to fail")
    git(repo, "tag", "submission-bad")
    command = ["evaluate", "--tag", "submission-bad", "--repo", str(repo), "--data", str(folder)]
    board = repo / "leaderboard.json"
    with pytest.raises(SystemExit) as end:
        main([*command, "--dataset", "mpi3d_real", "--leaderboard", str(board), *options])
    assert end.value.code == 1
    (row,) = json.loads(board.read_text())
    return row, Path(row["log"]).read_text()


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_in_the_container_says_which(
    case: str,
    image: str,
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script, options, status, logged = FAILURES[case]
    monkeypatch.setenv("SUBMISSION_HOME", str(tmp_path / "home"))
    dockerfile = f"FROM {image}" + ("\nRUN false" if case == "build error" else "")
    row, log = evaluate(tmp_path / "repo", script, dockerfile, data, *options)
    assert row["status"] == status
    assert logged in log
    name = f"submission-evaluate-{os.getpid()}"
    assert name not in docker("ps", "--all", "--format", "{{.Names}}"), "the container is gone"
    assert name not in docker("network", "ls", "--format", "{{.Name}}"), "and its network"


REACH = """python - <<'END'
import os, redis, socket
def connect():
    socket.create_connection(("{address}", 8000), 5).close()
    print("the other container answers")
def tell():
    redis.Redis(os.environ["AICROWD_REDIS_HOST"], int(os.environ["AICROWD_REDIS_PORT"])).ping()
    print("redis answers")
def configure():
    redis.Redis(
        os.environ["AICROWD_REDIS_HOST"], int(os.environ["AICROWD_REDIS_PORT"])
    ).config_set("dir", "/")
    print("redis obeys")
for attempt in (connect, tell, configure):
    try:
        attempt()
    except Exception as error:
        print(attempt.__name__, "refused")
flags = os.statvfs("/data/mpi3d_real/mpi3d_real.npz").f_flag if os.path.exists("/data") else 0
print("data read-only", bool(flags & os.ST_RDONLY))
END"""


def test_the_submission_reaches_its_grader_and_nothing_else(
    image: str,
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another container serves a port: Docker's own network reaches it, a submission does not."""
    monkeypatch.setenv("SUBMISSION_HOME", str(tmp_path / "home"))
    server = ["python", "-m", "http.server", "8000"]
    other = docker("run", "--detach", "--rm", image, *server).strip()
    try:
        address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", other).strip()
        script = REACH.replace("{address}", address)
        control = docker("run", "--rm", image, "bash", "-c", script)
        assert "the other container answers" in control
        row, log = evaluate(tmp_path / "repo", script, f"FROM {image}", data)
    finally:
        docker("rm", "--force", other)
    assert row["status"] == "no model"
    said = "connect refused\nredis answers\nconfigure refused\ndata read-only True\n"
    assert said in log
