"""The exported file, called as the challenge's scorer does, and by those who load it elsewhere."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from submission.features.extractor import Extractor
from submission.features.weights import SHIPPED_WEIGHTS, load_extractor
from submission.latents.codes import call_model
from submission.latents.columns import Columns
from submission.latents.export import Network, export, load
from submission.latents.vae import Encoder
from submission.pipeline.configuration import load_training
from submission.runtime.errors import UserError

# By torch's version: Python's argument list is the files (model, images, where the codes go).
CALL = """
import sys, torch
torch.set_num_threads(1)
model, x = torch.jit.load(sys.argv[1], map_location="cpu"), torch.load(sys.argv[2])
sizes = [int(size) for size in sys.argv[4].split(",")]
with torch.no_grad():
    torch.save([model(x[:size]) for size in sizes], sys.argv[3])
for wrong in (x[:2] * 255, x[:2] - 0.5, (x[:2] * 255).byte(), x[:2, :, :32], x[:2].transpose(1, 3)):
    try:
        model(wrong)
    except torch.jit.Error as error:
        assert "images " in str(error) and ", not " in str(error), error
    else:
        raise AssertionError("taken: %s" % (wrong.shape,))
assert "submission" not in sys.modules
print(torch.__version__)
"""


def call(
    python: list[str], model: Path, images: torch.Tensor, sizes: list[int], **variables: str
) -> tuple[str, list[torch.Tensor]]:
    """Called in another process: torch's version there, and the codes of the first `size` images,
    in one batch, for each of `sizes`."""
    torch.save(images, model.with_suffix(".in"))
    out = model.with_suffix(".out")
    arguments = [str(model), str(model.with_suffix(".in")), str(out), ",".join(map(str, sizes))]
    done = subprocess.run(
        [*python, "-c", CALL, *arguments],
        cwd=model.parent,
        capture_output=True,
        text=True,
        env=os.environ | variables,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), torch.load(out, weights_only=True)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def batch(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def parts() -> tuple[Extractor, torch.nn.Module]:
    load_training(Path("public.gin"), ["Encoder.widths=(32,)"])
    encoder = Encoder(512, 5)
    return load_extractor(SHIPPED_WEIGHTS), torch.nn.Sequential(encoder.hidden, encoder.mean).eval()


@pytest.fixture(scope="module")
def exported(
    parts: tuple[Extractor, torch.nn.Module],
    images: np.ndarray,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("run") / "representation" / "pytorch_model.pt"
    export(*parts, images, path)
    assert [p.name for p in path.parent.iterdir()] == ["pytorch_model.pt"]
    return path


def test_exported_file_stands_alone(
    exported: Path, parts: tuple[Extractor, torch.nn.Module], batch: torch.Tensor
) -> None:
    """Called as the scorer does, from a process that knows nothing of this project."""
    _, (whole, single) = call([sys.executable], exported, batch, [12, 1])
    with torch.inference_mode():
        expected = parts[1](parts[0](batch))
    torch.testing.assert_close(whole, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(single, expected[:1], rtol=1e-3, atol=1e-4)


WRONG: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "0 to 255": (lambda x: x * 255, r"images lie between 0\. and 255\., not in 0..1"),
    "-1 to 1": (lambda x: 2 * x - 1, "not in 0..1"),
    "NaN": (lambda x: x / 0 * 0, "not in 0..1"),
    "bytes": (lambda x: (x * 255).byte(), "whole numbers, .*divide by 255"),
    "channels last": (lambda x: x.movedim(1, 3), r"shape \[2, 64, 64, 3\], not .N, 3, 64, 64"),
    "another size": (lambda x: x[:, :, ::2, ::2], r"shape \[2, 3, 32, 32\]"),
    "larger": (lambda x: x.repeat(1, 1, 2, 2), r"shape \[2, 3, 128, 128\]"),
    "grey": (lambda x: x[:, :1], r"shape \[2, 1, 64, 64\]"),
    "one image": (lambda x: x[0], r"shape \[3, 64, 64\]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_images_are_refused_in_words(exported: Path, batch: torch.Tensor, case: str) -> None:
    spoil, said = WRONG[case]
    with pytest.raises(torch.jit.Error, match=said):
        load(exported)(spoil(batch[:2]))


def test_images_at_the_edge_are_taken(exported: Path, batch: torch.Tensor) -> None:
    """Black ones, white ones, none, and 1.0000001 for 1."""
    model = load(exported)
    black_and_white = torch.stack([torch.zeros(3, 64, 64), torch.full((3, 64, 64), 1 + 2e-7)])
    codes = call_model(model, black_and_white)
    assert codes.shape == (2, 5)
    assert model(batch[:0]).shape == (0, 5)


def test_no_device_and_no_batch_size_is_in_the_file(exported: Path, batch: torch.Tensor) -> None:
    """Moved to another type, all of it moves: a constant in the code would stay what it was, as it
    would stay on the device that it was traced on."""
    model = load(exported)
    graph = str(model.inlined_graph)
    assert "Device = prim::Constant" not in graph
    assert "Tensor = prim::Constant" not in graph
    with torch.inference_mode():
        expected = model(batch[:2])
        codes = model.double()(batch[:2].double())
    assert codes.dtype == torch.float64
    torch.testing.assert_close(codes.float(), expected, rtol=1e-3, atol=1e-4)


def test_only_torchscript_is_loaded(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "pickled.pt")
    with pytest.raises(UserError, match="no TorchScript file"):
        load(tmp_path / "pickled.pt")
    with pytest.raises(UserError, match="no exported model"):
        load(tmp_path / "none.pt")


@pytest.mark.slow
def test_files_exported_before_stay_readable(
    exported: Path, parts: tuple[Extractor, torch.nn.Module], batch: torch.Tensor, tmp_path: Path
) -> None:
    """They were scripted whole; the codes are the same to the last bit."""
    torch.jit.script(Network(*parts)).save(str(tmp_path / "before.pt"))
    before = call_model(load(tmp_path / "before.pt"), batch)
    np.testing.assert_array_equal(call_model(load(exported), batch), before)


@pytest.fixture(scope="module")
def old_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Folders of packages with an old torch each, as variables of a process of this Python."""
    root = tmp_path_factory.mktemp("packages")

    def install(name: str, *what: str) -> Path:
        pip = [sys.executable, "-m", "pip", "install", "--target", str(root / name), *what]
        options = ["--no-compile", "--no-cache-dir", "--only-binary=:all:", "--quiet"]
        done = subprocess.run([*pip, *options], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"{' '.join(what)} cannot be had: {done.stderr.strip()[-200:]}")
        return root / name

    # The CUDA libraries, without which these wheels cannot be imported, are the same for both.
    newer = install("newer", "torch==2.0.1")
    older = install("older", "--no-deps", "torch==1.13.1")
    libraries = ":".join(map(str, newer.glob("nvidia/*/lib")))
    return {
        "1.13.1": {"PYTHONPATH": f"{older}:{newer}", "LD_LIBRARY_PATH": libraries},
        "2.0.1": {"PYTHONPATH": str(newer), "LD_LIBRARY_PATH": libraries},
    }


