"""Makes docs/finetuning.json and docs/finetuning.md: what the parts of finetune_cpu.gin add to what
the extractor reads, and what the shipped weights read in 20,000 images of each look.

    python -m docs.finetuning --craft-file craft_mlt_25k.pth      # hours on two cores
    python -m docs.finetuning --craft-file craft_mlt_25k.pth --frames real.npz craft protocol
    python -m docs.finetuning shipped

Each row is a short finetuning, all of the same cost, probed on stand-ins and, with --frames, on
labelled pictures (as for `probe --frames`). Killed, the same call goes on; a row that is done is
not trained again. Runs lie in $SUBMISSION_HOME/finetuning (default: scratch/finetuning).
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submission.features.weights import SHIPPED_WEIGHTS, check_sha256
from submission.finetuning.weights import SHIPPED_HEADS
from submission.runtime.files import write_text

DOCS = Path(__file__).resolve().parent
LOOKS = {"real": "mpi3d_real", "realistic": "mpi3d_realistic", "toy": "mpi3d_toy"}
FACTORS = ("object_color", "object_shape", "object_size", "camera_height", "background_color")

# Epochs of 100 steps.
_SMALL = ("rendered_source.images_per_epoch=6400", "rendered_source.validation_images=512")
_SHORT = ("finetune.epochs=6", *_SMALL)
_SIMULATED = "rendered_source.mix=(0.45, 0.55, 0.0)"

INTRODUCTION = """# What the finetuning's parts add

Short trainings of the whole network by `docs/finetuning.py`, which has their settings: 600 steps of
64 images (the row with a phase at 32x32: 1,200), 40 to 88 minutes each, beside other work on two
cores (a row that is not shown was not run). Idle, such cores take 38,400 images in 10 minutes where
they multiply in bfloat16 (67 images/s, timed by hand), or in 49 at the 13 images/s of others. The
rows are far from converged and compare starts and images; what the finetuning reaches is the row of
the shipped weights (387,968 images). All but the row with the 32x32 phase multiplied in bfloat16.
Frames are published ones of MPI3D, 140 of each animation, never trained on; the renderer was
calibrated on them.

Per cent right, mean over each factor's values; tilt and pan: mean absolute error in steps of 40;
arm: median angle between read and true direction. A constant guess has 17, 17, 50, 33, 33 %, 10
steps. Stand-ins are this project's renders with axes thinned to 10 positions, **not MPI3D**.

