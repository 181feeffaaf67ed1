"""The events that the challenge's grader listens for, sent so that a silent grader hangs nothing.

Off the grader (AICROWD_IS_GRADING unset or empty) every call returns at once. On it, aicrowd-api
0.1.25 waits for its Redis, and for a blocking event's answer, without end. So one daemon thread
sends all events in order; callers never wait for a plain event, and for a blocking one (submit,
execution_error) AICROWD_EVENT_TIMEOUT seconds (default 60) at most.
"""

import logging
import os
import queue
import threading
from typing import Any

log = logging.getLogger(__name__)

_outbox: queue.Queue[tuple[dict[str, Any], threading.Event]] = queue.Queue()
_sender: threading.Thread | None = None


def is_grading() -> bool:
    """Whether this runs on the evaluation server; any text counts, `False` too, as in the API."""
    return bool(os.environ.get("AICROWD_IS_GRADING"))


def execution_started() -> None:
    _send("INFO", "execution_started")


def register_progress(training_progress: float) -> None:
    """The share of the training that is done, in 0..1."""
    _send("INFO", "register_progress", training_progress=training_progress)


def submit() -> None:
    """Blocking: the representation is exported and may be scored."""
    _send("SUCCESS", "submit", blocking=True)


def execution_error(error: str) -> None:
    """Blocking: the run has failed for the reason given."""
    _send("ERROR", "execution_error", blocking=True, error=error)


def _send(kind: str, name: str, blocking: bool = False, **payload: Any) -> None:
    global _sender
    if not is_grading():
        return
    if _sender is None:
        _sender = threading.Thread(target=_deliver, name="grader-events", daemon=True)
        _sender.start()
    event = {"event_type": f"AICROWD_EVENT_{kind}", "message": name, "blocking": blocking}
    event["payload"] = {"event_type": f"disentanglement_challenge:{name}", **payload}
    sent = threading.Event()
    _outbox.put((event, sent))
    if blocking and not sent.wait(timeout_seconds()):
        log.warning("the grader did not answer %r in %g s; going on", name, timeout_seconds())


def timeout_seconds() -> float:
    """How long a blocking event may take, in seconds."""
    try:
        seconds = float(os.environ.get("AICROWD_EVENT_TIMEOUT", "60"))
    except ValueError:
        return 60.0
    return seconds if 0 <= seconds < 1e6 else 60.0


def _deliver() -> None:
    from aicrowd_api.events import AIcrowdEvents  # sets up its Redis when it is made

    api = None
    while True:
        event, sent = _outbox.get()
        try:
            api = api or AIcrowdEvents()
            api.register_event(**event)
        except Exception as error:  # whatever a broken grader raises, the run goes on
            log.warning("event %r not delivered: %s", event["message"], error)
        sent.set()
