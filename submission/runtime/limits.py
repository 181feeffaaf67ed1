"""How much memory this process may have, and who says so."""

import contextlib
import re
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from submission.runtime.errors import UserError

MIB = 2**20


@dataclass(frozen=True)
class Limit:
    """`lasting` is False for free memory, which is another at the next start; address space is also
    taken by mapped files."""

    bytes: int
    source: str
    lasting: bool = True
    address_space: bool = False


def mib(number: float) -> str:
    """A number of bytes for people."""
    return f"{number / MIB:,.0f} MiB"


def parse_bytes(text: str) -> int:
    """ "8g", "2GiB", "1500m" or "1.5 GB": k, m, g and t are powers of 1,024, as for Docker. Raises
    UserError if it is not of this form, or zero."""
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    number = int(float(match[1]) * 1024 ** " kmgt".index(match[2] or " ")) if match else 0
    if number == 0:
        raise UserError(f"--memory {text!r} is no amount of memory: write it as 8g, 2GiB or 1500m")
    return number


def memory_limit(wanted: str | None = None) -> Limit:
    """The least of what the kernel and the user allow this process; `wanted` is --memory as given,
    or None. Raises UserError if that is no amount of memory."""
    limits = [*_cgroup_limits()]
    if wanted:
        limits.append(Limit(parse_bytes(wanted), "--memory"))
    status = proc_bytes("/proc/self/status")
    resident = status.get("VmRSS", 0)
    if (soft := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        # What is mapped counts against this limit, touched or not.
        untouched = status.get("VmSize", 0) - resident
        limits.append(Limit(max(soft - untouched, 0), "RLIMIT_AS", address_space=True))
    if (free := proc_bytes("/proc/meminfo").get("MemAvailable")) is not None:
        limits.append(Limit(free + resident, "free memory", lasting=False))
    if not limits:
        raise UserError("this system does not say how much memory there is: give --memory")
    return min(limits, key=lambda limit: limit.bytes)


def memory_cgroups() -> Iterator[tuple[Path, str]]:
    """This process's memory cgroup and its ancestors that can be seen: folder, limit file's name.

    A container often sees its own cgroup as the root of the tree, under a path that still names
    the host's; the mount's root tells the two apart.
    """
    with contextlib.suppress(OSError):
        paths: dict[str, str] = {}  # "" is version 2's
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "" or "memory" in controllers.split(","):
                paths[controllers and "memory"] = path
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            root, mount = before.split()[3:5]
            kind, _, options = after.split(maxsplit=2)
            if kind == "cgroup2" and "" in paths:
                path, name = paths[""], "memory.max"
            elif kind == "cgroup" and "memory" in options.split(",") and "memory" in paths:
                path, name = paths["memory"], "memory.limit_in_bytes"
            else:
                continue
            folder = top = Path(mount)
            with contextlib.suppress(ValueError):
                folder = top / Path(path).relative_to(root)
            yield folder, name
            while folder != top:
                folder = folder.parent
                yield folder, name


def _cgroup_limits() -> Iterator[Limit]:
    for folder, name in memory_cgroups():
        with contextlib.suppress(OSError, ValueError):  # "max", or the root, which has no limit
            number = int((folder / name).read_text())
            if number < 1 << 60:  # version 1 writes "none" as the largest number of whole pages
                yield Limit(number, f"cgroup {folder / name}")


def proc_bytes(path: str) -> dict[str, int]:
    """The `Name: 12 kB` lines of a file in /proc, in bytes; empty where there is no such file."""
    found: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for line in Path(path).read_text().splitlines():
            name, _, value = line.partition(":")
            if value.endswith(" kB"):
                found[name] = int(value.split()[0]) * 1024
    return found
