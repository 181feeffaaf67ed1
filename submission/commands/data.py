"""`data`: where each data set is to be had, and whether what lies in the data folder is whole."""

import argparse
import sys
from pathlib import Path

from submission.data.catalogue import ENTRIES, Entry, State, state
from submission.runtime import paths
from submission.runtime.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = f"some of {', '.join(ENTRIES)}; default: all"
    parser.add_argument("names", nargs="*", metavar="NAME", help=what)
    what = "folder of the data sets; default: DISENTANGLEMENT_LIB_DATA"
    parser.add_argument("--data", type=Path, help=what)


def run(args: argparse.Namespace) -> None:
    """Prints what is known of each data set and what lies there; downloads nothing. Ends with exit
    code 1 if what lies there of one is damaged or lacks files; a set that is not there at all is
    no failure.

    Raises:
        UserError: there is no data set of that name.
    """
    if unknown := [name for name in args.names if name not in ENTRIES]:
        raise UserError(f"unknown data set {unknown[0]!r}: the names are {', '.join(ENTRIES)}")
    folder = args.data or paths.data_folder()
    broken = []
    for name in dict.fromkeys(args.names or ENTRIES):
        print(_head(name, ENTRIES[name], folder), flush=True)  # reading the files takes a while
        found = state(folder, name)
        print(f"{_state(found)}\n", flush=True)
        broken += [name] if found.whole is False else []
    if broken:
        sys.exit(f"not whole: {', '.join(broken)}")


def _head(name: str, entry: Entry, folder: Path) -> str:
    rows = [("from", entry.source), ("licence", entry.licence), ("size", entry.size)]
    rows += [("" if i else "checksum", text) for i, text in enumerate(entry.checksums)]
    rows += [("goes to", f"{folder}/{entry.place}")]
    return "\n".join([f"{name}: {entry.images}", *(f"  {key:9} {value}" for key, value in rows)])


def _state(found: State) -> str:
    mark = {True: "\u2713", False: "\u2717", None: "-"}[found.whole]
    return f"  {'there':9} {mark} {found.text}"
