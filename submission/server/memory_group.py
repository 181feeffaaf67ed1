"""A memory limit for a process and all its children, through the kernel's control groups."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from submission.runtime.limits import memory_cgroups


@dataclass(frozen=True)
class MemoryGroup:
    """A control group; a process enters by writing its id into `procs`."""

    folder: Path

    @property
    def procs(self) -> Path:
        return self.folder / "cgroup.procs"

    def killed(self) -> bool:
        """Whether the kernel has killed a process in it for lack of memory."""
        files = (self.folder / name for name in ("memory.events", "memory.oom_control"))
        texts = (file.read_text() for file in files if file.exists())
        return any(re.search(r"^oom_kill [1-9]", text, re.MULTILINE) for text in texts)

    def kill_all(self) -> None:
        end = time.monotonic() + 10
        while (pids := self.procs.read_text().split()) and time.monotonic() < end:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.05)


@contextmanager
def memory_group(limit: int) -> Iterator[MemoryGroup | None]:
    """A fresh group with a limit in bytes (swap included); None where this user may make none."""
    # In version 2 a group with processes of its own cannot have limited children: hence the
    # groups above this process's own are tried, too.
    made = (_make(folder, limit_file, limit) for folder, limit_file in memory_cgroups())
    group = next(filter(None, made), None)
    try:
        yield group
    finally:
        if group is not None:
            group.kill_all()
            with suppress(OSError):
                group.folder.rmdir()


def _make(parent: Path, limit_file: str, limit: int) -> MemoryGroup | None:
    folder = parent / f"submission-evaluate-{os.getpid()}"
    swap = {"memory.max": ("memory.swap.max", 0)}
    swap_file, swap_limit = swap.get(limit_file, ("memory.memsw.limit_in_bytes", limit))
    try:
        folder.mkdir()
    except OSError:
        return None
    try:
        (folder / limit_file).write_text(str(limit))
        with suppress(OSError):  # a kernel that does not count swap
            (folder / swap_file).write_text(str(swap_limit))
        # Whether a process may enter shows only when one does.
        enter = ["sh", "-c", 'echo $$ >"$0"', str(folder / "cgroup.procs")]
        subprocess.run(enter, check=True, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        folder.rmdir()
        return None
    return MemoryGroup(folder)
