"""Files that are whole at any moment, whoever writes them and is killed."""

import itertools
import os
from pathlib import Path

from processes import forked

from submission.runtime.files import write_text

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
