"""`remote`: a repository that evaluates what is pushed to it, as the challenge's does."""

import argparse
import os
import shlex
import sys
from pathlib import Path

from submission.commands import evaluate
from submission.runtime import paths
from submission.runtime.errors import UserError, first_line
from submission.runtime.files import replacing
from submission.runtime.git import GitError, git
from submission.server.evaluation import refuse_arguments
from submission.server.remote import HOOK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="the bare repository to make")
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, help="options of `evaluate` for every push"
    )


def run(args: argparse.Namespace) -> None:
    """Makes the repository, or renews the hook of one made before.

    Raises:
        UserError: the folder holds something else, or `evaluate` would refuse the options.
    """
    folder = args.folder.resolve()
    hook = folder / "hooks" / "post-receive"
    is_ours = hook.is_file() and "submission remote" in hook.read_text(errors="replace")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not is_ours:
        raise UserError(f"{folder} is there and holds something else: name a new folder")
    command = [
        sys.executable, "-P", "-m", "submission", "evaluate", "--repo", str(folder),
        "--leaderboard", str(folder / "leaderboard.json"), "--once", *args.options,
    ]  # fmt: skip
    # A slip in the options should show now, not at the push.
    parser = argparse.ArgumentParser(prog="python -m submission remote DIR")
    evaluate.add_arguments(parser)
    refuse_arguments(parser.parse_args([*command[5:], "--tag", "submission-"]))
    try:
        git("init", "--quiet", "--bare", str(folder))
    except GitError as error:
        raise UserError(f"{folder} cannot be made: {first_line(error)}") from error
    # A global core.hooksPath would have the push run other hooks, or none.
    git("-C", str(folder), "config", "core.hooksPath", str(hook.parent))
    text = HOOK.format(
        folder=shlex.quote(os.getcwd()),
        project=shlex.quote(str(paths.PROJECT)),
        command=shlex.join(command),
    )
    hook.parent.mkdir(exist_ok=True)
    with replacing(hook) as file:
        file.write(text.encode())
        os.fchmod(file.fileno(), 0o755)
    print(
        f"{folder} evaluates every pushed tag submission-*:\n"
        f"  git remote add local {shlex.quote(str(folder))}\n"
        "  git tag submission-v0.1 && git push local submission-v0.1"
    )
