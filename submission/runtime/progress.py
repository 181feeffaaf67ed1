"""Progress bars that suit a terminal and a log file alike."""

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(**settings: Any) -> "tqdm[Any]":
    """A tqdm bar with the time left; in a log file it writes a line every 15 seconds at most."""
    interval = 0.2 if sys.stderr.isatty() else 15.0
    return tqdm(mininterval=interval, maxinterval=interval, **settings)
