"""`sweep`: seeds x configurations on Ray, on this machine or on a cluster; a table and a CSV.

Each job has a run folder of its own below --out and runs in processes of its own (see job.py). The
same command, called again, skips the jobs that have scores and continues the others.
"""

import argparse
import logging
import os
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from submission.commands import options
from submission.data.dataset import open_dataset, verify
from submission.features.weights import SHIPPED_WEIGHTS
from submission.metrics.grids import check_grid
from submission.runtime import paths, signals
from submission.runtime.files import locked
from submission.sweep.cluster import import_ray, on_ray, sentence
from submission.sweep.job import scores_of
from submission.sweep.plan import check, extract, own_copy, plan_jobs
from submission.sweep.table import write_report

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_metrics(parser)
    options.add_bindings(parser)
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        required=True,
        dest="configs",
        metavar="FILE",
        help="gin file; once for each",
    )
    parser.add_argument(
        "--seeds", type=int, default=5, metavar="N", help="0 to N-1 (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, required=True,
        help="folder of the sweep: a run folder per job, sweep.csv, sweep.txt",
    )  # fmt: skip
    options.add_data(parser)
    parser.add_argument(
        "--weights", type=Path, default=SHIPPED_WEIGHTS, help="extractor; default: the shipped one"
    )
    parser.add_argument(
        "--address", metavar="auto|HOST:PORT",
        help="a running Ray cluster; its nodes need this checkout with its environment, the data, "
        "--out and the cache at the same paths, as on a shared disk; default: this machine",
    )  # fmt: skip
    parser.add_argument(
        "--cpus", type=int, default=min(2, os.cpu_count() or 1),
        help="cores, and so threads, per job (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--gpus", type=float, help="per job, as 1 or 0.5; default: 1 if a GPU is here, else 0"
    )
    parser.add_argument(
        "--memory",
        help="as 8g: what a job may take; default: its cores' share of this machine's memory, on a "
        "cluster what its node says",
    )


def run(args: argparse.Namespace) -> None:
    """Prints the table; exit code 1 if a job failed."""
    ray = import_ray()
    args.gpus = float(torch.cuda.is_available()) if args.gpus is None else args.gpus
    check(args)
    dataset = open_dataset(args.data or paths.data_folder(), args.dataset or paths.dataset_name())
    check_grid(dataset.factor_sizes)
    paths.make_folder(args.out, "name another --out")
    with locked(args.out / ".lock", "wait for it, or give this sweep another --out"):
        with signals.stoppable():
            log.info("data: %s", dataset.description)
            md5 = verify(dataset, sys.stderr.isatty())
            args.configs = [own_copy(config, args.out.resolve()) for config in args.configs]
            jobs = plan_jobs(args, dataset, md5)
            todo = [job for job in jobs if not scores_of(job)]
            log.info("%d jobs, %d of them have scores", len(jobs), len(jobs) - len(todo))
            for config in args.configs:
                if any(job.config == config.stem for job in todo):
                    extract(config, args, dataset, md5)
        failed: dict[str, str] = {}
        write_report(args.out, jobs, failed, dataset, args.quick)
        for job, reason in on_ray(ray, args, todo) if todo else ():
            if reason:
                failed[job.folder.name] = reason
            tqdm.write(sentence(job, reason), file=sys.stderr)
            write_report(args.out, jobs, failed, dataset, args.quick)
    print(f"\n{(args.out / 'sweep.txt').read_text()}\nin {args.out}")
    if failed:
        print(
            f"\n{len(failed)} of {len(jobs)} jobs failed: mend what they say, and the same command "
            "continues them", file=sys.stderr,
        )  # fmt: skip
        sys.exit(1)
