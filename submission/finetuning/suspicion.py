"""A look at the images of an official file that is not the one known from 2019.

From 2024 to April 2025 the published mpi3d_real.npz held images with shifted pixels under a right
checksum: only reading them tells. The heads that the extractor was finetuned with name each
image's factors, and the image's place in the file says what they should be.
"""

import logging

import numpy as np
import torch

from submission.data.dataset import Dataset, md5_warning
from submission.features.weights import SHIPPED_WEIGHTS
from submission.render.rig import FACTOR_NAMES
from submission.runtime.errors import UserError

# The heads' code is imported where it is used: few files are looked at.

log = logging.getLogger(__name__)

_COUNT = 300
# A compressed file is read from its beginning: so far it shows every value of all but two factors.
_COMPRESSED_ROWS = 2 * 3 * 3 * 40 * 40
# Of the way from guessing a factor to naming it right on every image. On 140 published frames of
# the real rig the heads go .58 of it or more, for each of the five discrete factors; on renders
# whose pixels are shifted by 1 byte to 8 rows less than .1 for one at least.
_LEAST = 0.3


def look_at(dataset: Dataset, md5: str, device: torch.device, batch_size: int = 64) -> None:
    """Logs a warning if an official file has another md5 than in 2019, what the heads read in some
    of its images, and a warning if that is not what they should show. Refuses nothing: the heads
    have seen rendered images only."""
    warning = md5_warning(dataset, md5)
    if warning is None:
        return
    log.warning(warning)
    try:
        shares = _shares(dataset, device, batch_size)
    except (UserError, OSError) as error:
        log.warning("its images were not looked at: %s", error)
        return
    said = (f"{name.replace('_', ' ')} {right:.0%} ({guess:.0%})" for name, right, guess in shares)
    what = f"read right in {_COUNT} of its images (by guessing)"
    log.warning("%s: %s", what, ", ".join(said))
    if any(right - guess < _LEAST * (1 - guess) for _, right, guess in shares):
        log.warning(
            f"{dataset.path} does not show what it should: its images may be damaged, as those of "
            "mpi3d_real.npz on its host until April 2025 were, or be in another order; look at "
            "some, and download it again before hours of work rest on it"
        )


def _shares(
    dataset: Dataset, device: torch.device, batch_size: int
) -> list[tuple[str, float, float]]:
    """Each discrete factor that varies, the share of images in which it is read right, and the
    share that always naming its most frequent value would get."""
    from submission.finetuning.images import labels
    from submission.finetuning.probe import Reader
    from submission.finetuning.scores import scores
    from submission.finetuning.weights import SHIPPED_HEADS

    rows = dataset.num_images
    rows = rows if dataset.offset is not None else min(rows, _COMPRESSED_ROWS)
    drawn = np.sort(np.random.default_rng(0).choice(rows, min(_COUNT, rows), replace=False))
    true = labels(dataset, drawn)
    images = dataset.images_at(drawn)
    read = Reader(SHIPPED_WEIGHTS, SHIPPED_HEADS, device).read(images, batch_size)
    found = scores(read, true, range(len(FACTOR_NAMES)))
    rights = [(n, s["accuracy"], s["constant_guess"]) for n, s in found.items() if "accuracy" in s]
    return [one for one in rights if one[2] < 1]
