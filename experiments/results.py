"""Measures docs/results.json and writes its tables into docs/results.md: the five scores of the
shipped configurations, and what each part of refined.gin adds, on rendered stand-ins.

    python -m experiments.results --craft-file craft_mlt_25k.pth   # all of it: hours on two cores
    python -m experiments.results public refined
    python -m experiments.results public refined --weights FILE    # with another extractor

Each row is a configuration with its schedule scaled to the thinner grid, trained from so many seeds
and scored with the server's counts. Killed, the same call goes on; seeds whose scores are in
docs/results.json are not trained again (delete a row there to measure it anew). Runs lie in
$SUBMISSION_HOME (default: scratch), one folder for each row and seed; what one has trained is kept
as long as its settings are the same.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gin
import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.torch import save
from scipy.stats import spearmanr

from experiments import pages
from submission.features.weights import SHIPPED_WEIGHTS, check_sha256
from submission.finetuning.starts import craft_weights
from submission.latents.components import independent_components, principal
from submission.latents.udr import ranking
from submission.latents.udr import scores as udr_scores
from submission.latents.vae import carries_anything
from submission.metrics.compute import score
from submission.metrics.grids import GridRepresentations
from submission.metrics.settings import load_settings
from submission.pipeline.configuration import load_training
from submission.runtime.files import write_text

PROJECT = Path(__file__).resolve().parent.parent
NUMBERS, PAGE = PROJECT / "docs" / "results.json", PROJECT / "docs" / "results.md"
METRICS = {"factor_vae": "FactorVAE", "dci": "DCI", "sap": "SAP", "irs": "IRS", "mig": "MIG"}

# Schedules of about 8,000 steps (64,800 images: 253 steps an epoch). Beta rises over the same share
# of the training as in the full schedule.
_SCALED = ("train_vae.epochs=32", "beta_at_epoch.t_start=3", "beta_at_epoch.t_end=16")
_SCALED_COMPLEX = ("train_vae.epochs=72", "beta_at_epoch.t_start=7", "beta_at_epoch.t_end=35")
_SCALED_20 = ("train_vae.epochs=8", "beta_at_epoch.t_start=1", "beta_at_epoch.t_end=4")
_SCALED_4 = ("train_vae.epochs=200", "beta_at_epoch.t_start=20", "beta_at_epoch.t_end=98")
# 2,000 steps for each group.
_GROUPS = ("train_vae.epochs=8", "beta_at_epoch.t_end=4")
_GROUPS_COMPLEX = ("train_vae.epochs=16", "beta_at_epoch.t_end=8")
_GROUPS_20 = ("train_vae.epochs=2", "beta_at_epoch.t_end=1")
_READ = "no VAE: what the extractor's heads answer, supervised in simulation; has no seed"
# refined.gin without one of its steps.
_ONE_START = "train_groups.starts=1"
_KEEP_ALL = "train_groups.redundant=1.0"
_NO_CLUSTERS = "train_groups.clusters=1"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    config: str
    bindings: tuple[str, ...]
    seeds: int
    what: str
    domain: str = "real"
    axis_steps: int = 10
    craft: bool = False  # features of CRAFT's filters, whatever --weights says
    of: str = ""  # no training: the latents of that row's runs, through AFTERWARDS[name]
    parent: str = ""  # the row that it is to be compared with, in the same seeds


ROWS = (
    Row("public", "public.gin", _SCALED, 5, "appendix B: one VAE on the features"),
    Row(
        "pruned",
        "public.gin",
        _SCALED,
        1,
        "public without its inactive latents",
        of="public",
        parent="public",
    ),
    Row(
        "scaled",
        "public.gin",
        _SCALED,
        1,
        "pruned, each latent scaled to unit variance",
        of="public",
        parent="public",
    ),
    Row(
        "rotated",
        "public.gin",
        _SCALED,
        1,
        "pruned, the latents made independent (FastICA)",
        of="public",
        parent="public",
    ),
    Row(
        "ten_latents",
        "public.gin",
        (*_SCALED, "VAE.latents=10"),
        1,
        "public with ten latents",
        parent="public",
    ),
    Row(
        "flat_beta",
        "public.gin",
        (*_SCALED, "beta_at_epoch.beta_start=0.4"),
        1,
        "public with beta at its final value from the first step on",
        parent="public",
    ),
    Row(
        "refined",
        "refined.gin",
        _GROUPS,
        5,
        "one latent for each group of components, "
        "the best of six starts, latents moved to cluster centres, redundant latents left out",
    ),
    Row("one_start", "refined.gin", (*_GROUPS, _ONE_START), 5, "refined with a single start"),
    Row(
        "all_latents",
        "refined.gin",
        (*_GROUPS, _ONE_START, _KEEP_ALL),
        5,
        "one_start with redundant latents kept",
    ),
    Row(
        "no_clusters",
        "refined.gin",
        (*_GROUPS, _ONE_START, _KEEP_ALL, _NO_CLUSTERS),
        5,
        "all_latents, but latents are not moved to cluster centres",
    ),
    Row(
        "components",
        "refined.gin",
        (*_GROUPS, _ONE_START, _KEEP_ALL, _NO_CLUSTERS, "train_groups.groups=20"),
        1,
        "no_clusters without groups: each component is a latent",
        parent="no_clusters",
    ),
    Row(
        "seven",
        "refined.gin",
        (*_GROUPS, _ONE_START, _KEEP_ALL, "train_groups.groups=7"),
        3,
        "all_latents with seven groups, as many as factors",
        parent="all_latents",
    ),
    Row("public_20", "public.gin", _SCALED_20, 1, "as public", axis_steps=20),
    Row("refined_20", "refined.gin", _GROUPS_20, 1, "as refined", axis_steps=20),
    Row("public_complex", "public.gin", _SCALED_COMPLEX, 5, "as public", "complex"),
    Row(
        "private_complex",
        "private.gin",
        ("train_vae.epochs=72", "beta_at_epoch.t_start=6", "beta_at_epoch.t_end=47"),
        2,
        "the paper's configuration for complex objects",
        "complex",
    ),
    Row("refined_complex", "refined.gin", _GROUPS_COMPLEX, 5, "as refined", "complex"),
    Row(
        "stage1",
        "stage1.gin",
        ("train_vae.epochs=32", "beta_at_epoch.t_start=2", "beta_at_epoch.t_end=30"),
        1,
        "stage 1 on CRAFT's filters (ImageNet, then text)",
        craft=True,
    ),
    Row("readout", "readout.gin", (), 1, _READ),
    Row("readout_complex", "readout.gin", (), 1, "as readout", "complex"),
    Row("readout_4", "readout.gin", (), 1, "as readout", axis_steps=4),
    Row("public_4", "public.gin", _SCALED_4, 1, "as public", axis_steps=4),
    Row(
        "one_start_complex",
        "refined.gin",
        (*_GROUPS_COMPLEX, _ONE_START),
        5,
        "as one_start",
        "complex",
    ),
    Row(
        "no_clusters_complex",
        "refined.gin",
        (*_GROUPS_COMPLEX, _ONE_START, _KEEP_ALL, _NO_CLUSTERS),
        1,
        "as no_clusters",
        "complex",
        parent="one_start_complex",
    ),
)


Codes = npt.NDArray[np.float32]


def pruned(codes: Codes) -> Codes:
    return codes[:, carries_anything(codes)]


def scaled(codes: Codes) -> Codes:
    active = pruned(codes)
    return active / active.std(axis=0)


def rotated(codes: Codes) -> Codes:
    active = pruned(codes)
    unmix, offset = independent_components(principal(active), active.shape[1], seed=0)
    return (active @ unmix.T + offset).astype(np.float32)


AFTERWARDS = {step.__name__: step for step in (pruned, scaled, rotated)}


def submission(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "submission", *words], check=True, cwd=PROJECT)


def digest(weights: Path) -> str:
    """The first digits of the file's SHA-256, as the table has them."""
    return check_sha256(weights)[:8]


