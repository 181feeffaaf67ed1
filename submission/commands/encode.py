"""`encode`: images -> latent codes, through the exported model."""

import argparse
from pathlib import Path

from submission.commands.options import dataset_of
from submission.data.dataset import open_file, verify
from submission.latents.codes import codes_of, write_codes
from submission.runtime import paths
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, help="npz file with uint8 images (N, 64, 64, 3)")
    parser.add_argument("--dataset", help="or a data set; default: AICROWD_DATASET_NAME")
    parser.add_argument("--data", type=Path, help="its folder; default: DISENTANGLEMENT_LIB_DATA")
    parser.add_argument("--model", type=Path, help="exported model; default: that of the run")
    parser.add_argument("--name", help="the run's name; default: AICROWD_EVALUATION_NAME")
    parser.add_argument("--device", default="auto", help="cpu, cuda ...; default: a GPU if any")
    parser.add_argument("--out", type=Path, required=True, help="npz file to write")


def run(args: argparse.Namespace) -> None:
    if args.images:
        dataset = open_file(args.images, args.images.stem, any_count=True)
    else:
        dataset = dataset_of(args)
    if args.out.suffix != ".npz":
        raise UserError(f"--out {args.out} must end in .npz")
    if args.out.is_dir() or not args.out.parent.is_dir():
        raise UserError(f"--out {args.out} cannot be written: name a file in a folder that exists")
    model = args.model or paths.model_path(paths.run_folder(args.name))
    codes = codes_of(model, dataset, verify(dataset), pick_device(args.device))
    write_codes(codes, dataset, args.out)
    print(f"{args.out}: codes {codes.shape} of {dataset.description}")
