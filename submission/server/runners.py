"""The run of a submission: in a container as the server does it, or in a clone on this machine."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from submission.data.dataset import Dataset
from submission.runtime.errors import UserError
from submission.runtime.limits import parse_bytes
from submission.runtime.usage import Stages
from submission.server.grader import Events, grader, variables
from submission.server.memory_group import memory_group


@dataclass
class Failure(Exception):
    """A submission failed: `kind` in two words, `reason` in a sentence."""

    kind: str
    reason: str


@dataclass(frozen=True)
class EvaluationOptions:
    """Which tag of which repository (a path or an address) is evaluated, and how.

    `memory` ("8g", swap included) and `hours` limit the run, by default to what the server is
    assumed to give; it is in a container or else in a fresh clone on this machine. With `once` a
    commit that has a row already is left alone. Of the scoring are `device`, `quick` (lowered
    sample counts) and `scorer`: one of SCORERS, or "auto", which is TensorFlow where it is
    installed, as on the server.
    """

    tag: str
    repo: str
    leaderboard: Path
    once: bool = False
    memory: str = "8g"
    hours: float = 8
    container: bool = True
    build_arg: Sequence[str] = ()
    build_network: str | None = None
    gpus: str | None = None
    device: str = "auto"
    quick: bool = False
    scorer: str = "auto"

    @property
    def name(self) -> str:
        """The tag as the name of a folder."""
        return self.tag.replace("/", "_")


@dataclass(frozen=True)
class Evaluation:
    """One evaluation under way; `folder` keeps its log and results."""

    options: EvaluationOptions
    dataset: Dataset
    data_md5: str
    folder: Path
    log: IO[bytes]

    @property
    def clone(self) -> Path:
        return self.folder / "clone"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def logged(self, command: list[str], **options: Any) -> int:
        """Runs a command, its output to the log; returns its exit code."""
        self.log.write(f"\n$ {' '.join(command)}\n".encode())
        self.log.flush()
        return subprocess.run(command, check=False, **self.streams(), **options).returncode

    def streams(self) -> dict[str, Any]:
        return {"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": self.log}

    def environment(self, data: str, output: str, redis: str, port: int) -> dict[str, str]:
        """What the server sets. `data` and `output` are folders as the submission sees them."""
        return {
            "AICROWD_DATASET_NAME": self.dataset.name,
            "AICROWD_EVALUATION_NAME": self.options.name,
            "AICROWD_OUTPUT_PATH": output,
            "DISENTANGLEMENT_LIB_DATA": data,
        } | variables(redis, port)


def engine_answers() -> bool:
    return shutil.which("docker") is not None and _docker("info").returncode == 0


def run_in_container(evaluation: Evaluation, stages: Stages) -> None:
    """The run as the server does it. Raises Failure if it could not be built or ended badly,
    TimeoutExpired if it was killed, and UserError if Docker could not start it."""
    options = evaluation.options
    image_id = evaluation.folder / "image"
    build = ["docker", "build", "--tag", "submission-evaluate", "--iidfile", str(image_id)]
    build += [f"--build-arg={argument}" for argument in options.build_arg]
    build += ["--network", options.build_network] if options.build_network else []
    with stages.stage("build"):
        if code := evaluation.logged([*build, str(evaluation.clone)]):
            raise Failure("build error", f"docker build failed with exit code {code}")
    name = f"submission-evaluate-{os.getpid()}"
    with _internal_network(name) as gateway, grader(gateway, evaluation.folder) as (port, events):
        environment = evaluation.environment("/data", "/output", gateway, port)
        data = evaluation.dataset.path.resolve()
        target = f"/data/{evaluation.dataset.name}/{evaluation.dataset.name}.npz"
        memory = str(parse_bytes(options.memory))
        command = ["docker", "run", "--name", name, "--network", name, "--log-driver", "none"]
        command += ["--memory", memory, "--memory-swap", memory]
        command += ["--security-opt", "no-new-privileges"]
        command += ["--mount", _bind(f"source={data}", "readonly", f"target={target}")]
        command += ["--mount", _bind(f"source={evaluation.output}", "target=/output")]
        command += ["--gpus", options.gpus] if options.gpus else []
        command += [f"--env={variable}={value}" for variable, value in environment.items()]
        command.append(image_id.read_text().strip())
        try:
            with stages.stage("run"):
                code = evaluation.logged(command, timeout=options.hours * 3600)
        finally:
            said = _docker("inspect", "--format", "{{json .State}}", name).stdout
            state = json.loads(said) if said.strip() else {}
            _docker("rm", "--force", "--volumes", name)
    if code == 125 and state.get("Status") in (None, "created"):  # Docker's own: there was no run
        log = evaluation.folder / "log.txt"
        reasons = re.findall(r"^docker: (.*)", log.read_text(errors="replace"), re.MULTILINE)
        reason = (reasons or ["it gives no reason"])[-1]
        raise UserError(f"Docker could not start the run ({reason}): see {log}")
    _judge(evaluation, code, state.get("OOMKilled", False), events)


def _bind(*fields: str) -> str:
    """What --mount takes: one line of CSV, since a path may have a comma."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(["type=bind", *fields])
    return line.getvalue()


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)


