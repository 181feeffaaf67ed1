"""`evaluate`: what the evaluation server does with a pushed tag, at home.

Clone at the tag, build the image, run it under the challenge's environment and limits, then score
what it exported, and add a row to the local leaderboard. Submitted code counts as hostile: it runs
in the container only, and of what it wrote only the exported file is read, as TorchScript.
"""

import argparse
import json
from pathlib import Path

import torch

from submission.data.dataset import Dataset, open_dataset
from submission.features.extraction import to_float
from submission.latents.codes import codes_of
from submission.latents.export import load
from submission.metrics.grids import check_grid
from submission.metrics.settings import METRICS
from submission.pipeline.score import score_run
from submission.runtime import paths
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError, first_line
from submission.runtime.git import GitError, git
from submission.runtime.limits import parse_bytes
from submission.runtime.usage import Stages
from submission.server import leaderboard
from submission.server.runners import Evaluation, Failure, run_here, run_in_container

BATCH_SIZES = (16, 64)  # the two in which the challenge's scorer calls the model


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
    check_grid(dataset.factor_sizes)
    pick_device(args.device)
    paths.make_folder(board_file(args).parent, "name another --leaderboard file")
    leaderboard.read(board_file(args))
    paths.make_folder(paths.cache_folder(), "set SUBMISSION_CACHE to a folder that can")
    return dataset


def board_file(args: argparse.Namespace) -> Path:
    return args.leaderboard or paths.home() / "leaderboard.json"


def evaluate(evaluation: Evaluation, commit: str, stages: Stages) -> dict[str, float]:
    """All steps in order; returns the reported number of each metric."""
    evaluation.output.mkdir()
    evaluation.output.chmod(0o777)  # the image's user is another than this one
    with stages.stage("clone"):
        _clone(evaluation, commit)
    if evaluation.args.no_container:
        run_here(evaluation, stages)
    else:
        run_in_container(evaluation, stages)
    model = exported_model(evaluation.output, evaluation.name)
    device = pick_device(evaluation.args.device)
    with stages.stage("checking the model"):
        check_model(model, evaluation.dataset, device)
    args = evaluation.args
    args.metrics = ",".join(METRICS)
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


def tagged_commit(repository: str, tag: str) -> str:
    """The commit of a tag in a repository, local or remote.

    Raises:
        UserError: no such repository, or no such tag in it.
    """
    try:
        listed = git("ls-remote", "--tags", repository)
    except GitError as error:
        raise UserError(
            f"the repository {repository} cannot be read: {first_line(error)}"
        ) from error
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
        git("clone", "--quiet", "--no-checkout", "--", evaluation.args.repo, clone)
        git("-C", clone, "checkout", "--quiet", "--detach", commit)
    except GitError as error:
        evaluation.log.write(str(error).encode())
        reason = f"the tag cannot be checked out: {first_line(error)}"
        raise Failure("clone error", reason) from error


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
