"""Processes forked from a server that has imported the package once; apart from the seconds that
this saves they are what `python -m submission` starts."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

forked = multiprocessing.get_context("forkserver")
forked.set_forkserver_preload(
    [
        "submission.commands.train",
        "submission.commands.run",
        "submission.commands.score",
        "submission.commands.report",
    ]
)


def run_main(
    arguments: Sequence[str],
    environment: dict[str, str],
    files: tuple[str, str],
    folder: str | None = None,
    before: Callable[[], None] | None = None,
) -> None:
    """In the child: the command line with its output in files (stdout, stderr), in a folder, with
    just this environment; `before` is called first."""
    out, err = (os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for file in files)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.environ.clear()
    os.environ.update(environment)
    if folder:
        os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Layers this small gain nothing from threads and lose much to them on a busy machine.
    torch.set_num_threads(1)
    from submission.__main__ import main

    if before:
        before()
    sys.exit(main(list(arguments)))


def call(
    arguments: Sequence[str], environment: dict[str, str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run of `python -m submission` with these arguments."""
    with tempfile.TemporaryDirectory() as said:
        files = f"{said}/out", f"{said}/err"
        # A daemon has no processes of its own: joblib does in it what it would do in several.
        process = forked.Process(
            target=run_main,
            daemon=True,
            args=(arguments, environment, files, folder and str(folder)),
        )
        process.start()
        process.join(600)
        if process.exitcode is None:
            process.kill()
        out, err = (Path(file).read_text() for file in files)
    assert process.exitcode is not None, f"it hangs: {err}"
    return subprocess.CompletedProcess(list(arguments), process.exitcode, out, err)
