"""Latents that the others explain: what several factors decide at once, no factor of its own."""

import numpy as np
import numpy.typing as npt

# A latent is predicted from the others in half of so many images, by a forest fitted on the rest.
# The others get noise of this deviation: what shows only in finer differences is not counted.
EXPLAINED_ON, _BLUR = 10_000, 0.05
_TREES, _LEAF = 50, 5


def explained_by_others(
    z: npt.NDArray[np.float32], redundant: float
) -> tuple[list[float], list[int]]:
    """Leaves out the latent that the others explain best, until they explain less than `redundant`.

    Args:
        z: (n, C), each of variance 1, the rows in no order.

    Returns:
        Of each latent, the share of its variance that the others explain (when it was left out, or
        at the end), and the latents that are left.
    """
    # Imported here: 60 MiB that a run of another configuration does without.
    from sklearn.ensemble import ExtraTreesRegressor

    blurred = z + _BLUR * np.random.default_rng(0).normal(size=z.shape)
    explained, left = [0.0] * z.shape[1], list(range(z.shape[1]))
    while len(left) > 1:
        for own in left:
            others = [other for other in left if other != own]
            forest = ExtraTreesRegressor(_TREES, min_samples_leaf=_LEAF, random_state=0)
            forest.fit(blurred[::2, others], z[::2, own])
            asked = z[1::2, own]
            error = np.mean((forest.predict(blurred[1::2, others]) - asked) ** 2)
            # A constant counts as explained.
            explained[own] = float(1 - error / max(asked.var(), 1e-12))
        worst = max(left, key=explained.__getitem__)
        if explained[worst] < redundant or len(left) == 2:  # the metrics compare two
            break
        left.remove(worst)
    return explained, left
