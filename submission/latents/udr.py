"""Unsupervised Disentanglement Ranking (Duan et al., arXiv 1905.12614): which of several trained
models disentangles best, judged without labels.

Disentangled models are alike up to the order and the signs of their latents; entangled ones differ
from each other. So a model is judged by how well its latents agree with those of the others.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Means = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


def similarity(first: Means, second: Means) -> Floats:
    """Absolute Spearman correlations R (C1, C2) in 0..1 of the latents of two models, from their
    means (n, C1) and (n, C2) on the same images; 0 where a latent is constant."""
    # Imported here for its 35 MiB, which a run of one seed does without. SciPy's spearmanr would
    # also correlate latents of one model, and give NaN and a warning for a constant one.
    from scipy.stats import rankdata

    ranks = [rankdata(codes, axis=0) for codes in (first, second)]
    ranks = [r - r.mean(axis=0) for r in ranks]
    norms = [np.sqrt((r**2).sum(axis=0)) for r in ranks]
    product = np.abs(ranks[0].T @ ranks[1])
    scale = np.outer(*norms)
    return np.divide(product, scale, out=np.zeros_like(product), where=scale > 0)


def agreement(r: Floats, informative_a: Flags, informative_b: Flags) -> float:
    """The paper's equation for UDR_ij, of two models with similarities R:

        1/(d_a + d_b) (sum_b r_b^2 I(b) / sum_a R(a, b) + sum_a r_a^2 I(a) / sum_b R(a, b))

    with r_b = max_a R(a, b), r_a = max_b R(a, b), I whether a latent is informative and d how many
    are. As in the authors' code the sums are over informative latents alone (theirs then averages
    the two sums' means, which is another number where d_a and d_b differ). It is 1 if each latent
    of one model resembles exactly one of the other, and 0 if a model has no informative latent.
    """
    r = r[informative_a][:, informative_b]
    if r.size == 0:
        return 0.0
    total = 0.0
    for sums, best in ((r.sum(axis=0), r.max(axis=0)), (r.sum(axis=1), r.max(axis=1))):
        total += float(np.divide(best**2, sums, out=np.zeros_like(sums), where=sums > 0).sum())
    return total / sum(r.shape)


def ranking(codes: Sequence[Means], informative: Sequence[Flags]) -> Floats:
    """Pairwise UDR (models, models), symmetric, NaN on the diagonal, of at least two models: their
    means (n, C) on the same images, and which of the latents are informative, bool (C,)."""
    count = len(codes)
    pairs = np.full((count, count), np.nan)
    for i in range(count):
        for j in range(i):
            r = similarity(codes[i], codes[j])
            pairs[i, j] = pairs[j, i] = agreement(r, informative[i], informative[j])
    return pairs


def scores(pairs: Floats) -> Floats:
    """Each model's UDR: the median over the other models."""
    return np.nanmedian(pairs, axis=1)


def confidence(pairs: Floats, seed: int = 0, draws: int = 1000) -> float:
    """Share of bootstrap draws in which the best model stays the best: the models that each one is
    compared with are drawn with replacement. The best was picked on these very agreements, so this
    is far above 1/models also for models that differ only by chance: see by_chance."""
    count = len(pairs)
    best = int(np.argmax(scores(pairs)))
    drawn = np.random.default_rng(seed).integers(count, size=(draws, count))
    with warnings.catch_warnings():
        # There is no median if a model is compared with nothing but itself.
        warnings.simplefilter("ignore", RuntimeWarning)
        medians = np.nanmedian(pairs[:, drawn], axis=2)  # (count, draws)
    leading = medians == np.nanmax(medians, axis=0)
    return float((leading[best] / leading.sum(axis=0)).mean())


def by_chance(pairs: Floats, seed: int = 0, draws: int = 100) -> list[float]:
    """The confidences under the null hypothesis that no model is better than another: the same
    agreements, permuted over the pairs of models."""
    generator = np.random.default_rng(seed)
    above = np.triu_indices(len(pairs), 1)
    found = []
    for _ in range(draws):
        permuted = np.full_like(pairs, np.nan)
        permuted[above] = generator.permutation(pairs[above])
        permuted.T[above] = permuted[above]
        found.append(confidence(permuted, seed, draws=200))
    return found
