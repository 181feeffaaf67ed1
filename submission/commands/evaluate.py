"""`evaluate`: what the evaluation server does with a pushed tag, at home."""

import argparse
import logging
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from submission.data.dataset import verify
from submission.runtime import paths, signals
from submission.runtime.errors import UserError
from submission.runtime.usage import Stages
from submission.server import leaderboard
from submission.server.evaluation import (
    Evaluation,
    Failure,
    board_file,
    evaluate,
    refuse_arguments,
    tagged_commit,
)
from submission.server.runners import engine_answers

log = logging.getLogger(__name__)


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
    board = board_file(args)
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
            row["scores"] = evaluate(evaluation, commit, stages)
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