@contextmanager
def _internal_network(name: str) -> Iterator[str]:
    """A Docker network without a way out; yields the address this machine has in it."""
    made = _docker("network", "create", "--internal", name)
    if made.returncode != 0:
        raise UserError(f"Docker makes no network: {made.stderr.strip()}")
    try:
        inspected = json.loads(_docker("network", "inspect", name).stdout)
        yield str(inspected[0]["IPAM"]["Config"][0]["Gateway"])
    finally:
        _docker("network", "rm", name)


def clean_environment() -> dict[str, str]:
    """This process's, without what it was told itself of data, output, grader and repository."""
    dropped = ("AICROWD", "CROWDAI", "DISENTANGLEMENT", "SUBMISSION", "GIT_", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def run_here(evaluation: Evaluation, stages: Stages) -> None:
    """As run_in_container, but in its clone, with packages through its own prepare.sh."""
    options = evaluation.options
    kept = clean_environment()
    kept["SUBMISSION_HOME"] = str(evaluation.clone / "scratch")
    if (evaluation.clone / "prepare.sh").exists():
        with stages.stage("build"):
            prepare = ["bash", "-euc", "source ./prepare.sh; prepare requirements.lock"]
            if evaluation.logged(prepare, cwd=evaluation.clone, env=kept) != 0:
                raise Failure("build error", "prepare.sh could not install requirements.lock")
    if not os.access(evaluation.clone / "run.sh", os.X_OK):
        raise Failure("build error", "the tag has no executable run.sh")
    host, limit = "127.0.0.1", parse_bytes(options.memory)
    with memory_group(limit) as group, grader(host, evaluation.folder) as (port, events):
        if group is None:
            print("the memory limit is not enforced: this user may not make a control group here")
        data = evaluation.folder / "data" / evaluation.dataset.name
        data.mkdir(parents=True)
        (data / f"{evaluation.dataset.name}.npz").symlink_to(evaluation.dataset.path.resolve())
        kept |= evaluation.environment(str(data.parent), str(evaluation.output), host, port)
        enter = 'echo $$ >"$0"; exec ./run.sh'
        command = ["sh", "-ec", enter, str(group.procs if group else os.devnull)]
        with stages.stage("run"):
            at: dict[str, Any] = evaluation.streams() | {"cwd": evaluation.clone, "env": kept}
            process = subprocess.Popen(command, start_new_session=True, **at)
            try:
                code = process.wait(options.hours * 3600)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        killed = group is not None and group.killed()
    _judge(evaluation, code, killed, events)


def _judge(evaluation: Evaluation, code: int, killed: bool, events: Events) -> None:
    """Raises Failure unless the run ended well; says what the grader heard."""
    print(f"the grader heard: {str(events) or 'nothing'}")
    if killed and code != 0:
        limit = evaluation.options.memory
        raise Failure("killed for memory", f"killed for using more than {limit}")
    if code != 0:
        raise Failure("run failed", f"run.sh ended with exit code {code}")
    if not events.said("submit"):
        print("it never said `submit`, which the server may wait for")