def craft_features(craft_file: Path, folder: Path) -> Path:
    """A weight file of CRAFT's filters alone: VGG19-BN's, as `finetune --from craft` starts."""
    path = folder / "craft_vgg19_bn.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(craft_weights(craft_file), {"images": "ImageNet, then text (CRAFT)"}))
    return path


def trained_on(weights: Path) -> str:
    """The images that the extractor was trained on, as the weight file says."""
    with safe_open(weights, "pt") as file:
        return str((file.metadata() or {}).get("images", "unknown"))


def settings_of(row: Row) -> str:
    """SHA-256 of all bindings of the row, its configuration's included, but for where features are
    extracted in bfloat16: every row's are float32's, as the first ones were before there was a
    choice."""
    load_training(Path(row.config), row.bindings)
    lines = gin.config_str().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("extract_features.bfloat16")]
    return hashlib.sha256("".join(kept).encode()).hexdigest()


def run_name(row: Row, seed: int, weights: str) -> str:
    return f"results_{row.name}_{seed}_{weights}"


def scores_of(
    row: Row, seed: int, weights: Path, data: Path, dataset: str, runs: Path
) -> dict[str, Any]:
    """Trains and scores one seed, or finds it done; what scores.json holds."""
    name = run_name(row, seed, digest(weights))
    if row.of:
        made_of = replace(row, name=row.of, of="")
        answer = scores_of(made_of, seed, weights, data, dataset, runs)
        codes = AFTERWARDS[row.name](codes_of(made_of, seed, weights, data, dataset, runs))
        load_settings()
        grid = GridRepresentations(codes, tuple(answer["data"]["factor_sizes"]))
        return answer | {"scores": score(grid)}
    scores = runs / name / "scores.json"
    where = ("--data", str(data), "--dataset", dataset, "--name", name)
    seeded = () if row.config == "readout.gin" else (f"train_vae.seed={seed}",)
    bindings = (*row.bindings, *seeded, "extract_features.bfloat16=False")
    given = ("--config", row.config, "--weights", str(weights))
    submission("train", *given, *where, *bindings)  # removes another model's scores
    if not scores.exists():
        submission("score", *where)
    loaded: dict[str, Any] = json.loads(scores.read_text())
    return loaded


