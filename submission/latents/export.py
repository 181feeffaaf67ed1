"""Image -> latent means, as one TorchScript file that any scorer can call."""

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from submission.features.extractor import Extractor
from submission.runtime.errors import UserError


class Representation(nn.Module):
    """forward: float (N, 3, 64, 64) in [0, 1] -> float (N, C), the latent means.

    Normalisation is inside, dropout and batch statistics are off, no device is baked in.
    """

    def __init__(self, extractor: Extractor, means: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor
        self.means = means

    def forward(self, images: Tensor) -> Tensor:
        means: Tensor = self.means(self.extractor(images))
        return means


def export(extractor: Extractor, means: nn.Module, images: np.ndarray, path: Path) -> None:
    """Writes the TorchScript file and verifies it by loading it afresh.

    Args:
        extractor: as loaded. means: trained, features (N, 512) -> (N, C). On any device; they are
            moved to the CPU.
        images: a few real ones, uint8 (N, 64, 64, 3), to compare the file's output on.
        path: the final name; it appears only after the comparison.

    Raises:
        UserError: the file's output is not finite, of the wrong shape, or not what the networks
            in memory say; or the disk is full.
    """
    module = Representation(extractor, means).to("cpu").eval()
    beside = path.with_suffix(".tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255.0)
    with _torchscript():
        script = torch.jit.script(module)
    try:
        _save(script, beside)
        with torch.inference_mode():
            expected = module(batch)
            loaded = load(beside)
            # The scorer calls with batches of 16 and 64, so of any size.
            got = (
                torch.cat([loaded(batch[:1]), loaded(batch[1:])])
                if len(batch) > 1
                else loaded(batch)
            )
        if got.shape != expected.shape or got.ndim != 2 or not torch.isfinite(got).all():
            raise UserError(f"the exported model answers {tuple(got.shape)} or non-finite values")
        # Batch sizes change the order of float32 sums, hence not exactly equal.
        if not torch.allclose(got, expected, rtol=1e-3, atol=1e-3):
            worst = float((got - expected).abs().max())
            raise UserError(f"the exported model differs from the trained one by {worst:.2g}")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _save(script: torch.jit.ScriptModule, path: Path) -> None:
    # torch's writer ends the process where the disk fills up, so the room is asked for before.
    tensors = [*script.parameters(), *script.buffers()]
    needed = sum(each.numel() * each.element_size() for each in tensors) + 2**20
    if shutil.disk_usage(path.parent).free < needed:
        raise UserError(f"{path} could not be written: free {needed / 2**20:,.0f} MiB there")
    try:
        script.save(str(path))
    except (RuntimeError, OSError) as error:  # torch's writer raises RuntimeError on a full disk
        raise UserError(f"{path} could not be written: free disk space there") from error


def load(path: Path, device: str = "cpu") -> torch.jit.ScriptModule:
    """An exported model in evaluation mode on `device`.

    Raises:
        UserError: no such file, or no TorchScript archive (a pickled module is not loaded: it
            could run any code).
    """
    if not path.is_file():
        raise UserError(f"no exported model {path}: run `python -m submission train` first")
    try:
        with _torchscript():
            module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location=device)
    except RuntimeError as error:
        raise UserError(
            f"{path} is no TorchScript file: export it with `python -m submission train`"
        ) from error
    return module.eval()


@contextmanager
def _torchscript() -> Iterator[None]:
    """TorchScript is what the challenge's scorer loads; that torch would rather see another format
    is no news to the user."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        yield
