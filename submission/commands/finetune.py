"""`finetune`: trains the extractor on simulated images (section 2.1)."""

import argparse
import hashlib
import logging
import os
from contextlib import nullcontext
from pathlib import Path

import gin
import torch
import torch.distributed as dist

from submission.commands import options
from submission.features.weights import SHIPPED_WEIGHTS, check_sha256
from submission.finetuning.configuration import load_finetuning
from submission.finetuning.images import open_source
from submission.finetuning.processes import process_count, process_rank
from submission.finetuning.starts import start_network
from submission.finetuning.training import finetune
from submission.finetuning.weights import SHIPPED_HEADS
from submission.runtime import paths, signals
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError
from submission.runtime.files import locked

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_bindings(parser)
    parser.add_argument("--config", type=Path, default=Path("finetune.gin"), help="gin file")
    # Not --start: torchrun takes that for an abbreviation of its own --start-method.
    parser.add_argument(
        "--from", dest="start", default="imagenet", metavar="imagenet|craft|scratch|FILE",
        help="starting weights; FILE is a weight file of ours or torchvision's vgg19_bn-*.pth",
    )  # fmt: skip
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
    processes = os.environ.get("WORLD_SIZE", "1")
    if not processes.isdecimal():
        raise UserError(f"WORLD_SIZE is {processes!r}, torchrun sets it to a number: unset it")
    parallel = int(processes) > 1
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if parallel else ():
        if not os.environ.get(name):
            raise UserError(
                f"WORLD_SIZE is {processes} and {name} is not set: start it by torchrun, or unset "
                "WORLD_SIZE"
            )
    device_name = args.device
    if parallel and device_name in ("auto", "cuda") and torch.cuda.is_available():
        device_name = f"cuda:{os.environ['LOCAL_RANK']}"
    device = pick_device(device_name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if parallel:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        paths.make_folder(args.out, "name another --out")
        with (
            signals.stoppable(),
            locked(args.out / ".lock", "wait for it, or give this one another --out")
            if process_rank() == 0
            else nullcontext(),
        ):
            _finetune_in(args, device)
    finally:
        if parallel:
            dist.destroy_process_group()


def _finetune_in(args: argparse.Namespace, device: torch.device) -> None:
    source = open_source(args.data or paths.data_folder())
    network = start_network(
        args.start, args.craft_file, args.heads, gin.query_parameter("finetune.seed")
    )
    given = [Path(args.start), args.craft_file, args.heads]
    digests = [check_sha256(path)[:16] for path in given if path is not None and path.is_file()]
    metadata = {
        "start": " ".join([Path(args.start).name, *digests]),
        "images": source.description,
        "config": gin.config_str(),
        "made_by": f"python -m submission finetune, torch {torch.__version__}",
    }
    parts = [metadata["start"], metadata["images"], source.identity, metadata["config"]]
    parts.append(str(process_count()))
    fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if process_rank() == 0:
        log.info("images: %s", source.description)
        log.info("start: %s, device: %s, processes: %d", args.start, device, process_count())
    finetune(network, source, args.out, device, fingerprint, metadata)
    if process_rank() == 0:
        print(f"weights: {args.out / SHIPPED_WEIGHTS.name}\nheads: {args.out / SHIPPED_HEADS.name}")
