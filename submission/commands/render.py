"""`render`: a stand-in for MPI3D in the official format."""

import argparse
from pathlib import Path

from submission.render.rig import AXIS_VALUES, DOMAINS
from submission.render.stand_in import write_samples, write_stand_in
from submission.runtime import signals
from submission.runtime.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    what = f"which MPI3D domain to imitate: {', '.join(DOMAINS)} (default %(default)s)"
    add("--domain", default="real", help=what)
    what = "values kept of each axis, spread evenly over the 40 (default %(default)s: all)"
    add("--axis-steps", type=int, default=AXIS_VALUES, help=what)
    what = "folder that gets <name>/<name>.npz; use it as DISENTANGLEMENT_LIB_DATA"
    add("--out", type=Path, help=what)
    add("--seed", type=int, default=0, help="of the noise (default %(default)s)")
    add("--threads", type=int, help="default: one a processor")
    what = "write only a PNG sheet of samples of all domains to this file"
    add("--picture", type=Path, help=what)


def run(args: argparse.Namespace) -> None:
    """The `render` command."""
    if args.threads is not None and args.threads < 1:
        raise UserError(f"--threads {args.threads} is not a number of threads: give 1 or more.")
    if args.picture is not None:
        write_samples(args.picture)
        return
    if args.out is None:
        raise UserError("render needs --out: name the folder that is to get the stand-in.")
    with signals.stoppable():
        path = write_stand_in(args.out, args.domain, args.axis_steps, args.seed, args.threads)
    print(f"Wrote {path}, a rendered stand-in, not MPI3D.")
