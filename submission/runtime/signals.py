"""SIGTERM and Ctrl-C: a training finishes its step and saves, anything else just ends."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_asked = 0
_held = False


class Stopped(SystemExit):
    """Ends the process with 128 + the signal's number; its text says what was saved."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.code = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """For a command's work: the first signal raises Stopped, whose text is printed; a second one
    ends the process at once."""
    global _asked
    try:
        with _caught(_SIGNALS, _handle):
            yield
    finally:
        _asked = 0


@contextmanager
def cleared_away(text: str) -> Iterator[None]:
    """For work that no later call can continue: a signal (a closed terminal's SIGHUP, too) unwinds
    it through its `finally` blocks, undisturbed by others, and ends the process with `text`."""
    numbers = (*_SIGNALS, signal.SIGHUP)

    def end(number: int, frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(f"stopped by {signal.Signals(number).name}: {text}", number)

    with _caught(numbers, end):
        yield


@contextmanager
def _caught(numbers: Sequence[int], handler: Callable[[int, object], None]) -> Iterator[None]:
    """Sends these signals to `handler`, except one that the caller ignores (nohup), and prints a
    Stopped that comes out. In a thread, as a notebook may use one, they stay the main thread's:
    Python lets no other one handle them."""
    if threading.current_thread() is not threading.main_thread():
        numbers = ()
    before = {each: signal.getsignal(each) for each in numbers}
    for each, own in before.items():
        if own != signal.SIG_IGN:
            signal.signal(each, handler)
    try:
        yield
    except Stopped as stopped:
        print(f"\n{stopped}", file=sys.stderr, flush=True)
        raise
    finally:
        for each, own in before.items():
            signal.signal(each, own)


@contextmanager
def held() -> Iterator[None]:
    """Holds a signal back until the loop inside looks at `asked` and calls `stop`, or ends."""
    global _held
    _held = True
    try:
        yield
    finally:
        _held = False
    if _asked:
        stop(_asked)


def asked() -> int:
    """The number of the signal that was held back; 0 for none."""
    return _asked


def stop(number: int, saved: str = "finished stages are kept") -> NoReturn:
    """Raises Stopped with one sentence; `saved` is its clause on what was kept."""
    name = signal.Signals(number).name
    raise Stopped(f"stopped by {name}: {saved}; the same command goes on from there", number)


def _handle(number: int, frame: object) -> None:
    global _asked
    _asked = number
    # torchrun sends a second signal when the terminal has already sent one to every process; it
    # kills by itself after 30 seconds.
    again = signal.SIG_IGN if "TORCHELASTIC_RUN_ID" in os.environ else signal.SIG_DFL
    for each in _SIGNALS:
        if signal.getsignal(each) == _handle:
            signal.signal(each, again)
    if not _held:
        stop(number)
