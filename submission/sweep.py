"""`sweep`: seeds x configurations on Ray, on this machine or on a cluster; a table and a CSV.

Each job has a run folder of its own below --out and runs in processes of its own (see job.py). The
same command, called again, skips the jobs that have scores and continues the others.
"""

import argparse
import hashlib
import importlib
import logging
import math
import os
import statistics
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gin
import torch
from tqdm import tqdm

from submission import arguments, memory, paths, scoring, signals
from submission.config import find_config, load_config, refuse_unfit
from submission.data import Dataset, open_dataset, verify
from submission.errors import UserError, first_line
from submission.extractor import SHIPPED_WEIGHTS, check_sha256, load_extractor
from submission.features import cache_key, extract_features, pick_device
from submission.job import Job, record_of, scores_of, work
from submission.locks import locked
from submission.progress import progress_bar
from submission.score import add_scoring_arguments
from submission.stages import write_csv, write_text

log = logging.getLogger(__name__)

_INSTALL = ".venv/bin/pip install --no-deps -r requirements-sweep.lock"
_TITLES = {
    "factor_vae": "FactorVAE", "dci": "DCI", "sap": "SAP", "irs": "IRS", "mig": "MIG", "sum": "sum",
}  # fmt: skip
_COLUMNS = (*scoring.METRICS, "sum")
_TEMPORARY = 30  # characters of a path below which Ray's sockets can be


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_scoring_arguments(parser)
    arguments.add_bindings(parser)
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
    arguments.add_data(parser)
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
    ray = _import_ray()
    args.gpus = float(torch.cuda.is_available()) if args.gpus is None else args.gpus
    check(args)
    dataset = open_dataset(args.data or paths.data_folder(), args.dataset or paths.dataset_name())
    scoring.check_grid(dataset.factor_sizes)
    paths.make_folder(args.out, "name another --out")
    with locked(args.out / ".lock", "wait for it, or give this sweep another --out"):
        with signals.stoppable():
            log.info("data: %s", dataset.description)
            md5 = verify(dataset, sys.stderr.isatty())
            args.configs = [_own_copy(config, args.out.resolve()) for config in args.configs]
            jobs = plan_jobs(args, dataset, md5)
            todo = [job for job in jobs if not scores_of(job)]
            log.info("%d jobs, %d of them have scores", len(jobs), len(jobs) - len(todo))
            for config in args.configs:
                if any(job.config == config.stem for job in todo):
                    _extract(config, args, dataset, md5)
        failed: dict[str, str] = {}
        write_report(args.out, jobs, failed, dataset, args.quick)
        for job, reason in _on_ray(ray, args, todo) if todo else ():
            if reason:
                failed[job.folder.name] = reason
            tqdm.write(_sentence(job, reason), file=sys.stderr)
            write_report(args.out, jobs, failed, dataset, args.quick)
    print(f"\n{(args.out / 'sweep.txt').read_text()}\nin {args.out}")
    if failed:
        print(
            f"\n{len(failed)} of {len(jobs)} jobs failed: mend what they say, and the same command "
            "continues them", file=sys.stderr,
        )  # fmt: skip
        sys.exit(1)


def _import_ray() -> Any:
    # Before Ray's import, and for all that it starts: it would report the use of it.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UserError(
            f"a sweep needs Ray, which is an optional extra: run `{_INSTALL}`"
        ) from error


def check(args: argparse.Namespace) -> None:
    """Refuses at once what would fail in every job, after hours."""
    if args.seeds < 1 or args.cpus < 1 or not 0 <= args.gpus < math.inf:
        raise UserError("--seeds and --cpus must be at least 1, and --gpus at least 0")
    scoring.chosen(args.metrics)
    if any(
        binding.partition("=")[0].strip().endswith("train_vae.seed") for binding in args.bindings
    ):
        raise UserError("train_vae.seed is what a sweep varies: leave out its binding")
    args.configs = [find_config(config).resolve() for config in args.configs]
    stems = [config.stem for config in args.configs]
    if twice := [stem for stem in stems if stems.count(stem) > 1]:
        raise UserError(
            f"two configurations are called {twice[0]}: rename one, their runs would be"
        )


def _own_copy(config: Path, out: Path) -> Path:
    """The configuration as it is now, in the sweep's folder: a job that begins hours later must not
    read what was edited since."""
    load_config(config)
    copy = out / config.name
    if copy != config:
        write_text(copy, config.read_text(encoding="utf-8"))
    return copy


