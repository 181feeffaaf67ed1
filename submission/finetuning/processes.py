"""What several processes, one a GPU under torchrun, do together."""

import torch
import torch.distributed as dist
from torch import Tensor

from submission.runtime import signals


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
    """The mean over all processes."""
    if process_count() > 1:
        dist.all_reduce(value)
    return value / process_count()
