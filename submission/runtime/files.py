"""Files that are whole or not there: one writer at a time, written beside and renamed."""

import csv
import fcntl
import hashlib
import io
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from submission.runtime.errors import UserError

log = logging.getLogger(__name__)


@contextmanager
def locked(
    path: Path, remedy: str = "wait for it, then repeat this command", wait: bool = False
) -> Iterator[None]:
    """Holds an advisory lock on `path` (`<what is locked>.lock`, or `.lock` in a folder that is),
    which the kernel drops with the process, killed or not. While another process holds it, `wait`
    waits, for what takes a moment; else a UserError says `remedy`."""
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            what = path.parent if path.name == ".lock" else path.with_suffix("")
            raise UserError(f"another run is working on {what}: {remedy}") from error
        except OSError as error:  # as some NFS and Lustre answer
            log.warning(f"no locks here ({error.strerror}): let no other run work in {path.parent}")
        yield


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file beside `path` (its `name` says where) that takes the place of `path` at the
    end, or is removed after an error. Raises OSError if it cannot be written.

    Two processes that write the same file, as the cache's, do so one after the other; what a killed
    one has left half-written is taken over by the next.
    """
    beside = path.with_name(path.name + ".tmp")
    while True:
        # Neither "w", which would empty a file that another one is writing, nor "a", in which
        # nothing can be written again, as numpy does.
        with open(
            beside, "r+b", opener=lambda name, flags: os.open(name, flags | os.O_CREAT, 0o666)
        ) as file:
            with suppress(OSError):  # as above
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
    with suppress(FileNotFoundError):
        return os.path.samefile(path, file.fileno())
    return False


def refuse_overwriting(out: Path, *inputs: Path) -> None:
    """Raises UserError if a command is to write over what it reads, by whatever name."""
    for path in inputs:
        if out.exists() and path.exists() and out.samefile(path):
            raise UserError(f"{out} is what is read, not to be written over: name another file")


def write_text(path: Path, text: str) -> None:
    """Writes a text file that is either the old or the new one at any moment; raises UserError if
    it cannot be written, as on a full disk."""
    try:
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        what = f"{path} could not be written ({error.strerror})"
        raise UserError(f"{what}: free disk space or give access there") from error


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows under the first one's keys, as write_text does."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file under its header's names."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@contextmanager
def kept_if_possible(what: str) -> Iterator[None]:
    """Around a writing to the cache, which is a convenience: an unwritable one costs no results."""
    try:
        yield
    except (OSError, UserError) as error:
        log.warning(f"{what} cannot be kept in the cache: {error}")


def sha256(path: Path) -> str:
    """A file's SHA-256, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