@pytest.mark.slow
def test_old_torch_reads_the_file_and_gives_the_same_codes(
    old_torch: dict[str, dict[str, str]],
    exported: Path,
    parts: tuple[Extractor, torch.nn.Module],
    images: np.ndarray,
    tmp_path: Path,
) -> None:
    """torch 1.13 and 2.0, batches of 1 to 300; the smaller configurations' networks, too: stage
    1's, which resizes the images, and refined.gin's groups."""
    many = torch.rand(300, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    files = {exported: [1, 2, 16, 300]}
    load_training(Path("stage1.gin"), ["Extractor.resolution=160"])
    stage1, (linear, other) = Extractor().eval(), (torch.nn.Linear(512, 2) for _ in range(2))
    groups = Columns([torch.nn.Sequential(linear), torch.nn.Sequential(other)]).eval()
    for name, networks in (("stage1", (stage1, parts[1])), ("groups", (parts[0], groups))):
        export(*networks, images[:3], tmp_path / f"{name}.pt")
        files[tmp_path / f"{name}.pt"] = [3, 1]
    for file, sizes in files.items():
        x = many[: max(sizes)]
        expected = call_model(load(file), x)
        for version, variables in old_torch.items():
            python = [sys.executable, "-S"]  # without this environment's own packages
            told, codes = call(python, file, x, sizes, **variables)
            assert told.startswith(version)
            for size, one in zip(sizes, codes, strict=True):
                np.testing.assert_allclose(one, expected[:size], rtol=1e-4, atol=1e-5)
