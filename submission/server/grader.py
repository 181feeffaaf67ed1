"""The grader's side of the events: a real Redis server, and a listener that answers.

The submission is hostile code that may talk to this server, so the server knows only the commands
that the grader's published packages use, keeps nothing on disk, and forgets beyond 64 MB.
"""

import json
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from submission.runtime.errors import UserError
from submission.server.events import WIRES

# The lists' names after each wire's prefix: what is sent, and the answers to blocking events.
_CHANNEL = "_REDIS_COMMUNICATION_CHANNEL"
_ANSWERS = "_BLOCKING_RESPONSE_CHANNEL"
_KNOWN = ("execution_started", "register_progress", "submit", "execution_error")
_CONFIGURATION = """
bind {host}
port {port}
protected-mode no
save ""
appendonly no
maxmemory 64mb
user default on nopass ~* -@all +@connection +keys +lpush +brpop
"""


class Events:
    """How often the submission sent each of the challenge's events, by wire. An event's own text
    is the submission's, so neither trusted nor kept: any other event is `unknown`."""

    def __init__(self) -> None:
        self.heard: dict[str, Counter[str]] = {wire: Counter() for wire in WIRES}

    def add(self, wire: str, event: dict[str, Any]) -> None:
        payload = event.get("payload")
        kind = payload.get("event_type") if isinstance(payload, dict) else None
        name = str(kind).removeprefix("disentanglement_challenge:")
        self.heard[wire][name if name in _KNOWN else "unknown"] += 1

    def said(self, name: str) -> bool:
        """Whether this event came, on any wire."""
        return any(counts[name] for counts in self.heard.values())

    def __str__(self) -> str:
        """What came on each wire, as `1 x submit (AICROWD)`; nothing for nothing."""
        lines = []
        for wire, counts in self.heard.items():
            said = ", ".join(f"{count} x {name}" for name, count in counts.items())
            lines += [f"{said} ({wire})"] if said else []
        return "; ".join(lines)


def variables(host: str, port: int) -> dict[str, str]:
    """What tells a submission where the grader is, on all wires."""
    values = {"IS_GRADING": "True", "REDIS_HOST": host, "REDIS_PORT": str(port)}
    return {f"{wire}_{name}": value for wire in WIRES for name, value in values.items()}


@contextmanager
def grader(host: str, folder: Path) -> Iterator[tuple[int, Events]]:
    """Runs `redis-server` at an address of this machine, and no other; yields its port and the
    events. `folder` takes its configuration and log. UserError if there is no redis-server, or it
    does not come up at that address."""
    program = shutil.which("redis-server")
    if program is None:
        remedy = "install it (Debian, Ubuntu: apt-get install redis-server)"
        raise UserError(f"no redis-server found, which plays the grader's part: {remedy}")
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    configuration = folder / "redis.conf"
    configuration.write_text(_CONFIGURATION.format(host=host, port=port))
    events, stop = Events(), threading.Event()
    with open(folder / "redis.log", "wb") as log:
        server = subprocess.Popen([program, configuration.name], cwd=folder, stdout=log, stderr=log)
    thread = threading.Thread(target=_listen, args=(host, port, events, stop), daemon=True)
    try:
        _wait_until_up(server, host, port, folder)
        thread.start()
        yield port, events
    finally:
        stop.set()
        if thread.is_alive():
            thread.join(5)
        server.terminate()
        server.wait()


def _wait_until_up(server: subprocess.Popen[bytes], host: str, port: int, folder: Path) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end and server.poll() is None:
        try:
            redis.Redis(host, port).ping()
            return
        except redis.exceptions.ConnectionError:
            time.sleep(0.05)
    raise UserError(f"redis-server did not start at {host}:{port}: see {folder / 'redis.log'}")


def _listen(host: str, port: int, events: Events, stop: threading.Event) -> None:
    """Takes events until `stop`; a blocking one (all but INFO) is answered."""
    client = redis.Redis(host, port)
    # One more second after the end, for what was sent last.
    while True:
        last = stop.is_set()
        try:
            taken: Any = client.brpop([wire + _CHANNEL for wire in WIRES], timeout=1)
            event = json.loads(taken[1]) if taken else None
        except (redis.exceptions.RedisError, ValueError, RecursionError):
            taken = event = None
        if taken is None and last:
            return
        if isinstance(event, dict):
            wire = taken[0].decode().removesuffix(_CHANNEL)
            events.add(wire, event)
            if event.get("event_type") != f"{wire}_EVENT_INFO":
                with suppress(redis.exceptions.RedisError):  # no room left, for one
                    client.lpush(wire + _ANSWERS, json.dumps({"ok": True}))
