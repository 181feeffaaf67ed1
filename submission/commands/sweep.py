"""`sweep`: seeds x configurations on Ray, on this machine or on a cluster; a table and a CSV.

Each job has its own run folder below --out and runs in its own processes. The same command, called
again, skips the jobs that have scores and continues the others.
"""

import argparse
import os
import sys
from pathlib import Path

import torch

from submission.commands import options
from submission.sweep.plan import SweepOptions
from submission.sweep.run import run_sweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    options.add_metrics(parser)
    options.add_bindings(parser)
    listed = {"action": "append", "dest": "configs", "metavar": "FILE"}
    add("--config", type=Path, required=True, help="gin file; once for each", **listed)
    add("--seeds", type=int, default=5, metavar="N", help="0 to N-1 (default: %(default)s)")
    what = "folder of the sweep: a run folder per job, sweep.csv, sweep.txt"
    add("--out", type=Path, required=True, help=what)
    options.add_data(parser)
    options.add_weights(parser)
    same = "this checkout with its environment, the data, --out and the cache at the same paths"
    what = f"a running Ray cluster; its nodes need {same}, as on a shared disk"
    add("--address", metavar="auto|HOST:PORT", help=f"{what}; default: this machine")
    what = "cores, and so threads, per job (default: %(default)s)"
    add("--cpus", type=int, default=min(2, os.cpu_count() or 1), help=what)
    add("--gpus", type=float, help="per job, as 1 or 0.5; default: 1 if a GPU is here, else 0")
    what = "default: its cores' share of this machine's memory, on a cluster what its node says"
    add("--memory", help=f"as 8g: what a job may take; {what}")


def options_of(args: argparse.Namespace) -> SweepOptions:
    gpus = float(torch.cuda.is_available()) if args.gpus is None else args.gpus
    return options.filled(SweepOptions, args, gpus=gpus)


def run(args: argparse.Namespace) -> None:
    """Prints the table; exit code 1 if a job failed."""
    failed = run_sweep(options_of(args), options.dataset_of(args))
    print(f"\n{(args.out / 'sweep.txt').read_text()}\nin {args.out}")
    if failed:
        what = f"jobs failed: {len(failed)}"
        sys.exit(f"\n{what}: mend what they say, and the same command continues them")
