"""`finetune`: trains the extractor on simulated images (section 2.1)."""

import argparse
from contextlib import nullcontext
from pathlib import Path

from submission.commands import options
from submission.features.weights import SHIPPED_WEIGHTS
from submission.finetuning import configuration, images, processes, starts, training, weights
from submission.runtime import paths, signals
from submission.runtime.files import locked, refuse_overwriting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    options.add_bindings(parser)
    add("--config", type=Path, default=Path("finetune.gin"), help="gin file")
    what = "starting weights; FILE is a weight file of ours or torchvision's vgg19_bn-*.pth"
    kinds = "imagenet|craft|scratch|FILE"
    # Not --start: torchrun takes that for an abbreviation of its own --start-method.
    add("--from", dest="weights", default="imagenet", metavar=kinds, help=what)
    add("--craft-file", type=Path, help="craft_mlt_25k.pth, for --from craft")
    add("--heads", type=Path, help="start from this heads file, too")
    add("--data", type=Path, help="folder of the data sets; default: DISENTANGLEMENT_LIB_DATA")
    add("--out", type=Path, required=True, help="folder for all that is written")
    options.add_device(parser)


def run(args: argparse.Namespace) -> None:
    """The `finetune` command, by itself or under torchrun (one process per GPU)."""
    configuration.load_finetuning(args.config, args.bindings)
    with processes.process_group(args.device) as device:
        paths.make_folder(args.out, "name another --out")
        lock = locked(args.out / ".lock", "wait for it, or give this one another --out")
        writes = processes.process_rank() == 0
        with signals.stoppable(), lock if writes else nullcontext():
            threads = images.rendering_threads(device, processes.process_count())
            source = images.open_source(args.data or paths.data_folder(), threads)
            start = options.filled(starts.Start, args)
            refuse_overwriting(args.out / SHIPPED_WEIGHTS.name, Path(start.weights).expanduser())
            refuse_overwriting(args.out / weights.SHIPPED_HEADS.name, *filter(None, [start.heads]))
            training.finetune_from(start, source, args.out, device)
            if writes:
                print(f"weights: {args.out / SHIPPED_WEIGHTS.name}")
                print(f"heads: {args.out / weights.SHIPPED_HEADS.name}")
