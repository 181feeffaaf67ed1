"""`encode`: images -> latent codes, through the exported model."""

import argparse
from pathlib import Path

from submission.commands.options import add_data, add_device, add_name, dataset_of
from submission.data.dataset import verify
from submission.data.own import open_own
from submission.latents.codes import codes_of, write_codes
from submission.runtime import paths
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError
from submission.runtime.files import refuse_overwriting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = "npz (`images`) or npy file, or folder of images; default: a data set's"
    parser.add_argument("--images", type=Path, help=what)
    add_data(parser)
    parser.add_argument("--model", type=Path, help="exported model; default: that of the run")
    add_name(parser)
    add_device(parser)
    parser.add_argument("--out", type=Path, required=True, help="npz file to write")


def run(args: argparse.Namespace) -> None:
    images: Path | None = args.images
    dataset = open_own(images) if images else dataset_of(args)
    if args.out.suffix != ".npz":
        raise UserError(f"--out {args.out} must end in .npz")
    if args.out.is_dir() or not args.out.parent.is_dir():
        raise UserError(f"--out {args.out} cannot be written: name a file in a folder that exists")
    model = args.model or paths.model_path(paths.run_folder(args.name))
    refuse_overwriting(args.out, dataset.path, model)
    codes = codes_of(model, dataset, verify(dataset), pick_device(args.device))
    write_codes(codes, dataset, args.out)
    print(f"{args.out}: codes {codes.shape} of {dataset.description}")
