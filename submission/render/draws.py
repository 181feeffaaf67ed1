"""Random numbers of single images, the same in any batch of any process."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from submission.render.camera import splitmix64

Numbers = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating[Any]]
_mix = splitmix64.py_func  # over whole arrays; neighbouring numbers become unrelated ones


class Draws:
    """Random numbers of single images: each follows from (seed, image number, place of the call),
    so that an image is the same in any batch of any process."""

    def __init__(self, seed: int, numbers: Numbers) -> None:
        start = _mix(np.array([seed], np.uint64))
        self.keys = _mix(numbers.astype(np.uint64) ^ start)
        self.calls = 0

    def uniform(self, *shape: int) -> FloatArray:
        """(n, *shape), uniform in (0, 1)."""
        count = int(np.prod(shape, dtype=np.int64))
        places = np.arange(self.calls, self.calls + count, dtype=np.uint64)
        self.calls += count
        bits = _mix(self.keys[:, None] + places * np.uint64(0x9E3779B97F4A7C15))
        # 52 bits, in the middle of their interval: neither 0 nor 1 occurs.
        return (((bits >> np.uint64(12)) + 0.5) * 2.0**-52).reshape(len(self.keys), *shape)

    def normal(self, *shape: int) -> FloatArray:
        return np.asarray(ndtri(self.uniform(*shape)))

    def below(self, size: int) -> Numbers:
        return (self.uniform() * size).astype(np.int64)
