"""Models of the user's: what is opened, and what is not."""

import base64
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from submission.latents.codes import call_model
from submission.latents.models import open_model
from submission.runtime.errors import UserError

IMAGES = torch.rand(5, 3, 64, 64)
# Written by torch.onnx.export (torch 2.14.1) of `images.mean(dim=(2, 3)) * 2`, with a free number
# of images; notes on the source lines were taken out.
ONNX = base64.b64decode(
    "CAoSB3B5dG9yY2gaDDIuMTQuMStjdTEzMDq1AgpXCgF4CgV2YWxfMhIEbWVhbhoJbm9kZV9tZWFuIgpSZWR1Y2VNZWFu"
    "KhsKFG5vb3Bfd2l0aF9lbXB0eV9heGVzGACgAQIqDwoIa2VlcGRpbXMYAKABAjIACicKBG1lYW4KBXZhbF8zEgVtdWxf"
    "MhoKbm9kZV9tdWxfMiIDTXVsMgASCm1haW5fZ3JhcGgqHQgCEAdCBXZhbF8yShACAAAAAAAAAAMAAAAAAAAAKg8QAUIF"
    "dmFsXzNKBAAAAEBaHAoBeBIXChUIARIRCgMSAW4KAggDCgIIQAoCCEBiGAoFbXVsXzISDwoNCAESCQoDEgFuCgIIA2oT"
    "CgV2YWxfMhIKCggIBxIECgIIAmoPCgV2YWxfMxIGCgQIARIAahcKBG1lYW4SDwoNCAESCQoDEgFuCgIIA0IECgAQFA=="
)


class Means(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3)) * 2


def exported_program(path: Path) -> None:
    torch.export.save(torch.export.export(Means(), (IMAGES,)), path)


def test_torchscript_is_opened(tmp_path: Path) -> None:
    torch.jit.script(Means()).save(str(tmp_path / "m.pt"))
    codes = call_model(open_model(tmp_path / "m.pt"), IMAGES)
    torch.testing.assert_close(torch.from_numpy(codes), Means()(IMAGES))


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.slow
def test_torch_exports_reader_runs_what_is_in_the_file_and_is_not_used(tmp_path: Path) -> None:
    good, evil, owned = (tmp_path / name for name in ("good.pt2", "evil.zip", "owned"))
    exported_program(good)
    payload = io.BytesIO()
    torch.save(Touch(owned), payload)
    with zipfile.ZipFile(good) as whole, zipfile.ZipFile(evil, "w") as changed:
        for name in whole.namelist():
            swapped = payload.getvalue() if "sample_inputs" in name else whole.read(name)
            changed.writestr(name, swapped)
    for path in (good, evil):
        with pytest.raises(UserError, match="can run any code") as caught:
            open_model(path)
    assert not owned.exists()
    # If this fails, torch has a reader that may be used.
    with pytest.raises(Exception):  # noqa: B017, PT011 - of whatever the payload is not
        torch.export.load(str(evil))
    assert owned.exists()
    # What the sentence tells to do.
    assert "torch.jit.trace(torch.export.load(FILE).module(), images).save(OTHER)" in str(
        caught.value
    )
    torch.jit.trace(torch.export.load(good).module(), IMAGES).save(str(tmp_path / "other.pt"))
    codes = call_model(open_model(tmp_path / "other.pt"), IMAGES)
    torch.testing.assert_close(torch.from_numpy(codes), Means()(IMAGES))


def test_onnx_without_its_package_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_bytes(ONNX)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install -r requirements-onnx\.lock"):
        open_model(tmp_path / "m.onnx")
    with pytest.raises(UserError, match="no exported model"):
        open_model(tmp_path / "none.onnx")


@pytest.mark.slow
def test_onnx_is_run(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "m.onnx").write_bytes(ONNX)
    model = open_model(tmp_path / "m.onnx")
    torch.testing.assert_close(torch.from_numpy(call_model(model, IMAGES)), Means()(IMAGES))
    torch.testing.assert_close(torch.from_numpy(call_model(model, IMAGES[:2])), Means()(IMAGES[:2]))
    with pytest.raises(UserError, match="does not take images"):
        call_model(model, IMAGES[:, :2])
    (tmp_path / "bad.onnx").write_bytes(ONNX[:200])
    with pytest.raises(UserError, match="no ONNX file that can be run"):
        open_model(tmp_path / "bad.onnx")
