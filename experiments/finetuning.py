"""Measures docs/finetuning.json and writes its tables into docs/finetuning.md: what the parts of
finetune_cpu.gin add to what the extractor reads, and what the shipped weights read in 20,000 images
of each look.

    python -m experiments.finetuning --craft-file craft_mlt_25k.pth      # hours on two cores
    python -m experiments.finetuning --craft-file craft_mlt_25k.pth --frames real.npz craft protocol
    python -m experiments.finetuning shipped

Each row is a short finetuning, all of the same cost, probed on stand-ins and, with --frames, on
labelled images (as for `probe --frames`). Killed, the same call goes on; a row that is done is
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

from experiments import pages
from submission.features.weights import SHIPPED_WEIGHTS, check_sha256
from submission.finetuning.weights import SHIPPED_HEADS
from submission.runtime.files import write_text

PROJECT = Path(__file__).resolve().parent.parent
NUMBERS, PAGE = PROJECT / "docs" / "finetuning.json", PROJECT / "docs" / "finetuning.md"
LOOKS = {"real": "mpi3d_real", "realistic": "mpi3d_realistic", "toy": "mpi3d_toy"}
FACTORS = ("object_color", "object_shape", "object_size", "camera_height", "background_color")

# Epochs of 100 steps.
_SMALL = ("rendered_source.images_per_epoch=6400", "rendered_source.validation_images=512")
_SHORT = ("finetune.epochs=6", *_SMALL)
_SIMULATED = "rendered_source.mix=(0.45, 0.55, 0.0, 0.0)"


@dataclass(frozen=True)
class Row:
    """One line of each table. start: as `finetune --from`; None for the shipped weights."""

    name: str
    start: str | None
    bindings: tuple[str, ...]
    what: str


# docs/finetuning.json has one more row, "half": the code of its first phase at 32x32 is removed.
ROWS = (
    Row("craft", "craft", _SHORT, "all looks, randomised; CRAFT's filters"),
    Row("scratch", "scratch", _SHORT, "as craft, but from scratch"),
    Row(
        "protocol",
        "craft",
        (*_SHORT, _SIMULATED),
        "as craft, but toy and realistic looks only (the paper's protocol), randomised",
    ),
    Row(
        "plain",
        "craft",
        (*_SHORT, _SIMULATED, "rendered_source.strength=0.0"),
        "as protocol, but not randomised",
    ),
    Row("shipped", None, (), "the shipped weights"),
)


def submission(*words: str) -> str:
    """The standard output of `python -m submission WORDS`."""
    call = [sys.executable, "-m", "submission", *words]
    return subprocess.run(call, check=True, cwd=PROJECT, stdout=subprocess.PIPE, text=True).stdout


def finetuned(row: Row, craft_file: Path | None, folder: Path) -> dict[str, Any]:
    """Trains the row, which goes on from its checkpoint; images seen by its own log."""
    assert row.start is not None
    craft = ("--craft-file", str(craft_file)) if row.start == "craft" else ()
    submission(
        "finetune",
        "--config",
        "finetune_cpu.gin",
        "--from",
        row.start,
        *craft,
        "--out",
        str(folder),
        *row.bindings,
    )
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
            "",
            f"### {one}",
            "",
            "| row | images | colour | shape | size | height | background | tilt | pan | arm |",
            "|---" * 10 + "|",
        ]
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


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.finetuning", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("rows", nargs="*", metavar="row", help="default: all")
    parser.add_argument("--craft-file", type=Path, help="craft_mlt_25k.pth")
    parser.add_argument(
        "--frames", type=Path, action="append", default=[], help="labelled images to probe, too"
    )
    return parser


def main() -> None:
    parser = arguments()
    args = parser.parse_args()
    if unknown := set(args.rows) - {row.name for row in ROWS}:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(r.name for r in ROWS)}")
    chosen = [row for row in ROWS if not args.rows or row.name in args.rows]
    if args.craft_file is None and any(row.start == "craft" for row in chosen):
        parser.error("--craft-file is needed: the path of craft_mlt_25k.pth")
    home = Path(os.environ.get("SUBMISSION_HOME") or PROJECT / "scratch").resolve()
    os.environ["SUBMISSION_HOME"] = str(home)
    results: dict[str, Any] = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {"rows": {}}
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
            "what": row.what,
            "start": row.start,
            "bindings": row.bindings,
            **made,
            "weights": check_sha256(weights),
            "probe": found,
        }
        order = [*(one.name for one in ROWS), *results["rows"]]
        results["rows"] = dict(sorted(results["rows"].items(), key=lambda r: order.index(r[0])))
        write_text(NUMBERS, json.dumps(results, indent=1) + "\n")
    pages.show(PAGE, "finetuning", table(results))
    print(table(results))


if __name__ == "__main__":
    main()
