"""Models of the user's, as functions from images to codes: TorchScript and ONNX files."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from submission.latents.export import load
from submission.runtime.errors import UserError, first_line

CPU = torch.device("cpu")


def open_model(path: Path, device: torch.device = CPU) -> Callable[[Tensor], Any]:
    """A function from float images (N, 3, H, W) in [0, 1] to codes, of a TorchScript file, or of an
    ONNX file (`.onnx`), which runs on the CPU. Raises UserError for no such file, another format,
    and one that may not be opened: reading what torch.export.save has written runs any code that
    was put into it (its reader falls back to unpickling, and evaluates the shapes' expressions)."""
    if path.is_file() and path.suffix == ".onnx":
        return _onnx(path)
    if path.is_file() and _is_exported_program(path):
        what = f"{path} is of torch.export, and opening such a file can run any code that is in it"
        how = "torch.jit.trace(torch.export.load(FILE).module(), images).save(OTHER)"
        raise UserError(f"{what}: if you trust it, convert it with {how}")
    return load(path, str(device))


def _is_exported_program(path: Path) -> bool:
    """Whether this is an archive of the form "pt2", or by its name meant to be one."""
    if path.suffix == ".pt2":
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.rpartition("/")[2] for name in archive.namelist()]
    except Exception:  # not an archive, or a damaged one: TorchScript's reader says so
        return False
    return "archive_format" in names


def _onnx(path: Path) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
    except ImportError as error:
        how = "install it with `pip install -r requirements-onnx.lock`"
        raise UserError(f"{path} needs the package onnxruntime: {how}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what is wrong is said below, once
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # a class of its own for each of its error codes
        raise UserError(f"{path} is no ONNX file that can be run: export it again") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        what = f"{path} has {len(inputs)} inputs and {len(outputs)} outputs"
        raise UserError(f"{what}, it must have one of each: images and codes; export it again")

    def call(images: Tensor) -> Tensor:
        array = np.ascontiguousarray(images.cpu().numpy())
        try:
            (codes,) = session.run(None, {inputs[0].name: array})
            return torch.from_numpy(np.array(codes))
        except Exception as error:  # as above; and texts, which are no tensor
            raise RuntimeError(first_line(error)) from error

    return call
