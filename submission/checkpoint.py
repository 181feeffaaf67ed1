"""Checkpoints: whole or not there, never pickles, and never continued by another run."""

import os
from pathlib import Path
from typing import Any

import torch

from submission.errors import UserError


def save_checkpoint(path: Path, fingerprint: str, state: dict[str, Any]) -> None:
    """Writes tensors and plain values beside `path` and renames.

    Args:
        fingerprint: what the run is made of (configuration, data, weights).
    """
    beside = path.with_suffix(".tmp")
    torch.save(state | {"fingerprint": fingerprint}, beside)
    os.replace(beside, path)


def load_checkpoint(path: Path, fingerprint: str, device: torch.device) -> dict[str, Any] | None:
    """What was saved, on `device`; None if there is no checkpoint.

    Raises:
        UserError: damaged, or made by a run of another fingerprint: it may be days of work, so it
            is neither continued nor overwritten.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises whatever the damaged archive leads to
        raise UserError(
            f"{path} is damaged and cannot be continued from: delete it to start again"
        ) from error
    if state.get("fingerprint") != fingerprint:
        raise UserError(
            f"{path} is of another configuration, start, data or number of processes: repeat that "
            "run's command to continue it, delete it, or choose another folder (--name, --out)"
        )
    return state
