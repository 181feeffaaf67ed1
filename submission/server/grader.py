"""The grader's side of the events: a real Redis server, and a listener that answers.

The submission is hostile code that may talk to this server, so the server knows only the commands
that aicrowd-api uses, keeps nothing on disk, and forgets beyond 64 MB.
"""

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from submission.runtime.errors import UserError

CHANNEL = "AICROWD_REDIS_COMMUNICATION_CHANNEL"
ANSWERS = "AICROWD_BLOCKING_RESPONSE_CHANNEL"
_CONFIGURATION = """
bind {host}
port {port}
protected-mode no
save ""
appendonly no
maxmemory 64mb
user default on nopass ~* -@all +@connection +keys +lpush +brpop
"""


class Events(list[dict[str, Any]]):
    """What the submission sent, in order."""

    def named(self) -> list[str]:
        """Their names, as `submit`; each event's own text is the submission's, so not trusted."""
        payloads = [event.get("payload") for event in self]
        kinds = [each.get("event_type") if isinstance(each, dict) else None for each in payloads]
        return [str(kind).rpartition(":")[2] for kind in kinds]


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
            taken: Any = client.brpop([CHANNEL], timeout=1)
            event = json.loads(taken[1]) if taken else None
        except (redis.exceptions.RedisError, ValueError):
            taken = event = None
        if taken is None and last:
            return
        if isinstance(event, dict):
            events.append(event)
            if event.get("event_type") != "AICROWD_EVENT_INFO":
                client.lpush(ANSWERS, json.dumps({"ok": True}))
