"""Time and peak memory of each stage of a run."""

import ctypes
import gc
import json
import logging
import resource
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from submission.runtime.files import write_text
from submission.runtime.limits import MIB, proc_bytes
from submission.runtime.text import aligned

log = logging.getLogger(__name__)


@dataclass
class Stages:
    """Collects one row per stage: seconds of wall time, and the peaks in MiB of resident memory and
    of the process's own (the rest are pages of files, which the system may drop)."""

    rows: dict[str, dict[str, float]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures what is done inside; the row is kept only if it ends without an error."""
        gc.collect()  # what the stage before has left is not this one's
        give_back()
        # The kernel's high-water mark; where it cannot be set, the peak is that of all so far.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        started = time.monotonic()
        log.info("%s ...", name)
        with _own_peak() as own:
            yield
        seconds, peak = time.monotonic() - started, peak_mib()
        row = {"peak_mib": round(peak), "own_mib": round(own[0])}
        self.rows[name] = {"seconds": round(seconds, 1), **row}
        log.info("%s: %.1f s, peak memory %.0f MiB, its own %.0f", name, seconds, peak, own[0])

    def table(self) -> str:
        """The rows as aligned text."""
        return table_of({"time": self})

    def read(self, path: Path) -> None:
        """Takes the rows of an earlier run as they were written; none if there is no such file."""
        with suppress(OSError, ValueError):
            self.rows = json.loads(path.read_text()) | self.rows

    def write(self, path: Path) -> None:
        """Writes the rows as JSON."""
        write_text(path, json.dumps(self.rows, indent=2) + "\n")


def table_of(columns: Mapping[str, Stages], beside: Stages | None = None) -> str:
    """Stages of one or several runs as aligned text: a column of times for each, under its title,
    the sums, and the highest memory of a stage. `beside` are stages of no single run."""
    every = [*columns.values(), *([beside] if beside else [])]
    names = dict.fromkeys(name for stages in every for name in stages.rows)
    rows = [["stage", *columns, *(["together"] if beside else []), "peak memory"]]
    for name in names:
        times = [stages.rows.get(name, {}).get("seconds") for stages in every]
        cells = times[: len(columns)] + ([sum(t or 0 for t in times)] if beside else [])
        peak = max(stages.rows[name]["peak_mib"] for stages in every if name in stages.rows)
        rows.append([name, *map(_clock, cells), f"{peak:,.0f} MiB"])
    sums = [sum(row["seconds"] for row in stages.rows.values()) for stages in every]
    cells = [*sums[: len(columns)], *([sum(sums)] if beside else [])]
    return "\n".join(aligned([*rows, ["in all", *map(_clock, cells), ""]], gap="   "))


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else "{}:{:02d}".format(*divmod(round(seconds), 60))


def give_back() -> None:
    """Returns freed memory to the system, also from the middle of the heap (glibc)."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def _own_peak() -> Iterator[list[float]]:
    """Measures own_mib every 20 ms, as the kernel keeps no high-water mark of it: one number, the
    peak, which is final when the context is left."""
    peak = [own_mib()]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], own_mib())

    thread = threading.Thread(target=watch, name="memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()
        peak[0] = max(peak[0], own_mib())


def own_mib() -> float:
    """Memory of this process, in MiB, that the system cannot drop, as no file backs it."""
    status = proc_bytes("/proc/self/status")
    return (status.get("RssAnon", 0) + status.get("RssShmem", 0)) / MIB


def peak_mib() -> float:
    """Peak resident memory of this process since the last reset, in MiB (mapped files count)."""
    peak = proc_bytes("/proc/self/status").get("VmHWM")
    return (peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) / MIB