def codes_of(row: Row, seed: int, weights: Path, data: Path, dataset: str, runs: Path) -> Codes:
    """The codes of all images by the seed's exported model."""
    name = run_name(row, seed, digest(weights))
    out = runs / name / "codes.npz"
    where = ("--data", str(data), "--dataset", dataset, "--name", name)
    submission("encode", *where, "--out", str(out))
    with np.load(out, allow_pickle=False) as file:
        codes: Codes = file["codes"]
    return codes


def udr_of_seeds(
    row: Row, seeds: range, weights: Path, data: Path, dataset: str, runs: Path
) -> list[float]:
    """Each seed's UDR among the others, on 10,000 images drawn once."""
    codes = [codes_of(row, seed, weights, data, dataset, runs) for seed in seeds]
    sample = np.sort(np.random.default_rng(0).permutation(len(codes[0]))[:10_000])
    codes = [own[sample] for own in codes]
    found = udr_scores(ranking(codes, [carries_anything(own) for own in codes]))
    return [float(one) for one in found]


def table(results: dict[str, Any]) -> str:
    """The rows as Markdown: mean and standard deviation over the seeds, and each seed's UDR."""
    lines = []
    parents = {row.name: row.parent for row in ROWS}
    tables: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in results["rows"].values():
        grid = " x ".join(map(str, row["grid"]))
        tables.setdefault((row["domain"], grid, row["weights"]), []).append(row)
    for (domain, grid, weights), rows in tables.items():
        same = [row for row in results["rows"].values() if row["weights"] == weights]
        saw = next((row["saw"] for row in same if "saw" in row), "not recorded")
        lines += [
            f"### Stand-in {domain}, grid {grid}, weights {weights}, NOT MPI3D",
            "",
            f"Images that the extractor was trained on last: {saw}.",
            "",
            "| row | seeds | " + " | ".join(METRICS.values()) + " | sum |",
            "|---" * (len(METRICS) + 3) + "|",
        ]
        ideal = rows[0]["ideal_code"]
        cells = [f"{ideal[m]:.3f}" for m in METRICS]
        lines.append(f"| ideal code | | {' | '.join(cells)} | {sum(ideal.values()):.3f} |")
        repeated: set[tuple[str, int]] = set()
        for row in rows:
            parent, seeds = parents[row["name"]], len(row["scores"])
            above: list[dict[str, float]] = next(
                (one["scores"] for one in rows if one["name"] == parent), []
            )
            if seeds < len(above) and (parent, seeds) not in repeated:
                repeated.add((parent, seeds))
                which = "its seed 0 alone" if seeds == 1 else f"its first {seeds} seeds alone"
                lines.append(_line(f"{parent}, {which}, for the rows below", above[:seeds]))
            lines.append(_line(f"{row['name']}: {row['what']}", row["scores"]))
        for row in rows:
            if len(row["udr"]) > 2:
                sums = [sum(seed.values()) for seed in row["scores"]]
                rho = spearmanr(row["udr"], sums).statistic
                pairs = zip(row["udr"], sums, strict=True)
                pairs_text = ", ".join(f"{one:.3f} ({total:.3f})" for one, total in pairs)
                what = f"UDR of each seed of {row['name']}, its sum of the five scores in brackets"
                lines += ["", f"{what}: {pairs_text}; Spearman's correlation {rho:+.2f}."]
        lines.append("")
    return "\n".join(lines)


