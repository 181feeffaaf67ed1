"""The exported file, called as the challenge's scorer does."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from submission.features.weights import SHIPPED_WEIGHTS, load_extractor
from submission.latents.export import export, load
from submission.latents.vae import Encoder
from submission.pipeline.configuration import load_training
from submission.runtime.errors import UserError


def test_exported_file_stands_alone(tmp_path: Path) -> None:
    """Called as the scorer does, from a process that knows nothing of this project."""
    load_training(Path("public.gin"), ["Encoder.widths=(32,)"])
    shipped = load_extractor(SHIPPED_WEIGHTS)
    images = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    encoder = Encoder(512, 5).eval()
    path = tmp_path / "representation" / "pytorch_model.pt"
    export(shipped, torch.nn.Sequential(encoder.hidden, encoder.mean), images, path)
    assert [p.name for p in path.parent.iterdir()] == ["pytorch_model.pt"]
    np.save(tmp_path / "in.npy", batch.numpy())
    script = (
        "import sys, numpy, torch\n"
        "m = torch.jit.load(sys.argv[1])\n"
        "x = torch.from_numpy(numpy.load(sys.argv[2]))\n"
        "numpy.save(sys.argv[3], torch.cat([m(x[:5]), m(x[5:])]).detach().numpy())\n"
        "assert 'submission' not in sys.modules\n"
    )
    command: list[str | Path] = [
        sys.executable,
        "-c",
        script,
        path,
        tmp_path / "in.npy",
        tmp_path / "out.npy",
    ]
    subprocess.run(command, check=True, cwd=tmp_path)
    with torch.inference_mode():
        expected = encoder(shipped(batch))[0].numpy()
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-3, atol=1e-4)


def test_only_torchscript_is_loaded(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "pickled.pt")
    with pytest.raises(UserError, match="no TorchScript file"):
        load(tmp_path / "pickled.pt")
    with pytest.raises(UserError, match="no exported model"):
        load(tmp_path / "none.pt")
