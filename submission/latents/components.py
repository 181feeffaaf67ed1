"""Independent components of the features, and how much they depend on each other."""

import logging
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from submission.runtime.errors import UserError

# scikit-learn and SciPy are imported where they are used: 60 MiB that a run of any other
# configuration does without.

log = logging.getLogger(__name__)

# Of each component, in what two components tell of each other.
_BINS = 12
# FastICA's steps: more than it has needed so far (it says so in the log when they do not do).
_ICA_STEPS = 1000
# A direction of less variance, as a share of the largest, counts as none.
_FLAT = 1e-10


@dataclass(frozen=True)
class Principal:
    """Mean (D,) of x, x (n, D) less it, and its variances (D,) along the axes (D, D), its columns;
    the largest variance first."""

    centre: npt.NDArray[np.float64]
    centred: npt.NDArray[np.float64]
    variances: npt.NDArray[np.float64]
    axes: npt.NDArray[np.float64]

    @property
    def directions(self) -> int:
        """In how many directions x varies: as many components as there can be."""
        return int((self.variances > _FLAT * self.variances[0]).sum())


def principal(x: npt.NDArray[np.float32]) -> Principal:
    centre = x.mean(axis=0, dtype=np.float64)
    centred = x - centre
    variances, axes = np.linalg.eigh(centred.T @ centred / len(x))
    return Principal(centre, centred, variances[::-1], axes[:, ::-1])


def independent_components(
    of: Principal, components: int, seed: int, warn: bool = True
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Principal components of x (n, D), of unit variance, rotated to be independent (FastICA).

    Args:
        warn: say so in the log if FastICA has not converged.

    Returns U (K, D) and o (K,): the components are x U^T + o, of mean 0 and variance 1. Raises
    UserError if x varies in fewer directions than that.
    """
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    if components > of.directions:
        raise UserError(
            f"the features vary in fewer than {components} directions: lower "
            "train_groups.components, or name a larger data set"
        )
    whiten = (of.axes[:, :components] / np.sqrt(of.variances[:components])).T
    ica = FastICA(whiten=False, max_iter=_ICA_STEPS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ica.fit(of.centred @ whiten.T)
    if warn and ica.n_iter_ >= _ICA_STEPS:
        log.warning(
            f"FastICA had not converged after {_ICA_STEPS} steps: the components may not be the "
            "most independent ones; another train_vae.seed starts elsewhere"
        )
    unmix = ica.components_ @ whiten
    return unmix, -unmix @ of.centre


def dependence(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mutual information of each pair of columns of z (n, K), cut into bins of equal shares, over
    the log of the number of bins: (K, K), from 0, independent, to 1, the same."""
    quantiles = np.linspace(0, 1, _BINS + 1)[1:-1]
    binned = [np.searchsorted(np.quantile(column, quantiles), column) for column in z.T]
    result = np.eye(len(binned))
    for i, first in enumerate(binned):
        for j, second in enumerate(binned[:i]):
            joint = np.bincount(first * _BINS + second, minlength=_BINS**2) / len(z)
            joint = joint.reshape(_BINS, _BINS)
            apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
            seen = joint > 0
            information = (joint[seen] * np.log(joint[seen] / apart[seen])).sum()
            result[i, j] = result[j, i] = information / np.log(_BINS)
    return result


def dependent_groups(dependence: npt.NDArray[np.float64], groups: int) -> list[list[int]]:
    """Joins the two groups that depend most, on average over their pairs, until so many are left;
    the members of each, the groups in the order of their first members."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    tree = linkage(squareform(1 - dependence, checks=False), method="average")
    labels = fcluster(tree, groups, criterion="maxclust").tolist()
    return [[i for i, own in enumerate(labels) if own == label] for label in dict.fromkeys(labels)]
