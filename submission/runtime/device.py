"""The device that computes, and what makes a CPU faster."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from submission.runtime.errors import UserError
from submission.runtime.usage import give_back


def pick_device(name: str) -> torch.device:
    """'auto' is a GPU if there is one, unless AICROWD_CUDA is set and empty or says no (the
    challenge's way to force the CPU). On a GPU, float32 products may use TF32. Raises UserError for
    one that is not here."""
    if name == "auto":
        forced_cpu = os.environ.get("AICROWD_CUDA", "1").lower() in ("", "0", "false", "no")
        name = "cuda" if torch.cuda.is_available() and not forced_cpu else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"there is no device {name!r} here: use --device cpu") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name!r} is neither a CPU nor a CUDA GPU: use --device cpu")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    return device


def bfloat16_is_faster(device: torch.device) -> bool:
    """Whether networks multiply faster in bfloat16 than in float32, by the kind of the device, so
    that the same machine always gives the same answer.

    On a CPU, VGG19-BN's images a second, two cores, bfloat16 against float32: 138 and 51 on a Xeon
    with AMX; twice as many on an EPYC with AVX512-BF16; but 57 and 91 on a Xeon with AVX512-BF16
    whose AMX is masked. Intel's unit without AMX does no more products a cycle than float32's two.
    A CPU with no such unit took 36 times as long. Other CPUs were not measured: False.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or (_is_amd() and found.get("avx512_bf16")))


def _is_amd() -> bool:
    return "AMD" in str(torch.cpu.get_capabilities().get("cpu_name"))


# Parameters of glibc's mallopt, numbered as in its malloc.h, and what they are set to afterwards:
# the threshold is the largest that glibc takes, which its own adaptation ends at, too.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_DEFAULT_MMAP_MAX, _LARGEST_MMAP_THRESHOLD = 65536, 32 * 2**20


@contextmanager
def fast_cpu(device: torch.device) -> Iterator[None]:
    """Makes a loop of equal steps faster on a CPU; on a GPU nothing changes.

    - glibc returns a large block to the system when it is freed, and the system clears each page of
      the next one: a third of a step of public.gin. Here freed blocks are kept until the end.
    - PyTorch computes float32 products with MKL, which does not use AVX512 on AMD. At "medium"
      precision it takes oneDNN where the CPU has AVX512, and the results are as exact. Intel's are
      left out: a step of public.gin took 8 % longer on a Xeon, and where there is AMX oneDNN would
      round the factors to bfloat16.
    """
    if device.type != "cpu":
        yield
        return
    before = torch.get_float32_matmul_precision()
    libc = ctypes.CDLL(None)
    glibc = hasattr(libc, "gnu_get_libc_version")
    if glibc:
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    if _is_amd():
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        if glibc:
            libc.mallopt(_MMAP_MAX, _DEFAULT_MMAP_MAX)
            libc.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
            libc.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)
        give_back()
