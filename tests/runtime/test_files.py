"""Files that are whole at any moment, whoever writes them and is killed."""

import errno
import fcntl
import itertools
import os
from pathlib import Path

import pytest
from processes import forked

from submission.runtime.files import locked, write_text

LENGTHS = (10, 100_000, 3)


def _writes(path: Path, letter: str) -> None:
    for length in itertools.cycle(LENGTHS):
        write_text(path, letter * length + "\n")


def test_two_write_one_file_and_are_killed(tmp_path: Path) -> None:
    """The file is a whole one of either at any moment, and one more write clears up after both."""
    path = tmp_path / "scores.json"
    for _ in range(3):
        path.unlink(missing_ok=True)
        writers = [
            forked.Process(target=_writes, args=(path, letter), daemon=True) for letter in "ab"
        ]
        try:
            for writer in writers:
                writer.start()
            seen: list[str] = []
            while len(seen) < 50 or set(seen) < set("ab"):
                assert all(writer.is_alive() for writer in writers)
                if path.exists():
                    text = path.read_text()
                    assert text == text[0] * (len(text) - 1) + "\n"
                    assert len(text) - 1 in LENGTHS
                    seen.append(text[0])
        finally:
            for writer in writers:
                writer.kill()
                writer.join()
        write_text(path, "the last\n")
        assert path.read_text() == "the last\n"
        assert os.listdir(tmp_path) == ["scores.json"]


@pytest.mark.parametrize("answer", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, answer: int
) -> None:
    """As some NFS and Lustre mounts answer."""

    def flock(*arguments: object) -> None:
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / ".lock"):
        write_text(tmp_path / "x", "written")
    assert (tmp_path / "x").read_text() == "written"
    assert f"let no other run work in {tmp_path}" in caplog.text
