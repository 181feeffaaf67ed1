"""`evaluate`: what the evaluation server does with a pushed tag, at home.

Clone at the tag, build the image, run it under the challenge's environment and limits, then score
what it exported, and add a row to the local leaderboard. Submitted code counts as hostile: it runs
in the container only, and of what it wrote only the exported file is read, as TorchScript.
"""

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

from submission.data.dataset import Dataset, verify
from submission.features.extraction import to_float
from submission.finetuning.suspicion import look_at
from submission.latents.codes import BadAnswer, call_model, codes_of
from submission.latents.export import load
from submission.metrics import tensorflow_route
from submission.metrics.grids import check_grid
from submission.metrics.settings import TITLES, ScoreOptions
from submission.pipeline.score import score_run
from submission.runtime import paths, signals
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError, first_line
from submission.runtime.git import GitError, git
from submission.runtime.limits import parse_bytes
from submission.runtime.usage import Stages
from submission.server import leaderboard, runners
from submission.server.runners import Evaluation, EvaluationOptions, Failure

BATCH_SIZES = (16, 64)  # the two in which the challenge's scorer calls the model


def refuse_options(options: EvaluationOptions, dataset: Dataset) -> None:
    """Raises UserError for the first wrong option, before hours of work."""
    parse_bytes(options.memory)
    if not 0 < options.hours < 10_000:
        raise UserError(f"--hours {options.hours:g} must be above 0 and below 10,000")
    if not dataset.official:
        what = f"{dataset.name} is not of MPI3D, the only data that the server has"
        raise UserError(f"{what}: name one of its sets with --dataset, or use `run`")
    check_grid(dataset.factor_sizes)
    pick_device(options.device)
    if options.scorer == "tensorflow":
        tensorflow_route.refuse_if_missing()
    paths.make_folder(options.leaderboard.parent, "name another --leaderboard file")
    leaderboard.read(options.leaderboard)
    paths.make_folder(paths.cache_folder(), "set SUBMISSION_CACHE to a folder that can")


def evaluate(options: EvaluationOptions, dataset: Dataset) -> leaderboard.Row | None:
    """Evaluates one tag; returns its new row of the leaderboard, or None if nothing is done: with
    `once`, where the tag's commit has a row already.

    Raises:
        UserError: an option is wrong, or there is no such tag, Docker engine or redis-server. A
            submission that fails raises nothing: its row says why.
    """
    refuse_options(options, dataset)
    commit = tagged_commit(options.repo, options.tag)
    rows = leaderboard.read(options.leaderboard) if options.once else []
    if earlier := [row["tag"] for row in rows if row["commit"] == commit]:
        print(f"{options.tag}: its commit {commit[:10]} was evaluated already, as {earlier[0]}")
        return None
    if options.container and not runners.engine_answers():
        remedy = "(a fresh clone on this machine, without the image and without its isolation)"
        raise UserError(f"no Docker engine answers here: start one, or add --no-container {remedy}")
    data_md5 = verify(dataset)
    look_at(dataset, data_md5, pick_device(options.device))
    now = datetime.now(UTC)
    folder = paths.home().resolve() / "evaluations" / f"{options.name}-{now:%Y%m%dT%H%M%S}"
    folder.mkdir(parents=True)
    row: leaderboard.Row = {"tag": options.tag, "commit": commit}
    row["time"] = now.isoformat(timespec="seconds")
    row["data"] = leaderboard.data_key(dataset, "quick" if options.quick else "official")
    row |= {"container": options.container, "memory": options.memory, "hours": options.hours}
    row["log"] = str(folder / "log.txt")
    stages = Stages()
    print(f"{options.tag} ({commit[:10]}) on {dataset.description}\nlog: {row['log']}", flush=True)
    row["scorer"] = _scorer(options)
    lost = "this evaluation has no row; the same command begins anew"
    with open(row["log"], "wb") as log, signals.cleared_away(lost):
        evaluation = Evaluation(options, dataset, data_md5, folder, log)
        try:
            row["scores"], row["reason"] = _scores(evaluation, commit, row["scorer"], stages)
            row["status"] = "ok"
        except Failure as failure:
            row |= {"status": failure.kind, "reason": failure.reason}
            log.write(f"\n{failure.kind}: {failure.reason}\n".encode())
        finally:
            shutil.rmtree(evaluation.clone, ignore_errors=True)
    row["seconds"] = {name: stage["seconds"] for name, stage in stages.rows.items()}
    leaderboard.append(options.leaderboard, row)
    return row