def plan_jobs(args: argparse.Namespace, dataset: Dataset, data_md5: str) -> list[Job]:
    """All jobs, by configuration and seed.

    Raises:
        UserError: a configuration is wrong, or a job's folder is of another one.
    """
    out = args.out.resolve()
    weights = check_sha256(args.weights)
    device = "cuda" if args.gpus else "cpu"
    share = args.memory
    if share is None and args.address is None:
        limit = memory.memory_limit().bytes * args.cpus // max(os.cpu_count() or 1, args.cpus)
        share = f"{limit >> 20}m"
    environment = {
        "AICROWD_OUTPUT_PATH": str(out),
        "AICROWD_IS_GRADING": "",
        "SUBMISSION_HOME": str(paths.home().resolve()),
        "SUBMISSION_CACHE": str(paths.cache_folder().resolve()),
        "OMP_NUM_THREADS": str(args.cpus),
        "LOKY_MAX_CPU_COUNT": str(args.cpus),
    }
    data = ("--data", str((args.data or paths.data_folder()).resolve()), "--dataset", dataset.name)
    limit_of_a_job = None
    if share:
        source = "--memory" if args.memory else "a job's share by --cpus, or as --memory says"
        limit_of_a_job = memory.Limit(memory.parse_bytes(share), source)
    on = pick_device("auto" if args.gpus else "cpu")
    jobs = []
    for config in args.configs:
        for seed in range(args.seeds):
            bindings = [*args.bindings, f"train_vae.seed={seed}"]
            load_config(config, bindings)
            refuse_unfit()
            if limit_of_a_job:
                memory.plan(dataset.num_images, limit_of_a_job, on, dataset.mapped_bytes)
            made_of = f"{data_md5}\n{weights}\n{gin.config_str()}"
            folder = out / f"{config.stem}-seed{seed}"
            common = ("--name", folder.name, *data, "--device", device)
            train = ("train", *common, "--config", str(config), "--weights",
                     str(args.weights.resolve()), *(("--memory", share) if share else ()),
                     *bindings)  # fmt: skip
            score = ("score", *common, "--metrics", args.metrics, *(["--quick"] * args.quick))
            job = Job(
                config.stem, seed, folder, hashlib.sha256(made_of.encode()).hexdigest(),
                f"{args.metrics}{' quick' if args.quick else ''}", (train, score), environment,
            )  # fmt: skip
            if record_of(job).get("training", job.training) != job.training:
                raise UserError(
                    f"{folder} is of another configuration, data or weights: name another --out, "
                    "or delete it"
                )
            jobs.append(job)
    return jobs


def _extract(config: Path, args: argparse.Namespace, dataset: Dataset, data_md5: str) -> None:
    """The features that the configuration's jobs share: two jobs must not extract them at once."""
    load_config(config, args.bindings)
    device = pick_device("auto" if args.gpus else "cpu")
    planned = memory.plan(
        dataset.num_images, memory.memory_limit(args.memory), device, dataset.mapped_bytes,
        scoring=True,
    )  # fmt: skip
    extractor = load_extractor(args.weights)
    key = cache_key(data_md5, check_sha256(args.weights), extractor)
    cached = paths.cache_folder() / "features" / f"{key}.npy"
    extract_features(dataset, extractor, cached, device, planned.batch_size)


def _on_ray(ray: Any, args: argparse.Namespace, todo: Sequence[Job]) -> Iterator[tuple[Job, str]]:
    """Runs the jobs, as many at a time as there are cores for; yields each when it has ended, and
    why it failed.

    Raises:
        UserError: no cluster at the address, or none of its nodes can hold a job.
        Stopped: a signal came; the jobs have saved what they had.
    """
    # Ray's logs and sockets, gone when it is. A socket's path may have 107 characters, of which
    # Ray takes 75; TMPDIR can be longer than the rest, as schedulers' are.
    own = tempfile.gettempdir()
    parent = own if len(os.fsencode(own)) <= _TEMPORARY else "/tmp"
    with tempfile.TemporaryDirectory(
        prefix="ray-", dir=parent, ignore_cleanup_errors=True
    ) as temporary:
        try:
            _start(ray, args, temporary)
            remote = ray.remote(num_cpus=args.cpus, num_gpus=args.gpus, max_retries=0)(work)
            bar = progress_bar(total=len(todo), desc="jobs", unit=" jobs", smoothing=0)
            # After Ray's start, which takes SIGTERM for itself.
            with signals.stoppable(), signals.held(), bar:
                pending = {remote.remote(job): job for job in todo}
                while pending:
                    done, _ = ray.wait(list(pending), timeout=0)
                    for reference in done:
                        job = pending.pop(reference)
                        bar.update()
                        yield job, _outcome(ray, reference)
                    if number := signals.asked():
                        _cancel(ray, list(pending))
                        left = f"{len(pending)} of {len(todo)} jobs are left"
                        signals.stop(number, f"{left}, those that were running have saved")
                    if sys.stderr.isatty():
                        bar.refresh()
                    if not done:
                        time.sleep(0.5)
        finally:
            ray.shutdown()


