"""`finetune`: trains the extractor on simulated images (section 2.1)."""

import argparse
from contextlib import nullcontext
from pathlib import Path

from submission.commands import options
from submission.features.weights import SHIPPED_WEIGHTS
from submission.finetuning.configuration import load_finetuning
from submission.finetuning.images import open_source
from submission.finetuning.processes import process_group, process_rank
from submission.finetuning.starts import Start
from submission.finetuning.training import finetune_from
from submission.finetuning.weights import SHIPPED_HEADS
from submission.runtime import paths, signals
from submission.runtime.files import locked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_bindings(parser)
    parser.add_argument("--config", type=Path, default=Path("finetune.gin"), help="gin file")
    # Not --start: torchrun takes that for an abbreviation of its own --start-method.
    parser.add_argument(
        "--from",
        dest="start",
        default="imagenet",
        metavar="imagenet|craft|scratch|FILE",
        help="starting weights; FILE is a weight file of ours or torchvision's vgg19_bn-*.pth",
    )
    parser.add_argument("--craft-file", type=Path, help="craft_mlt_25k.pth, for --from craft")
    parser.add_argument("--heads", type=Path, help="start from this heads file, too")
    parser.add_argument(
        "--data", type=Path, help="folder of the data sets; default: DISENTANGLEMENT_LIB_DATA"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is written")
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 ...; default: a GPU if there is one"
    )


def run(args: argparse.Namespace) -> None:
    """The `finetune` command, by itself or under torchrun (one process per GPU)."""
    load_finetuning(args.config, args.bindings)
    with process_group(args.device) as device:
        paths.make_folder(args.out, "name another --out")
        lock = locked(args.out / ".lock", "wait for it, or give this one another --out")
        writes = process_rank() == 0
        with signals.stoppable(), lock if writes else nullcontext():
            source = open_source(args.data or paths.data_folder())
            start = Start(args.start, args.craft_file, args.heads)
            finetune_from(start, source, args.out, device)
            if writes:
                print(f"weights: {args.out / SHIPPED_WEIGHTS.name}")
                print(f"heads: {args.out / SHIPPED_HEADS.name}")
