"""Git, as a program."""

import os
import subprocess

from submission.runtime.errors import UserError

# What tells git which repository to work on. A hook is started with these, so every command below
# it would go to the pushed repository. The other GIT_ variables stay: they say how to reach a
# repository (GIT_SSH_COMMAND, GIT_ASKPASS, GIT_SSL_CAINFO) and where the user's settings are.
_REPOSITORY = {
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"),
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH", "GIT_NAMESPACE", "GIT_PREFIX"),
}


class GitError(UserError):
    """A git command failed; the text is what git printed to stderr."""


def git(*arguments: str, stdin: str | None = None) -> str:
    """A git command's output. Raises GitError if it failed, UserError if there is no git."""
    kept = {name: value for name, value in os.environ.items() if name not in _REPOSITORY}
    try:
        return subprocess.run(
            ["git", *arguments], input=stdin, env=kept, capture_output=True, text=True, check=True
        ).stdout
    except FileNotFoundError as error:
        raise UserError("git is not installed here: install it") from error
    except subprocess.CalledProcessError as error:
        raise GitError(error.stderr.strip() or "git gives no reason") from error
