"""One process at a time where two would write the same files."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from submission.errors import UserError


@contextmanager
def locked(
    path: Path, remedy: str = "wait for it, then repeat this command", wait: bool = False
) -> Iterator[None]:
    """Holds an advisory lock on `path`, which the kernel drops with the process, killed or not.

    Args:
        path: `<what is locked>.lock`, or `.lock` in a folder that is.
        remedy: what the user can do while another process holds it.
        wait: until the other one is done, for what takes a moment.

    Raises:
        UserError: another process holds it.
    """
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            what = path.parent if path.name == ".lock" else path.with_suffix("")
            raise UserError(f"another run is working on {what}: {remedy}") from error
        yield


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place at the end, or is removed after an error.

    Two processes that write the same file, as the cache's, do so one after the other; what a killed
    one has left half-written is taken over by the next.

    Raises:
        OSError: it cannot be written.
    """
    beside = path.with_name(path.name + ".tmp")
    while True:
        # Neither "w", which would empty a file that another one is writing, nor "a", in which
        # nothing can be written again, as numpy does.
        with open(os.open(beside, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Who held the lock may have renamed what was opened here: then it must not be touched.
            if not _is(beside, file):
                continue
            try:
                file.truncate(0)
                yield file
                file.flush()
                os.replace(beside, path)
            except BaseException:
                if _is(beside, file):
                    beside.unlink()
                raise
            return


def _is(path: Path, file: BinaryIO) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samefile(path, file.fileno())
    return False
