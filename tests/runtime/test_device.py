"""Faster on a CPU, with the same sums: against float64, and by the kernel's count of pages."""

import subprocess
import sys

import pytest
import torch

from submission.runtime.device import fast_cpu, pick_device
from submission.runtime.paths import PROJECT

CPU = torch.device("cpu")

# In a process of its own, whose heap no other test has grown.
PAGES = """
import resource, torch
from submission.runtime.device import fast_cpu
from submission.runtime.usage import own_mib

def pages_of_a_block():  # that the kernel gives for 64 MiB asked for, filled and freed
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages_of_a_block()
own, usual = own_mib(), pages_of_a_block()
with fast_cpu(torch.device("cpu")):
    for _ in range(10):  # it may take some to find free room of the right alignment
        pages_of_a_block()
    print(pages_of_a_block() / usual, own_mib() - own)
kept = own_mib() - own  # before the next block, which may go into a hole of the heap and stay there
print(pages_of_a_block() / usual, kept)
"""


def test_a_freed_block_is_used_again_and_given_back_at_the_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PAGES], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    within, after = ([float(word) for word in line.split()] for line in done.stdout.splitlines())
    assert within[0] < 0.1
    assert within[1] > 50
    assert after[0] > 0.5
    assert after[1] < 20


@pytest.mark.parametrize("sizes", [(256, 512, 1024), (100, 1024, 16), (2, 18, 4096)])
def test_products_and_their_gradients_are_as_exact_as_float32(sizes: tuple[int, int, int]) -> None:
    rows, wide, narrow = sizes
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, wide, generator=generator)
    weight = torch.randn(narrow, wide, generator=generator)
    gradient = torch.randn(rows, narrow, generator=generator)
    x.requires_grad_()
    weight.requires_grad_()
    with fast_cpu(CPU):
        y = torch.nn.functional.linear(x, weight)
        y.backward(gradient)
    assert x.grad is not None
    assert weight.grad is not None
    x64, weight64, gradient64 = x.detach().double(), weight.detach().double(), gradient.double()
    for found, exact in (
        (y.detach(), x64 @ weight64.T),
        (x.grad, gradient64 @ weight64),
        (weight.grad, gradient64.T @ x64),
    ):
        assert (found - exact).norm() < 2e-6 * exact.norm()


def test_what_was_set_is_set_again() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with fast_cpu(CPU):
            amd = "AMD" in torch.cpu.get_capabilities()["cpu_name"]
            assert torch.get_float32_matmul_precision() == ("medium" if amd else "high")
        assert torch.get_float32_matmul_precision() == "high"
        with fast_cpu(torch.device("meta")):
            assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("said", ["", "False", "0", "no"])
def test_a_gpu_is_left_alone_where_the_challenges_variable_says_no(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("AICROWD_CUDA", said)
    assert pick_device("auto") == torch.device("cpu")