def _line(begin: str, scores: list[dict[str, float]]) -> str:
    columns = [[seed[m] for seed in scores] for m in METRICS]
    columns.append([sum(seed.values()) for seed in scores])
    return f"| {begin} | {len(scores)} | {' | '.join(map(_mean, columns))} |"


def _mean(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.results", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("rows", nargs="*", metavar="row", help="default: all")
    parser.add_argument("--seeds", type=int, help="so many instead of each row's")
    parser.add_argument(
        "--weights", type=Path, default=SHIPPED_WEIGHTS, help="extractor; default: the shipped one"
    )
    parser.add_argument("--craft-file", type=Path, help="craft_mlt_25k.pth, for the row stage1")
    return parser


def main() -> None:
    parser = arguments()
    args = parser.parse_args()
    chosen = [row for row in ROWS if not args.rows or row.name in args.rows]
    if unknown := set(args.rows) - {row.name for row in ROWS}:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(r.name for r in ROWS)}")
    if args.craft_file is None and any(row.craft for row in chosen):
        parser.error("--craft-file is needed for stage1: the path of craft_mlt_25k.pth")
    home = Path(os.environ.get("SUBMISSION_HOME") or PROJECT / "scratch").resolve()
    os.environ |= {"SUBMISSION_HOME": str(home), "AICROWD_OUTPUT_PATH": str(home / "runs")}
    craft = craft_features(args.craft_file, home) if any(row.craft for row in chosen) else None
    results: dict[str, Any] = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {"rows": {}}
    for row in chosen:
        file = craft if craft and row.craft else args.weights.resolve()
        weights = digest(file)
        thinned = "" if row.axis_steps == 10 else f"_{row.axis_steps}"
        data = home / f"results_{row.domain}{thinned}"
        dataset = "mpi3d_real" if row.domain == "real" else "mpi3d_real_complex"
        seeds = range(1 if row.config == "readout.gin" else args.seeds or row.seeds)
        where = (file, data, dataset, home / "runs")
        key = f"{row.name} {weights}"
        kept = results["rows"].get(key, {})
        bound = settings_of(row)
        if kept.get("settings") != bound:
            kept = {"scores": []}
        if len(kept["scores"]) >= len(seeds):
            continue
        if not (data / dataset / f"{dataset}.npz").exists():
            steps = ("--axis-steps", str(row.axis_steps))
            submission("render", "--domain", row.domain, *steps, "--out", str(data))
        found = [scores_of(row, seed, *where) for seed in seeds[len(kept["scores"]) :]]
        # UDR needs the model of every seed; seeds scored on another machine have none here.
        names = [run_name(row, seed, weights) for seed in seeds]
        here = all((home / "runs" / name / "scores.json").exists() for name in names)
        results["rows"][key] = {
            "name": row.name,
            "domain": row.domain,
            "weights": weights,
            "saw": trained_on(file),
            "stand_in": found[0]["data"]["stand_in"],
            "grid": found[0]["data"]["factor_sizes"],
            "config": row.config,
            "what": row.what,
            "bindings": row.bindings,
            "settings": bound,
            "counts": found[0]["scores"]["counts"],
            "scores": kept["scores"] + [one["scores"]["headline"] for one in found],
            "udr": udr_of_seeds(row, seeds, *where) if here and len(seeds) > 2 else [],
            "ideal_code": found[0]["ideal_code"]["headline"],
            "versions": found[0]["versions"],
        }
        names = [one.name for one in ROWS]
        pairs = sorted(results["rows"].items(), key=lambda pair: names.index(pair[1]["name"]))
        results["rows"] = dict(pairs)
        write_text(NUMBERS, json.dumps(results, indent=1) + "\n")
    pages.show(PAGE, "results", table(results))
    print(table(results))


if __name__ == "__main__":
    main()
