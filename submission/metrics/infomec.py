"""InfoMEC: modularity, explicitness and compactness in information, after Hsu, Dorrell,
Whittington, Wu and Finn, "Disentanglement via Latent Quantization" (2023, arXiv 2305.18378).

None of these numbers is the challenge's. All are in 0..1 but for errors of estimation.
"""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, mutual_info_score
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from submission.runtime.progress import progress_bar

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


def normalised_information(
    codes: NDArray[np.float32], factors: Whole, discrete: bool, neighbors: int
) -> Floats:
    """The mutual information of each factor and each latent over the factor's entropy.

    Args:
        codes: (N, C). factors: (N, F), each of at least two values.
        discrete: the latents are symbols, whose joint frequencies are counted; otherwise the
            information is estimated from the distances to `neighbors` nearest neighbours, the
            codes standardised before.

    Returns:
        (F, C) in nats over nats.
    """
    rows = []
    random = np.random.RandomState(0)  # breaks ties between equal codes
    scaled = StandardScaler().fit_transform(codes)
    for factor in progress_bar(iterable=factors.T, desc="InfoMEC", unit=" factors", delay=2):
        if discrete:
            row = np.array([mutual_info_score(factor, latent) for latent in codes.T])
        else:
            row = mutual_info_classif(
                scaled, factor, discrete_features=False, n_neighbors=neighbors, random_state=random
            )
        rows.append(row / mutual_info_score(factor, factor))
    return np.stack(rows)


def active_latents(
    codes: NDArray[np.float32], discrete: bool, active_range: float
) -> NDArray[np.bool_]:
    """Which latents (C,) are used: those whose range is above the share `active_range` of the
    widest latent's range; of discrete ones all that are not constant."""
    ranges = np.ptp(codes.astype(np.float64), axis=0)
    active: NDArray[np.bool_] = ranges > (0 if discrete else active_range * ranges.max())
    return active


def _mean_share(information: Floats) -> float:
    """The mean over the columns of (largest entry / sum), rescaled so that equal entries give 0 and
    a single one above zero gives 1. A column of zeros prefers nothing: it counts as equal ones."""
    largest, total, count = information.max(axis=0), information.sum(axis=0), len(information)
    share = np.divide(largest, total, out=np.full(len(total), 1 / count), where=total > 0)
    return float((share.mean() - 1 / count) / (1 - 1 / count))


def info_modularity(information: Floats) -> float:
    """InfoM of (F, C) for the active latents, F >= 2: does each latent tell of one factor only?"""
    return _mean_share(information)


def info_compactness(information: Floats) -> float:
    """InfoC of (F, C) for the active latents, C >= 2: is each factor told by one latent only?"""
    return _mean_share(information.T)


def info_explicitness(
    codes: NDArray[np.float32], factors: Whole, discrete: bool, iterations: int
) -> float:
    """InfoE: how much of each factor's entropy a linear probe removes, the mean over the factors.

    The probe is a multinomial logistic regression without penalty, its classes balanced, on all
    latents (N, C), standardised, or one-hot if `discrete`; its entropy is its mean log loss on the
    rows that it was fitted to. Without input a balanced probe gives each of K values the
    probability 1 / K: an entropy of ln K.
    """
    scale = OneHotEncoder() if discrete else StandardScaler()
    inputs, removed = scale.fit_transform(codes), []
    for factor in progress_bar(iterable=factors.T, desc="InfoE", unit=" factors", delay=2):
        probe = LogisticRegression(C=np.inf, class_weight="balanced", max_iter=iterations)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the authors' limit, too
            probe.fit(inputs, factor)
        before = np.log(len(probe.classes_))
        removed.append(1 - log_loss(factor, probe.predict_proba(inputs)) / before)
    return float(np.mean(removed))
