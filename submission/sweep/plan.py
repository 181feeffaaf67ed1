"""A sweep's jobs: each configuration with each seed."""

import argparse
import hashlib
import math
import os
from pathlib import Path

import gin

from submission.data.dataset import Dataset
from submission.features.extraction import cache_key, extract_features
from submission.features.weights import check_sha256, load_extractor
from submission.metrics.settings import chosen
from submission.pipeline.configuration import load_training
from submission.pipeline.memory_plan import plan
from submission.runtime import paths
from submission.runtime.config import find_config
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError
from submission.runtime.files import write_text
from submission.runtime.limits import Limit, memory_limit, parse_bytes
from submission.sweep.job import Job, record_of


def check(args: argparse.Namespace) -> None:
    """Refuses at once what would fail in every job, after hours."""
    if args.seeds < 1 or args.cpus < 1 or not 0 <= args.gpus < math.inf:
        raise UserError("--seeds and --cpus must be at least 1, and --gpus at least 0")
    chosen(args.metrics)
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


def own_copy(config: Path, out: Path) -> Path:
    """The configuration as it is now, in the sweep's folder: a job that begins hours later must not
    read what was edited since."""
    load_training(config)
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
        limit = memory_limit().bytes * args.cpus // max(os.cpu_count() or 1, args.cpus)
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
        limit_of_a_job = Limit(parse_bytes(share), source)
    on = pick_device("auto" if args.gpus else "cpu")
    jobs = []
    for config in args.configs:
        for seed in range(args.seeds):
            bindings = [*args.bindings, f"train_vae.seed={seed}"]
            load_training(config, bindings)
            if limit_of_a_job:
                plan(dataset.num_images, limit_of_a_job, on, dataset.mapped_bytes)
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


def extract(config: Path, args: argparse.Namespace, dataset: Dataset, data_md5: str) -> None:
    """The features that the configuration's jobs share: two jobs must not extract them at once."""
    load_training(config, args.bindings)
    device = pick_device("auto" if args.gpus else "cpu")
    planned = plan(
        dataset.num_images, memory_limit(args.memory), device, dataset.mapped_bytes,
        scoring=True,
    )  # fmt: skip
    extractor = load_extractor(args.weights)
    key = cache_key(data_md5, check_sha256(args.weights), extractor)
    cached = paths.cache_folder() / "features" / f"{key}.npy"
    extract_features(dataset, extractor, cached, device, planned.batch_size)
