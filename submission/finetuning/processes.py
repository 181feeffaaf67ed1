"""What several processes, one a GPU under torchrun, do together."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from submission.runtime import signals
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError


@contextmanager
def process_group(device_name: str) -> Iterator[torch.device]:
    """The device of this process, which under torchrun is joined with the others: there "auto" and
    "cuda" give each process a GPU of its own. UserError: as pick_device, or torchrun's environment
    variables are not whole."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if not processes.isdecimal():
        raise UserError(f"WORLD_SIZE is {processes!r}, torchrun sets it to a number: unset it")
    parallel = int(processes) > 1
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if parallel else ():
        if not os.environ.get(name):
            what = f"WORLD_SIZE is {processes} and {name} is not set"
            raise UserError(f"{what}: start it by torchrun, or unset WORLD_SIZE")
    if parallel and device_name in ("auto", "cuda") and torch.cuda.is_available():
        device_name = f"cuda:{os.environ['LOCAL_RANK']}"
    device = pick_device(device_name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if parallel:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        if parallel:
            dist.destroy_process_group()


def stop_asked(device: torch.device, step: int) -> int:
    """The number of the signal that asks all processes, after the same step, for the end; or 0."""
    if process_count() == 1:
        return signals.asked()
    # Reading a value makes a GPU wait, so not every step.
    if device.type == "cuda" and step % 10:
        return 0
    number = torch.tensor(signals.asked(), device=device)
    dist.all_reduce(number, dist.ReduceOp.MAX)
    return int(number)


def process_rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def process_count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def mean_over_all(value: Tensor) -> Tensor:
    if process_count() > 1:
        dist.all_reduce(value)
    return value / process_count()
