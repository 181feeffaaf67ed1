"""Image -> latent means, as one TorchScript file that any scorer can call."""

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from submission.features.extraction import to_float
from submission.features.extractor import Extractor
from submission.runtime.errors import UserError
from submission.runtime.files import replacing


class Network(nn.Module):
    """Extractor and means, images -> latent means, as they are traced."""

    def __init__(self, extractor: Extractor, means: nn.Module) -> None:
        super().__init__()
        self.extractor, self.means = extractor, means

    def forward(self, images: Tensor) -> Tensor:
        means: Tensor = self.means(self.extractor(images))
        return means


class Representation(nn.Module):
    """forward: float (N, *shape) in [0, 1] -> float (N, C), the latent means; any other images
    are answered with an error. Resizing and normalisation are inside, dropout and batch statistics
    are off, no device and no batch size is baked in.

    Args:
        shape: of the data set's images: (3 or 1, height, width).

    Scripting writes the source of every function it meets into the file, and of torch's own
    functions old versions cannot read today's. So what computes is traced, which leaves the
    operators alone, and only this class, which needs an `if`, is scripted: with operators that
    torch 1.13 has. Frozen it is not: that would make constants of the weights, which `.to(device)`
    leaves where they are.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.network = network
        self.channels, self.height, self.width = shape

    def forward(self, images: Tensor) -> Tensor:
        c, h, w = self.channels, self.height, self.width
        if images.dim() != 4 or images.size(1) != c or images.size(2) != h or images.size(3) != w:
            raise ValueError(f"images have shape {images.size()}, not (N, {c}, {h}, {w})")
        if not images.is_floating_point():
            raise ValueError("images are whole numbers, not floats in 0..1: divide by 255")
        if images.size(0) > 0:
            low, high = float(images.min()), float(images.max())
            if not (low >= -0.001 and high <= 1.001):  # not so of NaN either; rounding is spared
                raise ValueError(f"images lie between {low} and {high}, not in 0..1")
        means: Tensor = self.network(images)
        return means


def export(extractor: Extractor, means: nn.Module, images: np.ndarray, path: Path) -> None:
    """Writes the TorchScript file, loads it afresh and compares its output; only then `path` is
    there. `means`, features (N, 512) -> (N, C), and the extractor are moved to the CPU.

    Args:
        images: a few of the data set, uint8 (N, height, width, 3 or 1), to compare the output on;
            the file takes images of this shape.

    Raises UserError if the file's output is not finite, of the wrong shape, or not what the
    networks in memory say, or if the disk is full.
    """
    network = Network(extractor, means).to("cpu").eval()
    batch = to_float(images, torch.device("cpu"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with _torchscript(), torch.no_grad():
        traced = torch.jit.trace(network, batch[:2], check_trace=False)
        channels, height, width = batch.shape[1:]
        script = torch.jit.script(Representation(traced, (channels, height, width)))
    with replacing(path) as file:
        written = Path(file.name)
        _save(script, written)
        _compare(load(written), network, batch)


@torch.inference_mode()
def _compare(loaded: nn.Module, module: nn.Module, batch: Tensor) -> None:
    expected = module(batch)
    # The scorer calls with batches of 16 and 64, so of any size.
    got = torch.cat([loaded(part) for part in (batch[:1], batch[1:]) if len(part)])
    if got.shape != expected.shape or got.ndim != 2 or not torch.isfinite(got).all():
        raise UserError(f"the exported model answers {tuple(got.shape)} or non-finite values")
    # Batch sizes change the order of float32 sums, hence not exactly equal.
    if not torch.allclose(got, expected, rtol=1e-3, atol=1e-3):
        worst = float((got - expected).abs().max())
        raise UserError(f"the exported model differs from the trained one by {worst:.2g}")


def _save(script: torch.jit.ScriptModule, path: Path) -> None:
    # torch's writer ends the process when the disk is full, so look for room before.
    tensors = [*script.parameters(), *script.buffers()]
    needed = sum(each.numel() * each.element_size() for each in tensors) + 2**20
    if shutil.disk_usage(path.parent).free < needed:
        raise UserError(f"{path} could not be written: free {needed / 2**20:,.0f} MiB there")
    try:
        script.save(str(path))
    except (RuntimeError, OSError) as error:  # torch's writer raises RuntimeError on a full disk
        raise UserError(f"{path} could not be written: free disk space there") from error


def load(path: Path, device: str = "cpu") -> torch.jit.ScriptModule:
    """An exported model in evaluation mode on `device`. Raises UserError for no such file, or no
    TorchScript archive (a pickled module is not loaded: it could run any code)."""
    if not path.is_file():
        raise UserError(f"no exported model {path}: run `python -m submission train` first")
    try:
        with _torchscript():
            module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location=device)
    except RuntimeError as error:
        how = "export it with `python -m submission train`"
        raise UserError(f"{path} is no TorchScript file: {how}") from error
    return module.eval()


@contextmanager
def _torchscript() -> Iterator[None]:
    """Silences torch's advice to use another format: the challenge's scorer loads TorchScript; and
    that what is traced is of one shape: Representation refuses others."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        yield
