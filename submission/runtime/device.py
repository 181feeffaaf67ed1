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


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16. They double a CPU's speed; on a
    CPU without them a convolution in bfloat16 took 36 times as long as in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


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
      precision it takes oneDNN where the CPU has AVX512, and the results are as exact. CPUs with
      AMX are left out: there oneDNN would round the factors to bfloat16.
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
    if not torch.cpu.get_capabilities().get("amx_bf16"):
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
