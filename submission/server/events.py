"""The events that the challenge's grader listens for, sent so that a silent grader hangs nothing.

An event is a JSON text pushed onto a list in the grader's Redis. The grader's package has been
published under two names, `crowdai_api` and later `aicrowd_api`. They differ in a prefix of the
variables, of the lists' names and of the event types, called a wire here. An event goes out on
each wire whose <WIRE>_IS_GRADING is set; where none is, every call returns at once.

Those packages wait for their Redis, and for a blocking event's answer, without end. Here a daemon
thread for each wire sends all events in order. Callers never wait for a plain event, and for a
blocking one (submit, execution_error) AICROWD_EVENT_TIMEOUT seconds (default 60) at most.
"""

import json
import logging
import os
import queue
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError, TimeoutError
from redis.retry import Retry

log = logging.getLogger(__name__)

WIRES = ("AICROWD", "CROWDAI")

_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class _Event:
    """One event on one wire. `done` is set when it is delivered (and answered, if it is blocking),
    or when it never can be, which is logged."""

    kind: str
    name: str
    payload: dict[str, Any]
    answer_until: float | None  # of time.monotonic; None for a plain event
    done: threading.Event = field(default_factory=threading.Event)


_outboxes: dict[str, "queue.Queue[_Event]"] = {}


def grading_wires() -> tuple[str, ...]:
    """The wires that a grader has set; any text counts, `False` too, as in the packages."""
    return tuple(wire for wire in WIRES if os.environ.get(f"{wire}_IS_GRADING"))


def is_grading() -> bool:
    """Whether this runs on the evaluation server."""
    return bool(grading_wires())


def execution_started() -> None:
    _send("INFO", "execution_started")


def register_progress(training_progress: float) -> None:
    """The share of the job that is done, in 0..1."""
    _send("INFO", "register_progress", training_progress=training_progress)


def submit() -> None:
    """Blocking: the representation is exported and may be scored."""
    _send("SUCCESS", "submit", blocking=True)


def execution_error(error: str) -> None:
    """Blocking: the run has failed for the reason given."""
    _send("ERROR", "execution_error", blocking=True, error=error)


def _send(kind: str, name: str, blocking: bool = False, **payload: Any) -> None:
    payload = {"event_type": f"disentanglement_challenge:{name}", **payload}
    end = time.monotonic() + timeout_seconds()
    events = {}
    for wire in grading_wires():
        events[wire] = _Event(kind, name, payload, end if blocking else None)
        _outbox(wire).put(events[wire])
    for wire, event in events.items() if blocking else ():
        if not event.done.wait(max(end - time.monotonic(), 0)):
            seconds = timeout_seconds()
            log.warning("the %s grader did not answer %r in %g s; going on", wire, name, seconds)


def timeout_seconds() -> float:
    """How long a blocking event may take, in seconds."""
    try:
        seconds = float(os.environ.get("AICROWD_EVENT_TIMEOUT", "60"))
    except ValueError:
        return 60.0
    return seconds if 0 <= seconds < 1e6 else 60.0


def _outbox(wire: str) -> "queue.Queue[_Event]":
    if wire not in _outboxes:
        _outboxes[wire] = queue.Queue()
        target, name = _deliver_all, f"{wire.lower()}-events"
        threading.Thread(target=target, args=(wire,), name=name, daemon=True).start()
    return _outboxes[wire]


def _deliver_all(wire: str) -> None:
    while True:
        event = _outboxes[wire].get()
        try:
            if not _delivered(wire, event):
                continue
        except Exception as error:  # whatever a broken grader raises, the run goes on
            log.warning("event %r not delivered to the %s grader: %s", event.name, wire, error)
        event.done.set()


def _delivered(wire: str, event: _Event) -> bool:
    """Tries until the grader's Redis has the event, and for a blocking one until it is answered;
    False if the time for that is over."""

    def variable(name: str, default: str) -> str:
        return os.environ.get(f"{wire}_{name}") or default

    message = {
        "event_type": f"{wire}_EVENT_{event.kind}",
        "agent_id": variable("AGENT_ID", "undefined"),
        "message": event.name,
        "payload": event.payload,
    }
    own, answers = "REDIS_COMMUNICATION_CHANNEL", "BLOCKING_RESPONSE_CHANNEL"
    # A new one for each event: hours lie between two, in which a network may drop an idle one.
    client = redis.Redis(
        host=variable("REDIS_HOST", "localhost"),
        port=int(variable("REDIS_PORT", "6379")),
        db=int(variable("REDIS_DB", "0")),
        password=variable("REDIS_PASSWORD", "") or None,
        socket_timeout=30,
        retry=Retry(NoBackoff(), 0),  # the loop below does that, and knows what has been sent
        protocol=2,  # the only one that a Redis of 2019 speaks
    )
    with client:
        sent = False
        while True:
            try:
                if not sent:
                    client.lpush(variable(own, f"{wire}_{own}"), json.dumps(message))
                    sent = True
                if event.answer_until is None:
                    return True
                if client.brpop([variable(answers, f"{wire}_{answers}")], timeout=1):
                    return True
            except AuthenticationError:
                raise
            except (ConnectionError, TimeoutError):
                time.sleep(_RETRY_SECONDS)
            if event.answer_until and time.monotonic() > event.answer_until:
                return False
