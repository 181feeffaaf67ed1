"""`remote`: a repository that evaluates what is pushed to it, as the challenge's does."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from submission.runtime import paths
from submission.runtime.errors import UserError, first_line
from submission.runtime.files import replacing
from submission.runtime.git import GitError, git

HOOK = """#!/bin/sh
# Made by `python -m submission remote`: evaluates every pushed tag submission-*.
unset $(git rev-parse --local-env-vars)
cd {folder} || exit 1
export PYTHONUNBUFFERED=1
while read -r old new ref; do
    case "$ref" in refs/tags/submission-*) ;; *) continue ;; esac
    case "$new" in *[!0]*) ;; *) continue ;; esac  # all zeros: the tag was deleted
    {command} --tag "${{ref#refs/tags/}}" </dev/null || true
done
"""
# Not by PYTHONPATH, in which a path with a colon is two; the same as in run.sh.
START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from submission.__main__ import main; sys.exit(main())"
)


def refuse_folder(folder: Path) -> None:
    """Raises UserError unless the folder is new, empty, or one that `make_remote` made."""
    hook = folder / "hooks" / "post-receive"
    is_ours = hook.is_file() and "submission remote" in hook.read_text(errors="replace")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not is_ours:
        raise UserError(f"{folder} is there and holds something else: name a new folder")


def make_remote(folder: Path, options: Sequence[str]) -> None:
    """Makes the bare repository, or renews the hook of one made before. The hook runs `evaluate`
    in today's folder, with these options and --tag of what is pushed."""
    try:
        git("init", "--quiet", "--bare", str(folder))
    except GitError as error:
        raise UserError(f"{folder} cannot be made: {first_line(error)}") from error
    hook = folder / "hooks" / "post-receive"
    # A global core.hooksPath would have the push run other hooks, or none.
    git("-C", str(folder), "config", "core.hooksPath", str(hook.parent))
    command = [sys.executable, "-P", "-c", START, str(paths.PACKAGE.parent), "evaluate", *options]
    text = HOOK.format(folder=shlex.quote(str(Path.cwd())), command=shlex.join(command))
    hook.parent.mkdir(exist_ok=True)
    with replacing(hook) as file:
        file.write(text.encode())
        os.fchmod(file.fileno(), 0o755)
