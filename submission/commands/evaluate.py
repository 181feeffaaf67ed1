"""`evaluate`: what the evaluation server does with a pushed tag, at home."""

import argparse
import sys
from pathlib import Path

from submission.commands import options
from submission.metrics.settings import SCORERS
from submission.runtime import paths
from submission.server import leaderboard
from submission.server.evaluation import evaluate
from submission.server.runners import EvaluationOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--tag", required=True, help="the tag to evaluate")
    add("--repo", default=str(paths.PROJECT), help="repository; default: this project")
    what = "JSON file; default: leaderboard.json in the working files"
    add("--leaderboard", type=Path, help=what)
    add("--once", action="store_true", help="do nothing if the tag's commit has a row already")
    options.add_data(parser)
    assumed = "default: %(default)s, assumed of the server"
    add("--memory", default="8g", help=f"limit of the run, swap included ({assumed})")
    add("--hours", type=float, default=8, help=f"wall clock of the run ({assumed})")
    add("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="for docker build")
    add("--build-network", metavar="NAME", help="docker build's --network")
    add("--gpus", help="docker run's --gpus: all; default: none")
    what = "run in a fresh clone on this machine itself: only for code that you trust"
    add("--no-container", action="store_false", dest="container", help=what)
    add("--device", default="auto", help="of the scoring; default: a GPU if any")
    what = "light: without TensorFlow; default: with it, as the server, where it is installed"
    add("--scorer", choices=("auto", *SCORERS), default="auto", help=what)
    options.add_quick(parser)


def options_of(args: argparse.Namespace) -> EvaluationOptions:
    board = args.leaderboard or paths.home() / "leaderboard.json"
    return options.filled(EvaluationOptions, args, leaderboard=board)


def run(args: argparse.Namespace) -> None:
    """Prints the leaderboard; exit code 1 if the submission failed."""
    chosen = options_of(args)
    row = evaluate(chosen, options.dataset_of(args))
    if row is None:
        return
    table = leaderboard.table(leaderboard.read(chosen.leaderboard), row["data"])
    print(f"\n{table}\nin {chosen.leaderboard}")
    if row["status"] != "ok":
        print(f"\n{args.tag} failed: {row['reason']}\nlog: {row['log']}", file=sys.stderr)
        sys.exit(1)
