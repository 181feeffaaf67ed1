"""`python -m submission <command>`: each command is one module of submission.commands.
A module has `add_arguments(parser)` and `run(args)`; it is imported only when its command is named,
so that `--help` is quick."""

import argparse
import errno
import importlib
import io
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from submission.runtime.errors import UserError, first_line

COMMANDS = {
    "run": "what run.sh calls: the server's job there, a dry run elsewhere",
    "data": "where each data set is to be had, and whether what lies there is whole",
    "render": "render a stand-in for MPI3D in the official format",
    "finetune": "train the extractor on simulated images (section 2.1)",
    "probe": "what the extractor reads in labelled images",
    "train": "features, VAE, export: the server's job",
    "score": "score an exported model, or codes of any model, with disentanglement_lib",
    "sweep": "seeds x configurations on Ray: a table and a CSV",
    "report": "a scored run as one HTML file, beside other runs",
    "encode": "images -> latent codes, as an npz file",
    "evaluate": "what the server does with a pushed tag, at home",
    "remote": "make a repository that evaluates each pushed tag",
    "check": "what can be known before a tag is pushed",
}

# What a path or a disk of the user's leads to; any other OSError is a fault of this program.
_USERS_ERRORS = {
    *("ENOSPC", "EDQUOT", "EROFS", "EFBIG", "EIO", "EACCES", "EPERM", "ENOENT", "ENOTDIR"),
    *("EISDIR", "EEXIST", "ENAMETOOLONG", "ELOOP"),
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns 0, 2 for a user's mistake, 130 for Ctrl-C, 141 for a shut pipe."""
    _open_closed_streams()
    os.environ["MPLBACKEND"] = "agg"  # a notebook's is none that this environment need have
    description = (__doc__ or "").split("\n")[0]  # none under `python -OO`
    parser = argparse.ArgumentParser("python -m submission", description=description)
    subparsers = parser.add_subparsers(dest="command", metavar="command", required=True)
    argv = sys.argv[1:] if argv is None else argv
    for name, help_text in COMMANDS.items():
        sub = subparsers.add_parser(name, help=help_text, description=help_text)
        if argv and argv[0] == name:
            importlib.import_module(f"submission.commands.{name}").add_arguments(sub)
    args = parser.parse_args(argv)
    for name, value in vars(args).items():  # a quoted ~ is the home folder, too
        if isinstance(value, Path):
            setattr(args, name, value.expanduser())
        elif isinstance(value, list) and all(isinstance(one, Path) for one in value):
            setattr(args, name, [one.expanduser() for one in value])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a tick gets a question mark
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("submission").setLevel(logging.INFO)
    try:
        importlib.import_module(f"submission.commands.{args.command}").run(args)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # whoever read has had enough (`| head`)
        _drop_output()
        return 141
    except UserError as error:
        text = first_line(error)
    except OSError as error:
        if errno.errorcode.get(error.errno or 0) not in _USERS_ERRORS:
            raise
        what = "cannot open or write" + (f" {error.filename}" if error.filename else "")
        text = f"{what}: {error.strerror}; make room, give access, or name another folder"
    except MemoryError:
        text = "not enough memory: give the run more, or a smaller data set"
    except KeyboardInterrupt:
        return _ended("\nstopped; the same command goes on from here", 130)
    return _ended(f"error: {text}", 2)


def _ended(said: str, code: int) -> int:
    """Prints the reason, where it can be printed (stderr may be a full disk's file)."""
    with suppress(OSError):
        print(said, file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
    return code


def _drop_output() -> None:
    """Nothing is left to be flushed at the exit, which would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _open_closed_streams() -> None:
    """A stream that the caller has closed (`>&-`) is silence. Left closed, the next file that is
    opened would get its number, and what other programs and libraries print."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It gets the lowest number that is free, its own.
            stream = open(os.devnull, mode)  # noqa: SIM115 - open as long as the process
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


if __name__ == "__main__":
    sys.exit(main())
