"""`probe`: what the extractor and its heads read in labelled images."""

import argparse
from functools import partial
from pathlib import Path

from submission.data.dataset import open_dataset
from submission.features.weights import SHIPPED_WEIGHTS
from submission.finetuning.probe import probe_animation, probe_dataset, probe_frames, read_factors
from submission.finetuning.scores import draw_confusion
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
        "--frames",
        type=Path,
        help="npz file: images uint8 (n, 64, 64, 3), factors (n, 7), of which the last two columns "
        "are tilt and pan",
    )
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
    """The `probe` command."""
    if args.count < 1:
        raise UserError(f"--count {args.count} is no number of images: give 1 or more")
    if args.picture and not args.picture.absolute().parent.is_dir():
        raise UserError(f"there is no folder {args.picture.parent}: make it, or name another file")
    reader = partial(read_factors, args.weights, args.heads, pick_device(args.device))
    if args.gif:
        probe = probe_animation(args.gif, args.complex, reader)
    elif args.frames:
        probe = probe_frames(args.frames, args.complex, reader)
    else:
        dataset = open_dataset(args.data or paths.data_folder(), args.dataset)
        probe = probe_dataset(dataset, args.count, reader)
    if args.picture:
        draw_confusion(probe.read, probe.true, probe.complex_objects, probe.what, args.picture)
    print(probe.as_json() if args.json else probe.as_text())
