"""`check` on real repositories, and the pins that conda and pip read."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from submission.runtime import paths
from submission.runtime.paths import PROJECT
from submission.server import preflight
from submission.server.preflight import conda_pins, lock_pins

TAG = "submission-v1"
WEIGHTS = "submission/weights/vgg19_bn_agg.safetensors"


def git(repository: Path, *command: str) -> str:
    who = ["-c", "user.name=A. Tester", "-c", "user.email=tester@example.org"]
    return subprocess.run(
        ["git", "-C", str(repository), *who, *command], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """This project as somebody hands it in: authors filled in, committed and tagged."""
    folder = tmp_path / "mine"
    folder.mkdir()
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "submission", folder / "submission", ignore=ignore)
    for name in ("run.sh", "prepare.sh", "environment.yml", ".gitignore"):
        shutil.copy(PROJECT / name, folder / name)
    for lock in ("requirements.lock", "requirements-tensorflow.lock"):
        shutil.copy(PROJECT / lock, folder / lock)
    text = (PROJECT / "aicrowd.json").read_text()
    (folder / "aicrowd.json").write_text(text.replace("your-aicrowd-user-name", "somebody"))
    (folder / "Dockerfile").write_text(
        "FROM scratch\nRUN pip install --no-cache-dir --no-deps -r requirements.lock\n"
    )
    git(folder, "init", "-q")
    commit_and_tag(folder)
    return folder


def commit_and_tag(repository: Path) -> None:
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "a submission")
    git(repository, "tag", "-f", TAG)


def check(repository: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the list by name, stderr of `check --json`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AICROWD", "DISENT", "SUBM"))}
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "submission",
            "check",
            "--json",
            "--config",
            "dry_run.gin",
            "extract_features.batch_size=8",
            *arguments,
        ],
        env={**kept, "PYTHONPATH": str(repository)},
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    rows = json.loads(result.stdout) if result.stdout else []
    return result.returncode, {row["name"]: row for row in rows}, result.stderr


@pytest.mark.slow  # it starts run.sh, which imports torch
def test_a_good_submission_passes(repository: Path) -> None:
    code, rows, errors = check(repository, "--tag", TAG, "--hours", "100000")
    assert code == 0, (rows, errors)
    assert len(rows) == 11
    assert all(row["passed"] and not row["remedy"] for row in rows.values())
    assert "1,036,800 images" in rows["memory"]["detail"]
    assert "this machine" in rows["time"]["detail"]


def test_each_fault_is_listed_with_its_remedy(repository: Path, tmp_path: Path) -> None:
    git(repository, "rm", "-q", "--cached", "run.sh")
    (repository / ".gitignore").write_text("/run.sh\n")
    fields = json.loads((PROJECT / "aicrowd.json").read_text()) | {"gpu": "yes"}
    (repository / "aicrowd.json").write_text(json.dumps(fields))
    (repository / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (repository / "data.npz").write_bytes(b"images")
    lock = (repository / "requirements.lock").read_text()
    (repository / "requirements.lock").write_text(lock.replace("tqdm==", "tqdm==9"))
    commit_and_tag(repository)
    (repository / "afterwards.txt").write_text("not committed")
    board = repository / "scratch" / "leaderboard.json"
    board.parent.mkdir()
    row = {"tag": TAG, "commit": git(repository, "rev-parse", "HEAD"), "status": "ok", "data": {}}
    board.write_text(json.dumps([row]))
    git(repository, "remote", "add", "host", "git@gitlab.aicrowd.com:somebody/mine.git")

    code, rows, errors = check(
        repository, "--tag", TAG, "--remote", "host", "--memory", "500m", "--hours", "0.001"
    )
    assert code == 1, errors
    expected = {
        "aicrowd.json": ("your-aicrowd-user-name", "fill it in"),
        "run.sh": ("not in the commit", "git add"),
        "weights": ("git-lfs pointer", "git lfs pull"),
        "no data or scratch committed": ("data.npz", "git rm"),
        "work tree": ("afterwards.txt", "commit"),
        "not evaluated before": ("leaderboard.json", "change something"),
        "pins agree": ("tqdm", ".ci/lock"),
        # The real weights are still in the history that a push takes along.
        "file sizes": (WEIGHTS, "git lfs migrate"),
        "memory": ("500 MiB", "more"),
        "time": ("not measured", "mend"),
    }
    assert {name for name, row in rows.items() if not row["passed"]} == set(expected)
    for name, (detail, remedy) in expected.items():
        assert detail in rows[name]["detail"], rows[name]
        assert remedy in rows[name]["remedy"], rows[name]
    assert "gpu must be true or false" in rows["aicrowd.json"]["detail"]


STARTS = {
    "good": ("#!/usr/bin/env bash\nsource ./more.sh\n", True, "starts in a clean clone", ""),
    "Windows": ("#!/usr/bin/env bash\r\ntrue\r\n", False, "exit code 127", "sed -i"),
    "Windows, plain": ("#!/bin/bash\r\ntrue\r\n", False, "cannot be started (No such", "sed -i"),
    "no interpreter": ("true\n", False, "cannot be started (Exec format error)", "new clone"),
    "not all committed": ("#!/bin/sh\n. ./left.sh\n", False, "left.sh", "new clone"),
    "never ends": ("#!/bin/sh\nsleep 61 & sleep 61\n", False, "not ended after 0.5", "pass its"),
}


@pytest.mark.parametrize("case", STARTS)
def test_run_sh_is_started_in_a_clean_clone(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, passed, detail, remedy = STARTS[case]
    repository = tmp_path / "mine"
    repository.mkdir()
    (repository / "run.sh").write_bytes(script.encode())
    (repository / "run.sh").chmod(0o755)
    (repository / "more.sh").write_text("true\n")
    git(repository, "init", "-q")
    commit_and_tag(repository)
    # What lies about here is in no clone.
    (repository / "left.sh").write_text("true\n")
    (repository / "run.sh").write_text("#!/bin/sh\n")
    monkeypatch.setattr(paths, "PROJECT", repository)
    monkeypatch.setattr(preflight, "_START_SECONDS", 0.5 if case == "never ends" else 60)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    row = next(row for row in preflight.repository_checks(TAG, None) if row.name == "run.sh")
    assert row.passed == passed, row
    assert detail in row.detail
    assert remedy in row.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["mine"], "nothing is left"


@pytest.mark.slow
def test_what_is_not_there_cannot_be_checked(repository: Path) -> None:
    code, _, errors = check(repository, "--tag", "submission-none")
    assert code == 2
    assert "git tag submission-none" in errors
    code, _, errors = check(repository, "--remote", "nowhere")
    assert code == 2
    assert "no remote 'nowhere'" in errors
    shutil.rmtree(repository / ".git")  # as in an unpacked archive
    code, _, errors = check(repository, "--tag", TAG)
    assert code == 2
    assert "not a git repository" in errors
    assert "no tag" not in errors


LOCKS = {path.name: lock_pins(path.read_text()) for path in PROJECT.glob("requirements*.lock")}


def test_conda_gets_the_pins_of_the_complete_lock() -> None:
    whole = LOCKS["requirements-tensorflow.lock"]
    text = (PROJECT / "environment.yml").read_text()
    assert conda_pins(text) == whole
    assert len(whole) > 90
    assert "- python=3.11\n" in text


def test_the_locks_can_be_installed_together() -> None:
    assert set(LOCKS["requirements.lock"]) < set(LOCKS["requirements-tensorflow.lock"])
    versions: dict[str, set[str]] = {}
    for pin in {pin for pins in LOCKS.values() for pin in pins}:
        versions.setdefault(pin.partition("==")[0], set()).add(pin)
    assert [pins for pins in versions.values() if len(pins) > 1] == []


def test_every_pin_has_its_hashes_and_is_asked_for() -> None:
    """As pip reads them: it takes hashes for all packages or none."""
    for name, pins in LOCKS.items():
        entries = (PROJECT / name).read_text().replace("\\\n", " ").splitlines()
        hashed = [entry for entry in entries if re.search(r" --hash=sha256:[0-9a-f]{64}\b", entry)]
        assert len(hashed) == len(pins), name
        asked = (PROJECT / name).with_suffix(".in").read_text().lower()
        for line in asked.splitlines():
            wanted = line.partition("#")[0].strip()
            assert not wanted or wanted in pins, wanted


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None,
    reason="TensorFlow is an optional extra: requirements-tensorflow.lock",
)
def test_plain_pip_resolves_environment_yml(tmp_path: Path) -> None:
    """Everything that any of its packages asks for is among its pins, and here: nothing is left to
    be fetched."""
    pins = conda_pins((PROJECT / "environment.yml").read_text())
    (tmp_path / "pins.txt").write_text("\n".join(pins))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "-r"]
    done = subprocess.run(
        [*command, str(tmp_path / "pins.txt")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Would install" not in done.stdout
