"""`evaluate`: what the evaluation server does with a pushed tag, at home.

Clone at the tag, build the image, run it under the challenge's environment and limits, then score
what it exported, and add a row to the local leaderboard. Submitted code counts as hostile: it runs
in the container only, and of what it wrote only the exported file is read, as TorchScript.
"""

import argparse
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import torch

from submission import leaderboard, paths, scoring, signals
from submission.data import Dataset, open_dataset, verify
from submission.encode import codes_of
from submission.errors import UserError, first_line
from submission.export import load
from submission.features import pick_device, to_float
from submission.grader import Events, grader
from submission.limits import memory_group
from submission.memory import parse_bytes
from submission.score import score_run
from submission.stages import Stages

IMAGE = "submission-evaluate"
BATCH_SIZES = (16, 64)  # the two in which the challenge's scorer calls the model


@dataclass
class Failure(Exception):
    """A submission failed: `kind` in two words, `reason` in a sentence."""

    kind: str
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: its arguments, data set, and the folder that keeps its log and results."""

    args: argparse.Namespace
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

    @property
    def name(self) -> str:
        return str(self.args.tag).replace("/", "_")

    def logged(self, command: list[str], **options: Any) -> int:
        """Runs a command, its output to the log; returns its exit code."""
        self.log.write(f"\n$ {' '.join(command)}\n".encode())
        self.log.flush()
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, check=False,
            **options,
        ).returncode  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tag", required=True, help="the tag to evaluate")
    parser.add_argument(
        "--repo", default=str(paths.PROJECT), help="repository; default: this project"
    )
    parser.add_argument(
        "--leaderboard", type=Path, help="JSON file; default: leaderboard.json in the working files"
    )
    parser.add_argument(
        "--once", action="store_true", help="do nothing if the tag's commit has a row already"
    )
    parser.add_argument("--dataset", help="default: AICROWD_DATASET_NAME, else mpi3d_real")
    parser.add_argument(
        "--data", type=Path, help="folder of the data sets; default: DISENTANGLEMENT_LIB_DATA"
    )
    parser.add_argument(
        "--memory", default="8g", help="limit of the run, swap included (default: %(default)s)"
    )
    parser.add_argument(
        "--hours", type=float, default=8, help="wall clock of the run (default: %(default)s)"
    )
    parser.add_argument(
        "--build-arg", action="append", default=[], metavar="NAME=VALUE", help="for docker build"
    )
    parser.add_argument("--build-network", metavar="NAME", help="docker build's --network")
    parser.add_argument("--gpus", help="docker run's --gpus: all; default: none")
    parser.add_argument(
        "--no-container", action="store_true",
        help="run in a fresh clone on this machine itself: only for code that you trust",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="of the scoring; default: a GPU if any")
    parser.add_argument(
        "--quick", action="store_true", help="lowered sample counts; comparable with nothing else"
    )


def run(args: argparse.Namespace) -> None:
    """Prints the leaderboard; exit code 1 if the submission failed."""
    dataset = refuse_arguments(args)
    commit = tagged_commit(args.repo, args.tag)
    board = _board(args)
    if args.once and (tags := [r["tag"] for r in leaderboard.read(board) if r["commit"] == commit]):
        print(f"{args.tag}: its commit {commit[:10]} was evaluated already, as {tags[0]}")
        return
    if not args.no_container and not engine_answers():
        raise UserError(
            "no Docker engine answers here: start one, or add --no-container (a fresh clone on "
            "this machine, without the image and without its isolation)"
        )
    data_md5 = verify(dataset)
    now = datetime.now(UTC)
    stem = f"{str(args.tag).replace('/', '_')}-{now:%Y%m%dT%H%M%S}"
    folder = paths.home().resolve() / "evaluations" / stem
    folder.mkdir(parents=True)
    row: dict[str, Any] = {
        "tag": args.tag,
        "commit": commit,
        "time": now.isoformat(timespec="seconds"),
        "data": leaderboard.data_key(dataset, "quick" if args.quick else "official"),
        "container": not args.no_container,
        "memory": args.memory,
        "hours": args.hours,
        "log": str(folder / "log.txt"),
    }
    stages = Stages()
    print(f"{args.tag} ({commit[:10]}) on {dataset.description}\nlog: {row['log']}", flush=True)
    with (
        open(folder / "log.txt", "wb") as log,
        signals.cleared_away("this evaluation has no row; the same command begins anew"),
    ):
        evaluation = Evaluation(args, dataset, data_md5, folder, log)
        try:
            row["scores"] = _evaluate(evaluation, commit, stages)
            row |= {"status": "ok", "reason": ""}
        except Failure as failure:
            row |= {"status": failure.kind, "reason": failure.reason}
            log.write(f"\n{failure.kind}: {failure.reason}\n".encode())
        finally:
            shutil.rmtree(evaluation.clone, ignore_errors=True)
    row["seconds"] = {name: stage["seconds"] for name, stage in stages.rows.items()}
    rows = leaderboard.append(board, row)
    print(f"\n{leaderboard.table(rows, row['data'])}\nin {board}")
    if row["status"] != "ok":
        print(f"\n{args.tag} failed: {row['reason']}\nlog: {row['log']}", file=sys.stderr)
        sys.exit(1)


def refuse_arguments(args: argparse.Namespace) -> Dataset:
    """Everything about the arguments that can be wrong is so now, not after hours of work.

    Returns:
        The data set that they name.

    Raises:
        UserError: the first that is.
    """
    parse_bytes(args.memory)
    if not 0 < args.hours < 10_000:
        raise UserError(f"--hours {args.hours:g} must be above 0 and below 10,000")
    dataset = open_dataset(args.data or paths.data_folder(), args.dataset or paths.dataset_name())
    scoring.check_grid(dataset.factor_sizes)
    pick_device(args.device)
    paths.make_folder(_board(args).parent, "name another --leaderboard file")
    leaderboard.read(_board(args))
    paths.make_folder(paths.cache_folder(), "set SUBMISSION_CACHE to a folder that can")
    return dataset


def _board(args: argparse.Namespace) -> Path:
    return args.leaderboard or paths.home() / "leaderboard.json"


def _evaluate(evaluation: Evaluation, commit: str, stages: Stages) -> dict[str, float]:
    """All steps in order; returns the reported number of each metric."""
    evaluation.output.mkdir()
    evaluation.output.chmod(0o777)  # the image's user is another than this one
    with stages.stage("clone"):
        _clone(evaluation, commit)
    if evaluation.args.no_container:
        _run_here(evaluation, stages)
    else:
        _run_in_container(evaluation, stages)
    model = exported_model(evaluation.output, evaluation.name)
    device = pick_device(evaluation.args.device)
    with stages.stage("checking the model"):
        check_model(model, evaluation.dataset, device)
    args = evaluation.args
    args.metrics = ",".join(scoring.METRICS)
    try:
        codes_of(model, evaluation.dataset, evaluation.data_md5, device)
    except (UserError, ValueError, RuntimeError) as error:
        raise Failure(
            "bad codes", "over all images the model gives NaN, infinity or unlike shapes: "
            f"{first_line(error)}",
        ) from error  # fmt: skip
    try:
        score_run(evaluation.dataset, evaluation.folder, args, stages, model)
    except UserError as error:
        raise Failure("not scored", f"its codes cannot be scored: {first_line(error)}") from error
    scores = json.loads((evaluation.folder / "scores.json").read_text())["scores"]
    headline: dict[str, float] = scores["headline"]
    return headline


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs git free of the variables that a hook is started with."""
    hook = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_QUARANTINE_PATH")
    environment = {k: v for k, v in os.environ.items() if k not in hook}
    try:
        return subprocess.run(
            ["git", *arguments], env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise UserError("git is not installed here: install it") from error


def tagged_commit(repository: str, tag: str) -> str:
    """The commit of a tag in a repository, local or remote.

    Raises:
        UserError: no such repository, or no such tag in it.
    """
    listed = git("ls-remote", "--tags", repository)
    if listed.returncode != 0:
        said = (listed.stderr.strip().splitlines() or ["git gives no reason"])[0]
        raise UserError(f"the repository {repository} cannot be read: {said}")
    found = {name: commit for commit, name in map(str.split, listed.stdout.splitlines())}
    # An annotated tag is an object of its own; the line with ^{} names its commit.
    for name in (f"refs/tags/{tag}^{{}}", f"refs/tags/{tag}"):
        if name in found:
            return found[name]
    raise UserError(f"no tag {tag!r} in {repository}: make it with `git tag {tag}`")


def _clone(evaluation: Evaluation, commit: str) -> None:
    # Not --branch, which takes a branch of the tag's name before the tag.
    steps = [
        ("clone", "--quiet", "--no-checkout", "--", evaluation.args.repo, str(evaluation.clone)),
        ("-C", str(evaluation.clone), "checkout", "--quiet", "--detach", commit),
    ]
    for step in steps:
        result = git(*step)
        evaluation.log.write(result.stderr.encode())
        if result.returncode != 0:
            said = (result.stderr.strip().splitlines() or [""])[-1]
            raise Failure("clone error", f"the tag cannot be checked out: {said}")


def engine_answers() -> bool:
    """Whether a Docker engine answers here."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def challenge_environment(
    evaluation: Evaluation, data: str, output: str, redis: str, port: int
) -> dict[str, str]:
    """What the server sets. `data` and `output` are folders as the submission sees them."""
    return {
        "AICROWD_IS_GRADING": "True",
        "AICROWD_DATASET_NAME": evaluation.dataset.name,
        "AICROWD_EVALUATION_NAME": evaluation.name,
        "AICROWD_OUTPUT_PATH": output,
        "AICROWD_REDIS_HOST": redis,
        "AICROWD_REDIS_PORT": str(port),
        "DISENTANGLEMENT_LIB_DATA": data,
    }


def _run_in_container(evaluation: Evaluation, stages: Stages) -> None:
    args = evaluation.args
    image_id = evaluation.folder / "image"
    build = ["docker", "build", "--tag", IMAGE, "--iidfile", str(image_id)]
    for argument in args.build_arg:
        build += ["--build-arg", argument]
    if args.build_network:
        build += ["--network", args.build_network]
    with stages.stage("build"):
        code = evaluation.logged([*build, str(evaluation.clone)])
        if code != 0:
            raise Failure("build error", f"docker build failed with exit code {code}")
    image = image_id.read_text().strip()
    name = f"submission-evaluate-{os.getpid()}"
    with _internal_network(name) as gateway, grader(gateway, evaluation.folder) as (port, events):
        environment = challenge_environment(evaluation, "/data", "/output", gateway, port)
        data = evaluation.dataset.path.resolve()
        memory = str(parse_bytes(args.memory))
        command = [
            "docker", "run", "--name", name, "--network", name, "--log-driver", "none",
            "--memory", memory, "--memory-swap", memory,
            "--security-opt", "no-new-privileges",
            "--mount", _fields(
                "type=bind", f"source={data}", "readonly",
                f"target=/data/{evaluation.dataset.name}/{evaluation.dataset.name}.npz",
            ),
            "--mount", _fields("type=bind", f"source={evaluation.output}", "target=/output"),
            *(["--gpus", args.gpus] if args.gpus else []),
            *(word for item in environment.items() for word in ("--env", "=".join(item))),
            image,
        ]  # fmt: skip
        try:
            with stages.stage("run"):
                code = evaluation.logged(command, timeout=args.hours * 3600)
        except subprocess.TimeoutExpired as error:
            raise Failure("time out", f"killed after {args.hours:g} hours") from error
        finally:
            said = _docker("inspect", "--format", "{{json .State}}", name).stdout
            state = json.loads(said) if said.strip() else {}
            _docker("rm", "--force", "--volumes", name)
    if code == 125 and state.get("Status") in (None, "created"):  # Docker's own: there was no run
        log = evaluation.folder / "log.txt"
        lines = log.read_text(errors="replace").splitlines()
        reasons = [line for line in lines if line.startswith("docker: ")] or ["it gives no reason"]
        raise UserError(
            f"Docker could not start the run ({reasons[-1].removeprefix('docker: ')}): see {log}"
        )
    killed = code != 0 and state.get("OOMKilled", False)
    _judge(evaluation, code, killed, events)


def _fields(*fields: str) -> str:
    """One line of CSV, which is what --mount takes: a path may have a comma."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
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


def _run_here(evaluation: Evaluation, stages: Stages) -> None:
    """The run without a container: fresh clone, packages through its own prepare.sh."""
    args = evaluation.args
    dropped = ("AICROWD", "DISENTANGLEMENT", "SUBMISSION", "GIT_", "PYTHONPATH")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    kept["SUBMISSION_HOME"] = str(evaluation.clone / "scratch")
    if (evaluation.clone / "prepare.sh").exists():
        with stages.stage("build"):
            prepare = ["bash", "-euc", "source ./prepare.sh; prepare requirements.lock"]
            if evaluation.logged(prepare, cwd=evaluation.clone, env=kept) != 0:
                raise Failure("build error", "prepare.sh could not install requirements.lock")
    if not os.access(evaluation.clone / "run.sh", os.X_OK):
        raise Failure("build error", "the tag has no executable run.sh")
    host = "127.0.0.1"
    with (
        memory_group(parse_bytes(args.memory)) as group,
        grader(host, evaluation.folder) as (port, events),
    ):
        if group is None:
            print("the memory limit is not enforced: this user may not make a control group here")
        data = evaluation.folder / "data" / evaluation.dataset.name
        data.mkdir(parents=True)
        (data / f"{evaluation.dataset.name}.npz").symlink_to(evaluation.dataset.path.resolve())
        environment = kept | challenge_environment(
            evaluation, str(data.parent), str(evaluation.output), host, port
        )
        enter = 'echo $$ >"$0"; exec ./run.sh'
        with stages.stage("run"):
            process = subprocess.Popen(
                ["sh", "-ec", enter, str(group.procs if group else os.devnull)],
                cwd=evaluation.clone, env=environment, stdin=subprocess.DEVNULL,
                stdout=evaluation.log, stderr=evaluation.log, start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(args.hours * 3600)
            except subprocess.TimeoutExpired as error:
                raise Failure("time out", f"killed after {args.hours:g} hours") from error
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        killed = code != 0 and group is not None and group.killed()
    _judge(evaluation, code, killed, events)


def _judge(evaluation: Evaluation, code: int, killed: bool, events: Events) -> None:
    """Raises Failure unless the run ended well; says what the grader heard."""
    heard = ", ".join(f"{n} x {name}" for name, n in Counter(events.named()).items())
    print(f"the grader heard: {heard or 'nothing'}")
    if killed:
        raise Failure("killed for memory", f"killed for using more than {evaluation.args.memory}")
    if code != 0:
        raise Failure("run failed", f"run.sh ended with exit code {code}")
    if "submit" not in events.named():
        print("it never said `submit`, which the server may wait for")


def exported_model(output: Path, name: str) -> Path:
    """The file that the run exported.

    Raises:
        Failure: there is none, or it is a link to somewhere else.
    """
    model = paths.model_path(output / name)
    if not model.is_file() or not model.resolve().is_relative_to(output.resolve()):
        raise Failure("no model", f"it exported no {model.relative_to(output)}")
    return model


def check_model(model: Path, dataset: Dataset, device: torch.device) -> None:
    """Calls the model as the challenge's scorer does, in batches of 16 and 64 images.

    Raises:
        Failure: no TorchScript, or an answer that is not (N, C) finite numbers.
    """
    try:
        module = load(model, str(device))
    except UserError as error:
        raise Failure(
            "no TorchScript", "its pytorch_model.pt is no TorchScript file (a pickled module, "
            "which could run any code, is not loaded)",
        ) from error  # fmt: skip
    images = to_float(next(dataset.batches(max(BATCH_SIZES))), device)
    for size in BATCH_SIZES:
        batch = images[:size]
        try:
            with torch.inference_mode():
                codes = module(batch)
        except RuntimeError as error:
            raise Failure(
                "wrong shape", f"the model does not take images {tuple(batch.shape)}: see the log"
            ) from error
        shape = tuple(codes.shape) if isinstance(codes, torch.Tensor) else type(codes).__name__
        if not isinstance(codes, torch.Tensor) or codes.ndim != 2 or len(codes) != len(batch):
            raise Failure(
                "wrong shape", f"on {len(batch)} images the model answers {shape}, "
                f"not ({len(batch)}, C)",
            )  # fmt: skip
        try:
            finite = bool(torch.isfinite(codes).all())
        except RuntimeError as error:
            raise Failure(
                "wrong shape", "the model answers a tensor that is no plain array (sparse, "
                "quantized, or without values)",
            ) from error  # fmt: skip
        if not finite:
            raise Failure("NaN", "the model answers NaN or infinity")
