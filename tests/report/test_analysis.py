"""Traversals, against a plain search."""

import numpy as np
import pytest

from submission.latents.vae import carries_anything
from submission.report.analysis import QUANTILES, traverse


def test_traverse_finds_the_nearest_as_a_plain_search_does() -> None:
    rng = np.random.default_rng(0)
    codes = (rng.normal(size=(9000, 4)) * [1, 5, 0.001, 2] + 3).astype(np.float32)
    active = carries_anything(codes)
    assert active.tolist() == [True, True, False, True]
    rows, far = traverse(codes, active, 8500)
    for line, latent in enumerate([0, 1, 3]):
        for column, quantile in enumerate(QUANTILES):
            target = codes[8500].astype(float)
            target[latent] = np.quantile(codes[:, latent], quantile)
            apart = ((codes - target) / codes.std(axis=0))[:, active]
            distance = np.sqrt((apart**2).sum(axis=1))
            assert rows[line, column] == distance.argmin()
            assert far[line, column] == pytest.approx(distance.min(), rel=1e-4)
