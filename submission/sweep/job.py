"""One job of a sweep: a configuration with one seed, trained and scored in a run folder of its own.

Ray's workers import this module, so it imports nothing large: the work is done by two commands of
this project, each in a process of its own.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submission.runtime import paths
from submission.runtime.files import sha256, write_text

# In the job's folder: hashes of what it is of; once it is done, its scores' SHA-256 and seconds.
RECORD = "job.json"

# Starts a command that gets SIGTERM when its parent dies, so that it saves its checkpoint and ends
# instead of going on unseen.
_START = """import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15)
os.execv(sys.executable, [sys.executable, '-m', 'submission', *sys.argv[1:]])"""


@dataclass(frozen=True)
class Job:
    """What a worker needs, wherever it is; all paths are absolute.

    `folder` is the run's, and its name the job's. `training` is what the model is made of
    (configuration, seed, data, weights), as a hash; `scoring` the metrics and their settings.
    `commands` are arguments of `python -m submission`, one after the other, and `environment` their
    variables beside the worker's own.
    """

    config: str
    seed: int
    folder: Path
    training: str
    scoring: str
    commands: tuple[tuple[str, ...], ...]
    environment: dict[str, str]

    @property
    def log(self) -> Path:
        return self.folder / "job.log"


def work(job: Job) -> str:
    """Runs the job's commands, their output to its log; called again it goes on where it was.
    Returns why it failed, in a sentence; empty if it did not."""
    started = time.monotonic()
    job.folder.mkdir(parents=True, exist_ok=True)
    write_text(job.folder / RECORD, json.dumps({"training": job.training}) + "\n")
    for command in job.commands:
        with open(job.log, "ab", buffering=0) as log:
            log.write(f"\n$ python -m submission {' '.join(command)}\n".encode())
            begin = log.tell()
            code = _call(command, job.environment, log.fileno())
        if code:
            return _reason(job.log, begin, code)
    record: dict[str, Any] = {"training": job.training, "scoring": job.scoring}
    record["seconds"] = time.monotonic() - started
    record["scores_sha256"] = sha256(job.folder / "scores.json")
    write_text(job.folder / RECORD, json.dumps(record) + "\n")
    return ""


def record_of(job: Job) -> dict[str, Any]:
    """The record in the job's folder; empty if there is none that can be read."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return dict(json.loads((job.folder / RECORD).read_text()))
    return {}


def scores_of(job: Job) -> dict[str, Any] | None:
    """scores.json with the job's `seconds`; None unless they are this job's, byte for byte."""
    record = record_of(job)
    if (record.get("training"), record.get("scoring")) != (job.training, job.scoring):
        return None
    with contextlib.suppress(OSError, ValueError):
        text = (job.folder / "scores.json").read_bytes()
        if record.get("scores_sha256") == hashlib.sha256(text).hexdigest():
            return dict(json.loads(text)) | {"seconds": record["seconds"]}
    return None


def _call(command: tuple[str, ...], environment: dict[str, str], log: int) -> int:
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
    start, env = [sys.executable, "-c", _START, *command], os.environ | environment
    process = subprocess.Popen(start, env=env, cwd=paths.PROJECT, **streams)
    try:
        while True:
            # Not one long wait: Ray cancels between two calls only.
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=1)
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _reason(log: Path, begin: int, code: int) -> str:
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    lines = log.read_bytes()[begin:].decode(errors="replace").splitlines()
    said = [line for line in lines if line.startswith("error: ")] or [*filter(str.strip, lines)]
    return said[-1].removeprefix("error: ").strip() if said else f"exit code {code}"
