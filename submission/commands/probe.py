"""`probe`: what the extractor and its heads read in labelled images."""

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

from submission.data.dataset import open_dataset
from submission.data.factors import IMAGE_SHAPE
from submission.features.weights import SHIPPED_WEIGHTS
from submission.finetuning import animation
from submission.finetuning.network import FACTOR_SIZES
from submission.finetuning.probe import (
    COMPLEX_SIZES,
    axes_as_tilt_and_pan,
    draw_confusion,
    labelled_frames,
    labelled_sample,
    on_own_panel,
    own_panels,
    read_factors,
    scores,
    table,
)
from submission.finetuning.weights import SHIPPED_HEADS
from submission.runtime import paths
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--dataset", help="a data set by name, e.g. mpi3d_real")
    which.add_argument(
        "--gif", type=Path, help="a sample animation of MPI3D, as its authors publish them"
    )
    which.add_argument(
        "--frames", type=Path,
        help="npz file: images uint8 (n, 64, 64, 3), factors (n, 7), of which the last two columns "
        "are tilt and pan",
    )  # fmt: skip
    parser.add_argument(
        "--complex", action="store_true", help="--frames or --gif shows complex objects"
    )
    parser.add_argument("--data", type=Path, help="its folder; default: DISENTANGLEMENT_LIB_DATA")
    parser.add_argument(
        "--count", type=int, default=2000, help="images drawn from a data set (%(default)s)"
    )
    parser.add_argument(
        "--weights", type=Path, default=SHIPPED_WEIGHTS, help="extractor; default: the shipped one"
    )
    parser.add_argument(
        "--heads", type=Path, default=SHIPPED_HEADS, help="its heads; default: the shipped ones"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda ...; default: a GPU if any")
    parser.add_argument("--picture", type=Path, help="PNG of the confusions to write")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> None:
    """Prints what is read, and writes the picture if one is asked for."""
    if args.count < 1:
        raise UserError(f"--count {args.count} is no number of images: give 1 or more")
    if args.picture and not args.picture.absolute().parent.is_dir():
        raise UserError(f"there is no folder {args.picture.parent}: make it, or name another file")
    device = pick_device(args.device)
    note = ""
    moved: dict[str, dict[str, float]] = {}
    if args.gif:
        complex_objects = args.complex
        frames = animation.read_animation(args.gif)
        images = frames.reshape(-1, *IMAGE_SHAPE)
        read = read_factors(args.weights, args.heads, images, device)
        panels = read.reshape(len(frames), animation.PANELS, len(FACTOR_SIZES))
        found = animation.inferred_labels(
            panels, COMPLEX_SIZES if complex_objects else FACTOR_SIZES
        )
        moved = on_own_panel(panels, found, complex_objects)
        true = found.factors.reshape(-1, len(FACTOR_SIZES))
        what = f"{args.gif.name}: {len(frames)} frames of {animation.PANELS} panels"
        note = (
            "An animation carries no labels: each factor's course follows from where it starts, "
            "and the start was taken that agrees best with what was read in its panel. All panels "
            f"start at {animation.described(found, complex_objects)}: look whether that is so. The "
            "first table counts all frames, most of which show this one configuration."
        )
    elif args.frames:
        complex_objects = args.complex
        images, true = labelled_frames(args.frames, complex_objects)
        what = f"{args.frames.name}: {len(images)} images"
        read = read_factors(args.weights, args.heads, images, device)
    else:
        dataset = open_dataset(args.data or paths.data_folder(), args.dataset)
        complex_objects = dataset.name == "mpi3d_real_complex"
        images, true = labelled_sample(dataset, args.count)
        what = f"{len(images)} images of {dataset.description}"
        read = read_factors(args.weights, args.heads, images, device)
        true, note = axes_as_tilt_and_pan(dataset, read, true)
    result = scores(read, true, complex_objects)
    if args.picture:
        draw_confusion(read, true, complex_objects, what, args.picture)
    if args.json:
        answer: dict[str, Any] = {"images": len(images), "what": what, "scores": result}
        answer |= {"on_own_panel": moved} if moved else {}
        print(json.dumps(answer | ({"note": note} if note else {}), indent=2))
    else:
        print(f"{what}\n\n{table(result)}" + (f"\n\n{own_panels(moved)}" if moved else ""))
        if note:
            print(f"\n{textwrap.fill(note, 100)}")