def _scorer(options: EvaluationOptions) -> str:
    """One of SCORERS. The server's grader had TensorFlow, so it is said where this one has none."""
    if options.scorer != "auto":
        return options.scorer
    if tensorflow_route.is_installed():
        return "tensorflow"
    what = "it will be scored without TensorFlow, which the server's grader had; only DCI differs,"
    less = "as it does from run to run"
    print(f"{what} {less}. To install it: `{tensorflow_route.INSTALL}`", flush=True)
    return "light"


def _scores(
    evaluation: Evaluation, commit: str, scorer: str, stages: Stages
) -> tuple[dict[str, float], str]:
    """Clone, build, run and score: the reported number of each metric, and why one has none."""
    options, dataset = evaluation.options, evaluation.dataset
    evaluation.output.mkdir()
    evaluation.output.chmod(0o777)  # the image's user is another than this one
    with stages.stage("clone"):
        _clone(evaluation, commit)
    try:
        (runners.run_in_container if options.container else runners.run_here)(evaluation, stages)
    except subprocess.TimeoutExpired as error:
        raise Failure("time out", f"killed after {options.hours:g} hours") from error
    output = evaluation.output.resolve()
    model = paths.model_path(output / options.name)
    if not model.is_file() or not model.resolve().is_relative_to(output):  # a link elsewhere
        raise Failure("no model", f"it exported no {model.relative_to(output)}")
    device = pick_device(options.device)
    with stages.stage("checking the model"):
        check_model(model, dataset, device)
    try:
        codes_of(model, dataset, evaluation.data_md5, device)
    except (UserError, ValueError, RuntimeError) as error:
        reason = "over all images the model gives NaN, infinity or unlike shapes"
        raise Failure("bad codes", f"{reason}: {first_line(error)}") from error
    try:
        scoring = ScoreOptions(quick=options.quick, device=options.device, scorer=scorer)
        score_run(dataset, evaluation.folder, scoring, stages, model, looked_at=True)
    except tensorflow_route.ScorerFault:
        raise  # the submission has no part in it, and gets no row
    except UserError as error:
        raise Failure("not scored", f"its codes cannot be scored: {first_line(error)}") from error
    scores = json.loads((evaluation.folder / "scores.json").read_text())["scores"]
    reasons = [f"{TITLES[metric]}: {why}" for metric, why in scores["not_scored"].items()]
    return dict(scores["headline"]), "; ".join(reasons)


def tagged_commit(repository: str, tag: str) -> str:
    """The commit of a tag in a repository, local or remote; UserError if either is not there."""
    try:
        listed = git("ls-remote", "--tags", repository)
    except GitError as error:
        raise UserError(f"repository {repository} cannot be read: {first_line(error)}") from error
    found = {name: commit for commit, name in map(str.split, listed.splitlines())}
    # An annotated tag is an object of its own; the line with ^{} names its commit.
    for name in (f"refs/tags/{tag}^{{}}", f"refs/tags/{tag}"):
        if name in found:
            return found[name]
    raise UserError(f"no tag {tag!r} in {repository}: make it with `git tag {tag}`")


def _clone(evaluation: Evaluation, commit: str) -> None:
    clone = str(evaluation.clone)
    try:
        # Not --branch, which takes a branch of the tag's name before the tag.
        git("clone", "--quiet", "--no-checkout", "--", evaluation.options.repo, clone)
        git("-C", clone, "checkout", "--quiet", "--detach", commit)
    except GitError as error:
        evaluation.log.write(str(error).encode())
        reason = f"the tag cannot be checked out: {first_line(error)}"
        raise Failure("clone error", reason) from error


def check_model(model: Path, dataset: Dataset, device: torch.device) -> None:
    """Calls the model as the challenge's scorer does, in batches of 16 and 64 images. Raises
    Failure if it is no TorchScript, or answers anything but (N, C) finite numbers."""
    try:
        module = load(model, str(device))
    except UserError as error:
        what = "its pytorch_model.pt is no TorchScript file"
        reason = f"{what} (a pickled module, which could run any code, is not loaded)"
        raise Failure("no TorchScript", reason) from error
    images = to_float(dataset.first(max(BATCH_SIZES)), device)
    for size in BATCH_SIZES:
        try:
            call_model(module, images[:size], "the model")
        except BadAnswer as error:
            raise Failure(error.kind, str(error)) from error
