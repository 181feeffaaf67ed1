"""One process at a time where two would write the same files."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from submission.errors import UserError


@contextmanager
def locked(path: Path, remedy: str = "wait for it, then repeat this command") -> Iterator[None]:
    """Holds an advisory lock on `path`, which the kernel drops with the process, killed or not.

    Args:
        path: `<what is locked>.lock`, or `.lock` in a folder that is.
        remedy: what the user can do while another process holds it.

    Raises:
        UserError: another process holds it.
    """
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            what = path.parent if path.name == ".lock" else path.with_suffix("")
            raise UserError(f"another run is working on {what}: {remedy}") from error
        yield
