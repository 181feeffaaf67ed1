"""`remote`: a repository that evaluates what is pushed to it, as the challenge's does."""

import argparse
import shlex
from pathlib import Path

from submission.commands import evaluate
from submission.commands.options import dataset_of
from submission.server.evaluation import refuse_options
from submission.server.remote import make_remote, refuse_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="the bare repository to make")
    what = "options of `evaluate` for every push"
    parser.add_argument("options", nargs=argparse.REMAINDER, help=what)


def run(args: argparse.Namespace) -> None:
    """Makes the repository, or renews the hook of one made before.

    Raises:
        UserError: the folder holds something else, or `evaluate` would refuse the options.
    """
    folder = args.folder.resolve()
    refuse_folder(folder)
    options = ["--repo", str(folder), "--leaderboard", str(folder / "leaderboard.json"), "--once"]
    options += args.options
    # A slip in the options should show now, not at the push.
    parser = argparse.ArgumentParser(prog="python -m submission remote DIR")
    evaluate.add_arguments(parser)
    parsed = parser.parse_args([*options, "--tag", "submission-"])
    refuse_options(evaluate.options_of(parsed), dataset_of(parsed))
    make_remote(folder, options)
    print(f"{folder} evaluates every pushed tag submission-*:")
    print(f"  git remote add local {shlex.quote(str(folder))}")
    print("  git tag submission-v0.1 && git push local submission-v0.1")
