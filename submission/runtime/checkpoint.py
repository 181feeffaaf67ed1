"""Checkpoints: whole or not there, never pickles, and never continued by another run."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from submission.runtime.errors import UserError
from submission.runtime.files import replacing


def save_checkpoint(path: Path, fingerprint: str, state: dict[str, Any]) -> None:
    """Writes tensors and plain values; `path` is the old or the new checkpoint at any moment.
    `fingerprint` says what the run is made of (configuration, data, weights). Raises UserError if
    it cannot be written, as on a full disk."""
    try:
        with replacing(path) as file:
            torch.save(state | {"fingerprint": fingerprint}, file)
            file.flush()
            # Else a power cut can leave the new name with nothing in it.
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        # torch's writer answers a full disk with a RuntimeError of its own.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        what = f"{path} could not be written ({cause.strerror}): free disk space or give access"
        raise UserError(f"{what} there; what was saved before is kept") from error


def load_checkpoint(path: Path, fingerprint: str, device: torch.device) -> dict[str, Any] | None:
    """What was saved, on `device`; None if there is no checkpoint. Raises UserError if it is
    damaged, or made by a run of another fingerprint: it may be days of work, so it is neither
    continued nor overwritten."""
    if not path.exists():
        return None
    state = _read(path, device)
    if state.get("fingerprint") != fingerprint:
        raise UserError(_foreign(path))
    return state


def check_checkpoints(folder: Path, fingerprint: str) -> None:
    """Refuses a folder with a foreign or damaged checkpoint, as load_checkpoint does, before hours
    of other work. The checkpoints' own begin with `fingerprint`; groups and seeds add their
    number."""
    for path in sorted(folder.rglob("checkpoint.pt")):
        if not str(_read(path, torch.device("cpu")).get("fingerprint")).startswith(fingerprint):
            raise UserError(_foreign(path))


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        # torch does not compare the archive's checksums; a flipped bit would be trained on.
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():
                raise ValueError("wrong checksum")
        state = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, dict):
            raise TypeError("no dictionary")
        return state
    except PermissionError:
        raise
    except Exception as error:  # both readers raise whatever the damaged archive leads to
        what = f"{path} is damaged and cannot be continued from"
        raise UserError(f"{what}: delete it to start again") from error


@contextmanager
def continuing(path: Path) -> Iterator[None]:
    """Wraps the loading of a checkpoint's state into networks and optimizers. Raises UserError if
    they have other tensors, as those of another version of this code."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        what = f"{path} was written by another version of this code: continue with that one"
        raise UserError(f"{what}, or delete it to start again") from error


def _foreign(path: Path) -> str:
    return (
        f"{path} is of another configuration, weights, data, number of seeds or of processes: "
        "repeat that run's command to continue it, delete it, or choose another folder (--name, "
        "--out)"
    )
