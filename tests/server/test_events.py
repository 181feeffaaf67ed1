"""The events on the wire, beside what the grader's two published packages send."""

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from submission.server import events

PASSWORD = "secret"

# As the starter kit's and the authors' helpers call them.
THEIRS = """
from aicrowd_api.events import AIcrowdEvents
from crowdai_api.events import CrowdAIEvents
for wire, api in ("AICROWD", AIcrowdEvents()), ("CROWDAI", CrowdAIEvents()):
    def send(kind, name, blocking=False, **more):
        payload = {"event_type": "disentanglement_challenge:" + name, **more}
        api.register_event(getattr(api, f"{wire}_EVENT_{kind}"), name, payload, blocking)
    send("INFO", "execution_started")
    send("INFO", "register_progress", training_progress=0.4)
    send("INFO", "register_progress", training_progress=1.0)
    send("SUCCESS", "submit", blocking=True)
    send("ERROR", "execution_error", blocking=True, error='no data: an \\u00e9 and a "')
"""


def send_ours() -> None:
    events.execution_started()
    events.register_progress(0.4)
    events.register_progress(1.0)
    events.submit()
    events.execution_error('no data: an \u00e9 and a "')


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real Redis server, with a password."""
    program = shutil.which("redis-server")
    if program is None and not os.environ.get("REQUIRE_CONTAINER"):
        pytest.skip("no redis-server here: apt-get install redis-server")
    assert program
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free: int = probe.getsockname()[1]
    command = [program, "--bind", "127.0.0.1", "--port", str(free), "--save", ""]
    command += ["--requirepass", PASSWORD]
    folder = tmp_path_factory.mktemp("redis")
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    while server.poll() is None:
        try:
            redis.Redis(port=free, password=PASSWORD).ping()
            break
        except redis.exceptions.ConnectionError:
            time.sleep(0.02)
    yield free
    server.terminate()
    server.wait()


@pytest.fixture(autouse=True)
def no_grader(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith(("AICROWD", "CROWDAI"))]:
        monkeypatch.delenv(name)


def grader(wire: str, port: int, **own: str) -> dict[str, str]:
    """The environment that a grader sets."""
    values = {"IS_GRADING": "True", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(port)}
    return {f"{wire}_{key}": value for key, value in (values | own).items()}


class Lists:
    """The two lists of a wire in its grader's Redis."""

    def __init__(self, wire: str, given: dict[str, str]) -> None:
        own, back = f"{wire}_REDIS_COMMUNICATION_CHANNEL", f"{wire}_BLOCKING_RESPONSE_CHANNEL"
        self.channel, self.answers = given.get(own, own), given.get(back, back)
        db, port = given.get(f"{wire}_REDIS_DB", "0"), given[f"{wire}_REDIS_PORT"]
        self.redis = redis.Redis(port=int(port), db=int(db), password=PASSWORD)

    def answer(self, blocking: int) -> None:
        """Places the answers to so many blocking events, before they come."""
        self.redis.lpush(self.answers, *['{"ok": true}'] * blocking)

    def take(self) -> list[bytes]:
        """The texts that have come, in order; none of the answers may be left."""
        assert self.redis.llen(self.answers) == 0
        texts: Any = self.redis.lrange(self.channel, 0, -1)[::-1]
        self.redis.delete(self.channel)
        return list(texts)


EVERY_VARIABLE = {"AGENT_ID": "agent 7", "REDIS_DB": "3"}


@pytest.mark.parametrize("own", [{}, EVERY_VARIABLE], ids=["defaults", "every variable"])
def test_ours_are_the_published_packages_field_by_field(
    port: int, own: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both wires set at once; what the packages find unset, ours does, too."""
    given: dict[str, str] = {}
    for wire in events.WIRES:
        names = ("REDIS_COMMUNICATION_CHANNEL", "BLOCKING_RESPONSE_CHANNEL")
        more = {name: f"{name.lower()} of {wire}" for name in names} if own else {}
        given |= grader(wire, port, REDIS_PASSWORD=PASSWORD, **own, **more)
    lists = {wire: Lists(wire, given) for wire in events.WIRES}
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    for each in lists.values():
        each.answer(2)
    send_ours()
    ours = {wire: each.take() for wire, each in lists.items()}
    for each in lists.values():
        each.answer(2)
    subprocess.run([sys.executable, "-c", THEIRS], check=True)
    theirs = {wire: each.take() for wire, each in lists.items()}

    for wire in events.WIRES:
        assert len(theirs[wire]) == 5
        parsed = [[json.loads(text) for text in side[wire]] for side in (ours, theirs)]
        assert parsed[0] == parsed[1]
        assert set(parsed[1][0]) == {"event_type", "agent_id", "message", "payload"}
    assert ours == theirs, "to the byte"


def test_one_wire_alone(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grader of 2019 sets CROWDAI_* alone: it is a grader, and nothing goes to another place.
    Its answer is waited for."""
    for wire, seconds in zip(events.WIRES, (0, 1.2), strict=True):
        given = grader(wire, port, REDIS_PASSWORD=PASSWORD)
        lists = Lists(wire, given)
        lists.redis.flushdb()
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            assert events.is_grading()
            started = time.monotonic()
            threading.Timer(seconds, lists.answer, (1,)).start()
            events.submit()
            assert time.monotonic() - started > seconds
        assert [key.decode() for key in lists.redis.scan_iter()] == [lists.channel]
        assert len(lists.take()) == 1
    assert not events.is_grading()


def test_a_silent_wire_keeps_the_other_waiting_no_longer_than_the_limit(
    port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One grader answers, the other accepts and never says a word; then one refuses the password,
    which no waiting mends."""
    monkeypatch.setenv("AICROWD_EVENT_TIMEOUT", "0.5")
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        given = grader("AICROWD", mute.getsockname()[1])
        given |= grader("CROWDAI", port, REDIS_PASSWORD=PASSWORD)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        lists = Lists("CROWDAI", given)
        lists.answer(1)
        with caplog.at_level(logging.WARNING):
            events.submit()
        assert "the AICROWD grader did not answer 'submit' in 0.5 s" in caplog.text
        assert "the CROWDAI grader" not in caplog.text
        assert len(lists.take()) == 1
        monkeypatch.delenv("AICROWD_IS_GRADING")
        monkeypatch.setenv("CROWDAI_REDIS_PASSWORD", "wrong")
        with caplog.at_level(logging.WARNING):
            events.submit()
        assert "event 'submit' not delivered to the CROWDAI grader: " in caplog.text