What the rows showed: from scratch, shape and the arm's direction are hardly begun when CRAFT's
filters are half way. Randomised toy and realistic looks alone, as in the paper's protocol, read the
real look and the real frames nearly as well as training on all looks does, so most of that is
transfer. Without randomisation the looks that were trained on are read best of all, and the real
ones worst. A phase at 32x32 does not pay: a step there takes a third of the time (1.8 against 5.5 s
for 32 images on one core, timed by hand), so the row costs what the others do, but shape and size
are hardly learnt in it; only colours are read better.
"""


@dataclass(frozen=True)
class Row:
    """One line of each table. start: as `finetune --from`; None for the shipped weights."""

    name: str
    start: str | None
    bindings: tuple[str, ...]
    what: str


ROWS = (
    Row("craft", "craft", _SHORT, "all looks, randomised; CRAFT's filters"),
    Row("scratch", "scratch", _SHORT, "the same from scratch"),
    Row("half", "craft", ("finetune.epochs=12", "finetune.half_size_epochs=9", *_SMALL),
        "as craft, but 900 steps at 32x32, then 300 at 64x64"),
    Row("protocol", "craft", (*_SHORT, _SIMULATED),
        "as craft, but toy and realistic looks only (the paper's protocol), randomised"),
    Row("plain", "craft", (*_SHORT, _SIMULATED, "rendered_source.strength=0.0"),
        "as protocol, but not randomised"),
    Row("shipped", None, (), "the shipped weights"),
)  # fmt: skip


def submission(*words: str) -> str:
    """The standard output of `python -m submission WORDS`."""
    call = [sys.executable, "-m", "submission", *words]
    return subprocess.run(
        call, check=True, cwd=DOCS.parent, stdout=subprocess.PIPE, text=True
    ).stdout


def finetuned(row: Row, craft_file: Path | None, folder: Path) -> dict[str, Any]:
    """Trains the row, which goes on from its checkpoint; images seen by its own log."""
    assert row.start is not None
    craft = ("--craft-file", str(craft_file)) if row.start == "craft" else ()
    submission(
        "finetune", "--config", "finetune_cpu.gin", "--from", row.start, *craft,
        "--out", str(folder), *row.bindings,
    )  # fmt: skip
    with open(folder / "finetune.csv", newline="") as file:
        epochs = list(csv.DictReader(file))
    return {"images_seen": int(float(epochs[-1]["images_seen"]))}


def probed(weights: Path, heads: Path, where: Sequence[str]) -> dict[str, Any]:
    out = submission("probe", "--weights", str(weights), "--heads", str(heads), "--json", *where)
    answer: dict[str, Any] = json.loads(out)
    return answer


def table(results: dict[str, Any]) -> str:
    """One table for each set of images, the rows as Markdown."""
    rows = results["rows"]
    sets = dict.fromkeys(name for row in rows.values() for name in row["probe"])
    lines = ["| row | what | images seen |", "|---|---|---|"]
    for name, row in rows.items():
        seen = f"{row['images_seen']:,}" if row["images_seen"] else ""
        lines.append(f"| {name} | {row['what']} | {seen} |")
    for one in sets:
        lines += [
            "", f"### {one}", "",
            "| row | images | colour | shape | size | height | background | tilt | pan | arm |",
            "|---" * 10 + "|",
        ]  # fmt: skip
        for name, row in rows.items():
            if one in row["probe"]:
                answer = row["probe"][one]
                scores = answer["scores"]
                cells = [
                    f"{100 * scores[factor]['mean_over_values']:.1f}" if factor in scores else "-"
                    for factor in FACTORS
                ]
                cells += [f"{scores[axis]['error']:.2f}" for axis in ("tilt", "pan")]
                cells.append(f"{scores['arm']['median_angle']:.1f}°")
                lines.append(f"| {name} | {answer['images']:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="row", help="default: all")
    parser.add_argument("--craft-file", type=Path, help="craft_mlt_25k.pth")
    parser.add_argument(
        "--frames", type=Path, action="append", default=[], help="labelled pictures to probe, too"
    )
    args = parser.parse_args()
    if unknown := set(args.rows) - {row.name for row in ROWS}:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(r.name for r in ROWS)}")
    chosen = [row for row in ROWS if not args.rows or row.name in args.rows]
    if args.craft_file is None and any(row.start == "craft" for row in chosen):
        parser.error("--craft-file is needed: the path of craft_mlt_25k.pth")
    home = Path(os.environ.get("SUBMISSION_HOME") or DOCS.parent / "scratch").resolve()
    os.environ["SUBMISSION_HOME"] = str(home)
    path = DOCS / "finetuning.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    for domain, dataset in LOOKS.items():
        data = home / f"results_{domain}"
        if not (data / dataset / f"{dataset}.npz").exists():
            submission("render", "--domain", domain, "--axis-steps", "10", "--out", str(data))
    for row in chosen:
        folder = home / "finetuning" / row.name
        weights, heads, count = SHIPPED_WEIGHTS, SHIPPED_HEADS, "20000"
        made: dict[str, Any] = {"images_seen": None}
        if row.start is not None:
            made = finetuned(row, args.craft_file, folder)
            weights, heads = folder / SHIPPED_WEIGHTS.name, folder / SHIPPED_HEADS.name
            count = "1000"
        found = {}
        for domain, dataset in LOOKS.items():
            where = ("--data", str(home / f"results_{domain}"), "--dataset", dataset)
            answer = probed(weights, heads, (*where, "--count", count))
            found[f"Stand-in, {domain} look, NOT MPI3D"] = answer
        for frames in args.frames:
            answer = probed(weights, heads, ("--frames", str(frames)))
            found[f"Labelled frames: {frames.stem}"] = answer
        results["rows"][row.name] = {
            "what": row.what, "start": row.start, "bindings": row.bindings, **made,
            "weights": check_sha256(weights), "probe": found,
        }  # fmt: skip
        order = [one.name for one in ROWS if one.name in results["rows"]]
        results["rows"] = {name: results["rows"][name] for name in order}
        write_text(path, json.dumps(results, indent=1) + "\n")
        write_text(path.with_suffix(".md"), f"{INTRODUCTION}\n{table(results)}")
    print(table(results))


if __name__ == "__main__":
    main()
