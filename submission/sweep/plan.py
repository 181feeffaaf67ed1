"""A sweep's jobs: each configuration with each seed."""

import hashlib
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gin

from submission.data.dataset import Dataset
from submission.features import extraction
from submission.features.weights import SHIPPED_WEIGHTS, check_sha256, load_extractor
from submission.metrics.settings import DCI_FITS, METRICS, chosen
from submission.pipeline.configuration import heads_of, load_training
from submission.pipeline.memory_plan import plan
from submission.pipeline.train import in_bfloat16
from submission.runtime import paths
from submission.runtime.config import find_config
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError
from submission.runtime.files import write_text
from submission.runtime.limits import Limit, memory_limit, parse_bytes
from submission.sweep.job import Job, record_of


@dataclass(frozen=True)
class SweepOptions:
    """What a sweep runs (each of `configs` with the seeds 0 to `seeds` - 1), and on what.

    `address` is that of a running Ray cluster, None for this machine. `cpus`, `gpus` and `memory`
    ("8g") are per job; `memory` is by default its cores' share of this machine's memory, on a
    cluster what its node says.
    """

    configs: Sequence[Path]
    out: Path
    bindings: Sequence[str] = ()
    seeds: int = 5
    weights: Path = SHIPPED_WEIGHTS
    metrics: str = ",".join(METRICS)
    dci: str = DCI_FITS[0]
    quick: bool = False
    address: str | None = None
    cpus: int = 2
    gpus: float = 0
    memory: str | None = None


def checked(options: SweepOptions) -> SweepOptions:
    """The options with the configurations' full paths. UserError for what would fail in every job,
    after hours."""
    if options.seeds < 1 or options.cpus < 1 or not 0 <= options.gpus < math.inf:
        raise UserError("--seeds and --cpus must be at least 1, and --gpus at least 0")
    chosen(options.metrics)
    if any(b.partition("=")[0].strip().endswith("train_vae.seed") for b in options.bindings):
        raise UserError("train_vae.seed is what a sweep varies: leave out its binding")
    configs = [find_config(config).resolve() for config in options.configs]
    stems = [config.stem for config in configs]
    if twice := [stem for stem in stems if stems.count(stem) > 1]:
        what = f"two configurations are called {twice[0]}"
        raise UserError(f"{what}, as their runs would be: rename one")
    return replace(options, configs=configs)


def own_copy(config: Path, out: Path) -> Path:
    """Copies a configuration into the sweep's folder: a job that begins hours later must not read
    what was edited since."""
    load_training(config)
    copy = out / config.name
    if copy != config:
        write_text(copy, gin.config_str())  # with what it includes
    return copy


def plan_jobs(options: SweepOptions, dataset: Dataset, data_md5: str) -> list[Job]:
    """All jobs, by configuration and seed; of a readout, which has none, one. UserError where a
    configuration is wrong, or a job's folder is of another one."""
    out, weights = options.out.resolve(), check_sha256(options.weights)
    file, weights_file = dataset.path.resolve(), str(options.weights.resolve())
    # A file of MPI3D may have another name than the set.
    named = ["--data", str(file.parent), "--dataset", dataset.name]
    data = named if dataset.official else ["--data", str(file)]
    source = "--memory" if options.memory else "a job's share by --cpus, or as --memory says"
    memory = options.memory or (None if options.address else _share(options.cpus))
    device = pick_device("auto" if options.gpus else "cpu")
    scoring = options.metrics + (" quick" if options.quick else "")
    scoring += f" {options.dci}" if options.dci != DCI_FITS[0] else ""
    jobs = []
    for config, seed in itertools.product(options.configs, range(options.seeds)):
        bindings = [*options.bindings]
        load_training(config, bindings)
        if heads := heads_of(options.weights):
            if seed > 0:  # all would be the same
                continue
        else:
            bindings.append(f"train_vae.seed={seed}")
            load_training(config, bindings)
        if memory:
            limit = Limit(parse_bytes(memory), source)
            plan(
                dataset.num_images,
                limit,
                device,
                dataset.mapped_bytes,
                image_bytes=dataset.image_bytes,
            )
        made_of = f"{data_md5}\n{weights}\n{gin.config_str()}"
        made_of += f"\n{check_sha256(heads)}" if heads else ""
        training = hashlib.sha256(made_of.encode()).hexdigest()
        folder = out / f"{config.stem}-seed{seed}"
        common = ["--name", folder.name, *data]
        common += ["--device", "cuda" if options.gpus else "cpu"]
        train = ["train", *common, "--config", str(config), "--weights", weights_file]
        train += ["--memory", memory] if memory else []
        score = ("score", *common, "--metrics", options.metrics, "--dci", options.dci)
        score += ("--quick",) * options.quick
        commands = ((*train, *bindings), score)
        job = Job(config.stem, seed, folder, training, scoring, commands, _environment(options))
        if record_of(job).get("training", training) != training:
            what = f"{folder} is of another configuration, data or weights"
            raise UserError(f"{what}: name another --out, or delete it")
        jobs.append(job)
    return jobs


def _share(cpus: int) -> str:
    """The share of so many cores in this machine's memory."""
    return f"{memory_limit().bytes * cpus // max(os.cpu_count() or 1, cpus) >> 20}m"


def _environment(options: SweepOptions) -> dict[str, str]:
    home, cache = str(paths.home().resolve()), str(paths.cache_folder().resolve())
    threads = dict.fromkeys(("OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT"), str(options.cpus))
    threads |= {"SUBMISSION_HOME": home, "SUBMISSION_CACHE": cache}
    threads["AICROWD_OUTPUT_PATH"] = str(options.out.resolve())
    return threads | {"AICROWD_IS_GRADING": "", "CROWDAI_IS_GRADING": ""}


def extract(config: Path, options: SweepOptions, dataset: Dataset, data_md5: str) -> None:
    """The features that the configuration's jobs share: two jobs must not extract them at once."""
    load_training(config, options.bindings)
    device, limit = pick_device("auto" if options.gpus else "cpu"), memory_limit(options.memory)
    size = (dataset.mapped_bytes, True, False, dataset.image_bytes)
    planned = plan(dataset.num_images, limit, device, *size)
    extractor = load_extractor(options.weights)
    key = extraction.cache_key(data_md5, check_sha256(options.weights), extractor)
    cached = extraction.cached_features(key)
    bfloat16 = in_bfloat16(device, for_grading=False)
    extraction.extract_features(dataset, extractor, cached, device, planned.batch_size, bfloat16)
