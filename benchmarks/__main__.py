"""`python -m benchmarks`: time and memory of each stage, ours against the usual way.

Every measured route runs in a process of its own, ours and the usual one in turn, on the same data:
a stand-in that is rendered here, or the data set that is named.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from benchmarks import floor
from benchmarks.report import draw, table
from experiments.pages import show
from submission.data.dataset import Dataset, open_dataset, verify
from submission.latents.codes import cached_codes
from submission.pipeline.configuration import load_training
from submission.runtime import paths
from submission.runtime.errors import UserError, first_line
from submission.runtime.files import replacing, write_text
from submission.runtime.progress import progress_bar

Settings = dict[str, Any]

STAGES = ("load", "features", "vae", "metrics", "dci", "growth")
# The names that disentanglement_lib's own class opens.
DATASETS = ("mpi3d_real", "mpi3d_realistic", "mpi3d_toy")
BATCH = 256  # public.gin's, for the VAE

# The official counts divided by 100, FactorVAE's votes by 333: 3,480 images through the network
# where the official counts ask for 1,020,000. Fewer votes favour the usual way: they are most of
# its images, and next to nothing from codes.
SMALL_COUNTS = {
    "factor_vae_score.num_variance_estimate": 100,
    "factor_vae_score.num_train": 30,
    "factor_vae_score.num_eval": 15,
    "dci.num_train": 100,
    "dci.num_test": 50,
    "sap_score.num_train": 100,
    "sap_score.num_test": 50,
    "irs.num_train": 100,
    "mig.num_train": 100,
}
# Of the official 10,000 and 5,000: the workers' start must not be most of what is timed.
DCI_COUNTS = {"dci.num_train": 3000, "dci.num_test": 1500}
GROWTH_COUNTS = {"dci.num_train": 500, "dci.num_test": 250}


def main(argv: list[str] | None = None) -> int:
    """Runs the bench, or prints the table of an earlier run; returns the exit code, as
    submission's own commands do."""
    args = arguments().parse_args(argv)
    try:
        if args.table:
            print(table(_read(args.table)))
        else:
            run(args)
    except UserError as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="of each comparison (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for benchmarks.json and .png (docs: its page is updated, too); default: "
        "scratch/benchmarks",
    )
    parser.add_argument(
        "--stages", default=",".join(STAGES), help="comma-separated, some of %(default)s"
    )
    parser.add_argument(
        "--data", type=Path, help="folder of the data sets; default: a stand-in is rendered"
    )
    parser.add_argument("--dataset", choices=DATASETS, default=DATASETS[0])
    parser.add_argument(
        "--axis-steps", type=int, default=2, help="of the stand-in (default: %(default)s)"
    )
    parser.add_argument(
        "--images", type=int, default=512, help="for the features (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=40, help="of the VAE (default: %(default)s)")
    parser.add_argument(
        "--table", type=Path, metavar="JSON", help="print the table of an earlier run and end"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Measures, prints the table, and writes benchmarks.json and benchmarks.png; where a page
    benchmarks.md lies beside them, as in docs/, the table is written into it.

    Raises:
        UserError: an unknown stage, no such data set, or a route that fails.
    """
    stages = args.stages.split(",")
    if unknown := [stage for stage in stages if stage not in STAGES]:
        raise UserError(f"unknown stage {unknown[0]!r} in --stages: choose from {','.join(STAGES)}")
    if args.repeats < 1:
        raise UserError(f"--repeats is {args.repeats}, it must be at least 1")
    if args.images < 1 or args.steps < 1:
        raise UserError(
            f"--images is {args.images} and --steps {args.steps}: ask for at least 1 of each"
        )
    work = paths.home() / "benchmarks"
    out = args.out or work
    for folder in (work, out):
        paths.make_folder(folder, "name another folder with --out, or in SUBMISSION_HOME")
    dataset = _data(args, work)
    settings = _prepare(args, dataset, work, trained="metrics" in stages or "dci" in stages)
    compared = _compared(settings, dataset)
    report: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "data": {
            "name": dataset.name,
            "stand_in": dataset.stand_in is not None,
            "num_images": dataset.num_images,
            "factor_sizes": list(dataset.factor_sizes),
        },
        "machine": _machine(),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("torch", "numpy", "scikit-learn", "disentanglement-lib")
        },
        "sizes": {
            "images": settings["images"],
            "steps": args.steps,
            "small_counts": SMALL_COUNTS,
            "dci_counts": DCI_COUNTS,
        },
        "work": _work(),
        "rates": [],
        "stages": {name: {"ours": [], "stock": []} for name in compared if name in stages},
        "growth": [],
    }
    growth = _growth(settings, dataset, work) if "growth" in stages else []
    total = args.repeats * (1 + 2 * len(report["stages"])) + sum(len(g["runs"]) for g in growth)
    with progress_bar(total=total, desc="benchmarks", unit=" runs") as bar:

        def measured(route: str, of: Settings) -> Settings:
            bar.set_postfix_str(route, refresh=False)
            result = measure(route, of, work / "route.log")
            bar.update()
            return result

        for repeat in range(args.repeats):
            report["rates"].append(measured("rates", {}))
            for name, row in report["stages"].items():
                # In turn, and each first in every other repeat, so that a machine that slows down
                # or warms up slows or warms both.
                for side in ("ours", "stock") if repeat % 2 == 0 else ("stock", "ours"):
                    row[side].append(measured(*compared[name][side]))
        for line in growth:
            runs = [measured(line["route"], {**settings, **of}) for _, of in line["runs"]]
            report["growth"].append(
                {
                    "what": line["what"],
                    "along": line["along"],
                    "at": [x for x, _ in line["runs"]],
                    "seconds": [one["seconds"] for one in runs],
                    "peak_mib": [one["peak_mib"] for one in runs],
                }
            )
    # The figure first: where there is a new JSON file, there is its figure, too.
    draw(report, out / "benchmarks.png")
    write_text(out / "benchmarks.json", json.dumps(report, indent=2) + "\n")
    if (page := out / "benchmarks.md").is_file():
        show(page, "benchmarks", table(report))
    print(f"\n{table(report)}\n\nin {out}")


def measure(route: str, settings: Settings, log_path: Path) -> Settings:
    """What a route prints, from a fresh process; `peak_mib` is the most that it and its workers
    had resident at once (pages that processes share are counted in each).

    Raises:
        UserError: it failed.
    """
    command = [sys.executable, "-m", "benchmarks.routes", route, json.dumps(settings)]
    environment = os.environ | {"PYTHONPATH": str(paths.PROJECT)}
    # A file rather than a pipe, which would block a route that writes much (progress bars do).
    with open(log_path, "w") as log:
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        peak = 0.0
        while True:
            try:
                printed, _ = child.communicate(timeout=0.05)
                break
            except subprocess.TimeoutExpired:
                peak = max(peak, _resident_mib(child.pid))
    if child.returncode != 0:
        said = log_path.read_text().strip().rpartition("\n")[2]
        raise UserError(f"the route {route} failed ({said}): see {log_path}")
    result: Settings = json.loads(printed.splitlines()[-1])
    result["peak_mib"] = round(max(peak, result["peak_mib"]))
    return result


def _resident_mib(pid: int) -> float:
    """Resident memory of a process and all below it, in MiB."""
    total = 0.0
    with contextlib.suppress(OSError):  # it may end while it is looked at
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) / 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(_resident_mib(int(p)) for p in (task / "children").read_text().split())
    return total


def _data(args: argparse.Namespace, work: Path) -> Dataset:
    if args.data:
        return open_dataset(args.data, args.dataset)
    folder = work / f"axis_steps_{args.axis_steps}"
    if not (folder / "mpi3d_real" / "mpi3d_real.npz").exists():
        # The renderer's compiler stays in its process; this one is to stay small.
        _call("render", "--domain", "real", "--axis-steps", str(args.axis_steps), "--out", folder)
    return open_dataset(folder, "mpi3d_real")


def _prepare(args: argparse.Namespace, dataset: Dataset, work: Path, trained: bool) -> Settings:
    """What the routes read; a model and its codes, from a short training, if they are needed."""
    folder = dataset.path.parent.parent
    rows = work / "rows.npy"
    random = np.abs(np.random.default_rng(0).normal(size=(args.steps * BATCH, 512)))
    unit = random / np.linalg.norm(random, axis=1, keepdims=True)  # as features are
    np.save(rows, unit.astype(np.float32))
    settings = {
        "data": str(folder),
        "dataset": dataset.name,
        "work": str(work),
        "rows": str(rows),
        "factor_sizes": dataset.factor_sizes,
        "images": min(args.images, dataset.num_images),
        "workers": joblib.cpu_count(),
        "metrics": ["factor_vae", "dci", "sap", "irs", "mig"],
    }
    if trained:
        os.environ |= {
            "AICROWD_OUTPUT_PATH": str(work / "runs"),
            "SUBMISSION_CACHE": str(work / "cache"),
        }
        epochs = max(1, 300 * BATCH // dataset.num_images)  # 300 steps: the latents have woken up
        _call(
            "train",
            "--data",
            folder,
            "--dataset",
            dataset.name,
            "--name",
            "benchmarks",
            "--config",
            "dry_run.gin",
            f"train_vae.epochs={epochs}",
        )
        model = paths.model_path(paths.run_folder("benchmarks"))
        settings["model"] = str(model)
        settings["codes"] = str(cached_codes(model, verify(dataset, progress=False)))
    return settings


def _call(*command: str | Path) -> None:
    """One of this project's own commands, in a process of its own, its log on the terminal."""
    words = [sys.executable, "-m", "submission", *map(str, command)]
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_IS_GRADING")}
    environment["PYTHONPATH"] = str(paths.PROJECT)
    done = subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise UserError(f"`{command[0]}` failed: its reason is printed above")


def _compared(settings: Settings, dataset: Dataset) -> dict[str, dict[str, tuple[str, Settings]]]:
    """For each stage the two routes."""
    small = settings | {"counts": SMALL_COUNTS}
    dci = settings | {"counts": DCI_COUNTS, "metrics": ["dci"]}
    return {
        "load": {"ours": ("load_ours", settings), "stock": ("load_stock", settings)},
        "features": {"ours": ("features_ours", settings), "stock": ("features_stock", settings)},
        "vae": {"ours": ("vae_ours", settings), "stock": ("vae_stock", settings)},
        "metrics": {"ours": ("metrics_ours", small), "stock": ("metrics_stock", small)},
        "dci": {
            "ours": ("metrics_ours", dci),
            "stock": ("metrics_ours", dci | {"dci_fit": "scikit-learn"}),
        },
    }


def _growth(settings: Settings, dataset: Dataset, work: Path) -> list[dict[str, Any]]:
    """How cost grows: for each line of the figure a route and its runs (x, settings)."""
    first = dataset.factor_sizes[0]
    parts = [_part(dataset, work, n) for n in sorted({1, first // 2, first})]
    codes = {"counts": GROWTH_COUNTS}
    workers = [2**k for k in range(joblib.cpu_count().bit_length())]
    return [
        {"what": "load, ours", "route": "load_ours", "along": "images", "runs": parts},
        {"what": "load, the usual way", "route": "load_stock", "along": "images", "runs": parts},
        {
            "what": "features",
            "route": "features_ours",
            "along": "images",
            "runs": [(n, {"images": n}) for n in (64, 128, 256, 512) if n <= dataset.num_images],
        },
        {
            "what": "VAE",
            "route": "vae_ours",
            "along": "latents",
            "runs": [(n, {"bindings": [f"VAE.latents={n}"]}) for n in (8, 16, 32, 64)],
        },
        {
            "what": "five metrics",
            "route": "metrics_ours",
            "along": "latents",
            "runs": [(n, {"latents": n, **codes}) for n in (8, 16, 32, 64)],
        },
        {
            "what": "DCI",
            "route": "metrics_ours",
            "along": "workers",
            "runs": [
                (n, {"latents": 16, "workers": n, "metrics": ["dci"], **codes}) for n in workers
            ],
        },
    ]


def _part(dataset: Dataset, work: Path, values: int) -> tuple[int, Settings]:
    """A file of the images with the first so many values of the first factor."""
    sizes = (values, *dataset.factor_sizes[1:])
    count = int(np.prod(sizes))
    if count == dataset.num_images:
        return count, {}
    folder = work / "parts" / str(count)
    path = folder / dataset.name / f"{dataset.name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"images": dataset.array()[:count], "factor_sizes": np.array(sizes)}
    if dataset.stand_in:
        arrays["stand_in"] = np.array(dataset.stand_in)
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)
    return count, {"data": str(folder), "factor_sizes": sizes}


def _work() -> dict[str, int]:
    load_training(Path("public.gin"))
    step_flop, step_bytes = floor.vae_step_work(BATCH)
    return {
        "image_flop": floor.extractor_flop(),
        "step_flop": step_flop,
        "step_bytes": step_bytes,
        "image_bytes": 64 * 64 * 3,
    }


def _machine() -> dict[str, Any]:
    cpu = "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    return {"cpu": cpu, "cores": joblib.cpu_count()}


def _read(path: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(path.read_text())
        if not isinstance(report, dict) or not {"data", "machine", "stages"} <= report.keys():
            raise ValueError("of another form")
    except OSError as error:
        raise UserError(f"no file {path}: give --table the JSON file of a run") from error
    except ValueError as error:
        raise UserError(f"{path} is no JSON file of this bench: run it again") from error
    return report


if __name__ == "__main__":
    sys.exit(main())
