"""Codes: an exported model's latent means of all images, kept in the cache."""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from submission.data.dataset import Dataset
from submission.data.subset import Images, Subset
from submission.features.extraction import to_float
from submission.latents.models import open_model
from submission.runtime import paths
from submission.runtime.errors import UserError
from submission.runtime.files import kept_if_possible, replacing, sha256
from submission.runtime.progress import progress_bar

log = logging.getLogger(__name__)
NOT_COMPUTED = 1e30
BATCH_SIZE = 64  # the larger of the two that the challenge's scorer uses


def codes_of(model: Path, dataset: Dataset, data_md5: str, device: torch.device) -> np.ndarray:
    """The latent codes of all images, float32 (num_images, C), in data-set order: computed once per
    exported file and data set (`data_md5` from verify()) and kept in the cache; training leaves its
    own there (`keep_codes`). Raises UserError for no model, or codes that are not finite or not
    (num_images, C)."""
    cached = cached_codes(model, data_md5)
    if (kept := kept_codes(cached, dataset.num_images)) is not None:
        log.info("codes from the cache: %s", cached)
        return kept
    codes = _computed(model, dataset, device)
    keep_codes(codes, cached)
    return codes


def codes_of_rows(
    model: Path, dataset: Dataset, rows: NDArray[np.int64], device: torch.device
) -> np.ndarray:
    """Codes (num_images, C) of which these rows, ascending, are computed, and no image besides is
    read. The others are a number that no metric could take for a code. Not kept in the cache."""
    some = _computed(model, Subset(dataset, rows), device)
    codes = np.full((dataset.num_images, some.shape[1]), NOT_COMPUTED, np.float32)
    codes[rows] = some
    return codes


def _computed(model: Path, dataset: Images, device: torch.device) -> np.ndarray:
    module = open_model(model, device)
    parts: list[np.ndarray] = []
    with progress_bar(total=dataset.num_images, desc="codes", unit=" images") as bar:
        for images in dataset.batches(BATCH_SIZE):
            parts.append(call_model(module, to_float(images, device), str(model)))
            first, last = parts[0].shape[1], parts[-1].shape[1]
            if first != last:
                what = f"{model} answers with {first} and then with {last} latents"
                raise UserError(f"{what}: export it again")
            bar.update(len(images))
    return np.concatenate(parts)


class BadAnswer(UserError):
    """What an exported model answers cannot be codes; `kind` is "wrong shape" or "NaN"."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def call_model(
    module: Callable[[Tensor], Any], images: Tensor, name: str = "the exported model"
) -> np.ndarray:
    """An exported model's codes of float images (N, C, H, W): float32 (N, C) on the CPU. Raises
    BadAnswer if it does not take them, or answers something else or values that are not finite."""
    kind = "wrong shape"
    try:
        with torch.inference_mode():
            codes = module(images)
    except (RuntimeError, torch.jit.Error) as error:  # the latter is what a model itself raises
        what = f"{name} does not take images {tuple(images.shape)}"
        raise BadAnswer(kind, f"{what}: export it again") from error
    if not isinstance(codes, Tensor):
        what = type(codes).__name__
    elif codes.layout != torch.strided or codes.is_meta or codes.is_quantized:
        what = "a Tensor that is no plain array (sparse, quantized or without values)"
    elif codes.ndim != 2 or len(codes) != len(images) or codes.shape[1] == 0:
        what = str(tuple(codes.shape))
    elif not codes.is_floating_point():
        what = str(codes.dtype)
    elif not bool(torch.isfinite(codes := codes.float()).all()):
        kind, what = "NaN", "NaN or infinity"
    else:
        return np.asarray(codes.detach().cpu().numpy())
    must = f"it must be finite numbers ({len(images)}, C): train or export it again"
    raise BadAnswer(kind, f"{name} answers {what} on {len(images)} images, {must}")


def kept_codes(cached: Path, num_images: int) -> np.ndarray | None:
    """Codes from the cache; None if there are none or the file is damaged."""
    with contextlib.suppress(OSError, ValueError, EOFError):
        codes = np.load(cached, allow_pickle=False)
        if codes.dtype == np.float32 and codes.ndim == 2 and len(codes) == num_images:
            return np.asarray(codes)
    return None


def cached_codes(model: Path, data_md5: str) -> Path:
    """Where the cache keeps the codes of one exported file on one data file."""
    if not model.is_file():
        raise UserError(f"no exported model {model}: run `python -m submission train` first")
    return paths.cache_folder() / "codes" / f"{sha256(model)[:16]}-{data_md5[:16]}.npy"


def keep_codes(codes: np.ndarray, cached: Path) -> None:
    """Writes codes to their place in the cache."""
    with kept_if_possible("codes"):
        cached.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cached) as file:
            np.save(file, codes, allow_pickle=False)


def write_codes(codes: np.ndarray, dataset: Dataset, path: Path) -> None:
    """Writes an npz file: `codes`; `factor_sizes` if the images are a whole grid, or `factors` if
    they are known for each image, and `factor_names`; `stand_in`, what a rendered file says of
    itself."""
    arrays = {"codes": codes}
    if dataset.labels is not None or dataset.observed is not None:
        factors = dataset.factors(np.arange(dataset.num_images))
        seen = range(factors.shape[1]) if dataset.observed is None else dataset.observed
        arrays["factors"] = factors[:, list(seen)]
        arrays["factor_names"] = np.array(dataset.observed_names)
    elif dataset.factor_sizes:
        arrays["factor_sizes"] = np.array(dataset.factor_sizes)
        arrays["factor_names"] = np.array(dataset.factor_names)
    if dataset.stand_in:
        arrays["stand_in"] = np.array(dataset.stand_in)
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)
