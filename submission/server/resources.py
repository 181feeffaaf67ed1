"""Memory and hours that a submission would take, from a few batches."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import gin
import numpy as np
import torch

from submission.data.dataset import find_file, open_file
from submission.data.factors import SIZES_BY_COUNT
from submission.data.own import open_own
from submission.features import extraction, extractor, weights
from submission.latents.choice import largest
from submission.latents.groups import train_groups
from submission.latents.readout import read_out
from submission.latents.training import train_vae
from submission.pipeline.configuration import load_training
from submission.pipeline.memory_plan import plan
from submission.runtime import paths
from submission.runtime.config import asks_for
from submission.runtime.device import pick_device
from submission.runtime.errors import UserError
from submission.runtime.limits import Limit, mib
from submission.server.preflight import Check


def resource_checks(
    config: Path,
    bindings: Sequence[str],
    data: Path | None,
    name: str | None,
    limit: Limit,
    max_hours: float,
) -> Iterator[Check]:
    """Whether memory and time suffice for a configuration on a data set (`data`: its folder; if
    none is given the data set may be missing: its official size is taken).

    Raises UserError if the configuration is wrong, or the folder does not hold the data set.
    """
    load_training(config, bindings)
    device = pick_device("auto")
    known, file = find_file(data or paths.data_folder(), name or paths.dataset_name())
    if file:
        count = open_file(file, known).num_images
        what = f"{known}, {count:,} images"
    elif data:
        raise UserError(f"no file of {known} in {data}: place it there, or leave out --data")
    else:
        count = (min if known == "mpi3d_real_complex" else max)(SIZES_BY_COUNT)
        what = f"{known} at its official {count:,} images"
    what += f", {config.name}"
    try:
        planned = plan(count, limit, device)
        expected = f"{mib(planned.peak)} of {mib(limit.bytes)} expected ({what})"
        yield Check("memory", True, expected)
    except UserError as error:
        yield Check("memory", False, *str(error).rsplit(": ", 1))
    try:
        hours = _hours(count, device)
    except UserError as error:  # weights that cannot be read
        yield Check("time", False, f"not measured ({error})", "mend that first")
        return
    measured = f"expected on this machine's {device.type}, extrapolated from a few batches"
    detail = f"{hours:,.1f} of {max_hours:g} hours {measured} ({what})"
    remedy = "" if hours <= max_hours else "a GPU, fewer train_vae.epochs, or another --config"
    yield Check("time", hours <= max_hours, detail, remedy)


def _hours(count: int, device: torch.device) -> float:
    """Hours of features and VAE for `count` images, from a few batches through the real code."""
    batch = gin.query_parameter("extract_features.batch_size")
    network = weights.load_extractor(weights.SHIPPED_WEIGHTS)
    with tempfile.TemporaryDirectory(prefix="submission-check-") as name:
        folder = Path(name)
        images = np.random.default_rng(0).integers(0, 256, (3 * batch, 64, 64, 3), dtype=np.uint8)
        seconds = []
        for number in (1, 3):  # the difference leaves out what is done once
            path = folder / f"{number}.npz"
            np.savez(path, images=images[: number * batch])
            dataset = open_own(path)
            started = time.monotonic()
            features = path.with_suffix(".npy")
            extraction.extract_features(dataset, network, features, device, progress=False)
            seconds.append(time.monotonic() - started)
        per_image = max(seconds[1] - seconds[0], 0) / (2 * batch)
        if asks_for(read_out):  # seconds, beside the features' minutes or hours
            return per_image * count / 3600
        rows = gin.query_parameter("train_vae.batch_size")
        spread = torch.rand(5 * rows, extractor.FEATURE_SIZE, device=device)
        train_vae(spread, folder, "measured", epochs=1, progress=False)
        step = float((folder / "losses.csv").read_text().rpartition(",")[2]) / 5
    steps = gin.query_parameter("train_vae.epochs") * count / rows
    if asks_for(train_groups):  # at most one VAE each, and with fewer than 512 inputs
        asked = (gin.query_parameter(f"train_groups.{name}") for name in ("components", "groups"))
        steps *= largest(*asked)[1]
        steps *= gin.query_parameter("train_groups.starts")
    return (per_image * count + step * steps) / 3600