def _start(ray: Any, args: argparse.Namespace, temporary: str) -> None:
    if args.address:
        try:
            ray.init(args.address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"no Ray cluster can be joined at {args.address} ({first_line(error)}): start one "
                "with `ray start --head`, or leave out --address"
            ) from error
    else:
        try:
            # Next to nothing passes through the object store: about the least that Ray takes.
            ray.init(
                "local", include_dashboard=False, log_to_driver=False, logging_level="ERROR",
                object_store_memory=80 << 20, _temp_dir=temporary,
            )  # fmt: skip
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"Ray cannot be started here ({first_line(error)}): name another folder for its "
                "sockets in TMPDIR, or give it more memory"
            ) from error
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(n.get("CPU", 0) >= args.cpus and n.get("GPU", 0) >= args.gpus for n in nodes):
        raise UserError(
            f"no node has the {args.cpus} cores and {args.gpus:g} GPUs that one job asks for: "
            "lower --cpus or --gpus"
        )


def _outcome(ray: Any, reference: Any) -> str:
    try:
        return str(ray.get(reference))
    except ray.exceptions.RayTaskError as error:  # of `work` itself, as on a full disk
        return first_line(error.cause)
    except ray.exceptions.RayError as error:  # the worker or its node is gone
        return first_line(error)


def _cancel(ray: Any, references: list[Any]) -> None:
    """Ends what runs, as SIGTERM does, and waits for it."""
    for reference in references:
        ray.cancel(reference)
    ray.wait(references, num_returns=len(references), timeout=60)


def _sentence(job: Job, reason: str) -> str:
    if reason:
        return f"{job.folder.name} failed: {reason} (log: {job.log})"
    scores = scores_of(job)
    return f"{job.folder.name}: done in {scores['seconds'] if scores else 0:,.0f} s"


def write_report(
    out: Path, jobs: Sequence[Job], failed: dict[str, str], dataset: Dataset, quick: bool
) -> None:
    """Writes sweep.csv and sweep.txt from what the jobs' folders hold.

    Args:
        jobs: all of this sweep, done or not; other folders below `out` do not count.
        failed: name of a job's folder: why it failed.
        quick: the metrics' counts are lowered.
    """
    scores = {job.folder.name: scores_of(job) for job in jobs}
    data = f"stand-in for {dataset.name}, NOT MPI3D" if dataset.stand_in else dataset.name
    rows = []
    for job in jobs:
        found = scores[job.folder.name]
        numbers = _numbers(found["scores"]["headline"]) if found else {}
        status = "scored" if found else "failed" if job.folder.name in failed else "not done"
        rows.append(
            {"config": job.config, "seed": job.seed, "status": status, "data": data,
             "counts": "quick" if quick else "official"}
            | {name: numbers.get(name, "") for name in _COLUMNS}
            | {"seconds": round(found["seconds"], 1) if found else ""}
        )  # fmt: skip
    write_csv(out / "sweep.csv", rows)
    text = [f"Measured on: {dataset.description}."]
    text.append(
        "Metric settings: QUICK, not the official counts; comparable with no other numbers."
        if quick
        else "Metric settings: official (the server's)."
    )
    text.append("Mean +- standard deviation over the seeds that are scored (n-1 in its divisor).")
    text += [f"{name} failed: {reason}" for name, reason in failed.items()]
    wrapped = [part for line in text for part in textwrap.wrap(line, 100, subsequent_indent="  ")]
    write_text(out / "sweep.txt", "\n".join([*_table(jobs, scores), "", *wrapped]) + "\n")


def _numbers(headline: dict[str, float]) -> dict[str, float]:
    """The scores, and their sum if all five are there."""
    whole = all(name in headline for name in scoring.METRICS)
    return headline | ({"sum": sum(headline[m] for m in scoring.METRICS)} if whole else {})


def _table(jobs: Sequence[Job], scores: dict[str, dict[str, Any] | None]) -> list[str]:
    lines = [["configuration", "seeds", *(_TITLES[name] for name in _COLUMNS)]]
    ideal: dict[str, float] = {}
    for config in dict.fromkeys(job.config for job in jobs):
        mine = [scores[job.folder.name] for job in jobs if job.config == config]
        found = [each for each in mine if each]
        numbers = [_numbers(each["scores"]["headline"]) for each in found]
        cells = [_spread([each[name] for each in numbers if name in each]) for name in _COLUMNS]
        lines.append([config, f"{len(found)} of {len(mine)}", *cells])
        if found and found[0]["ideal_code"]:
            ideal = _numbers(found[0]["ideal_code"]["headline"])
    if ideal:
        cells = [f"{ideal[name]:.3f}" if name in ideal else "-" for name in _COLUMNS]
        lines.append(["ideal code, same grid", "", *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    ]


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} +- {statistics.stdev(values):.3f}" if len(values) > 1 else mean
