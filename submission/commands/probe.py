"""`probe`: what the extractor and its heads read in labelled images."""

import argparse
from pathlib import Path

from submission.commands.options import add_device, add_weights
from submission.data.dataset import open_dataset
from submission.finetuning import probe
from submission.finetuning.scores import draw_confusion
from submission.finetuning.weights import SHIPPED_HEADS
from submission.runtime import paths
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError
from submission.runtime.files import refuse_overwriting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--dataset", help="a data set by name, e.g. mpi3d_real")
    what = "a sample animation of MPI3D, as its authors publish them"
    which.add_argument("--gif", type=Path, help=what)
    what = "npz file: images uint8 (n, 64, 64, 3), factors (n, 7), of which the last two columns"
    which.add_argument("--frames", type=Path, help=f"{what} are tilt and pan")
    add("--complex", action="store_true", help="--frames or --gif shows complex objects")
    add("--data", type=Path, help="its folder; default: DISENTANGLEMENT_LIB_DATA")
    add("--count", type=int, default=2000, help="images drawn from a data set (%(default)s)")
    add_weights(parser)
    add("--heads", type=Path, default=SHIPPED_HEADS, help="its heads; default: the shipped ones")
    add_device(parser)
    add("--picture", type=Path, help="PNG of the confusions to write")
    add("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> None:
    """The `probe` command."""
    if args.count < 1:
        raise UserError(f"--count {args.count} is no number of images: give 1 or more")
    if args.picture and not args.picture.absolute().parent.is_dir():
        raise UserError(f"there is no folder {args.picture.parent}: make it, or name another file")
    if args.picture:
        read = (args.gif, args.frames, args.weights, args.heads)
        refuse_overwriting(args.picture, *filter(None, read))
    reader = probe.Reader(args.weights, args.heads, pick_device(args.device))
    if args.gif:
        found = probe.probe_animation(args.gif, args.complex, reader)
    elif args.frames:
        found = probe.probe_frames(args.frames, args.complex, reader)
    else:
        dataset = open_dataset(args.data or paths.data_folder(), args.dataset)
        found = probe.probe_dataset(dataset, args.count, reader)
    if args.picture:
        draw_confusion(found.read, found.true, found.columns, found.what, args.picture)
    print(found.as_json() if args.json else found.as_text())
