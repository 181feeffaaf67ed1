"""DCI with its boosted trees spread over processes."""

from functools import partial
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from submission.metrics.grids import RepresentationFunction
from submission.metrics.library import dci, stock_importance
from submission.runtime.progress import progress_bar

Array = NDArray[Any]


def factor_importance(
    factor: int, x_train: Array, y_train: Array, x_test: Array, y_test: Array
) -> tuple[int, NDArray[np.float64], float, float]:
    """The library's compute_importance_gbt for one factor; y_* are (1, num_points).

    The classifier draws from numpy's global generator, unseeded in the stock code. Here it is
    seeded with the factor's number, so that the result depends neither on the process nor on the
    order of the fits; its state is restored afterwards.
    """
    state = np.random.get_state()  # the one scikit-learn draws from
    np.random.seed(factor)
    try:
        matrix, train_accuracy, test_accuracy = stock_importance(x_train, y_train, x_test, y_test)
    finally:
        np.random.set_state(state)
    return factor, matrix[:, 0], float(train_accuracy), float(test_accuracy)


def importance(
    x_train: Array, y_train: Array, x_test: Array, y_test: Array, workers: int, title: str = "DCI"
) -> tuple[NDArray[np.float64], np.floating[Any], np.floating[Any]]:
    """The library's compute_importance_gbt with its loop over the factors spread over processes.

    Args:
        x_train, x_test: codes (C, num_points). y_train, y_test: factors (num_factors, num_points).

    Returns:
        The importance (C, num_factors) of each latent for each factor, columns of sum 1, and the
        mean accuracies on the training and the test points.
    """
    num_factors = len(y_train)
    # A fit's time grows with the number of its factor's values: begin with the longest.
    order = sorted(range(num_factors), key=lambda i: -len(np.unique(y_train[i])))
    fit = joblib.delayed(factor_importance)
    jobs = (fit(i, x_train, y_train[i : i + 1], x_test, y_test[i : i + 1]) for i in order)
    # The data are a few MB: no memory-mapped copies (max_nbytes) in /dev/shm, small in Docker.
    settings = {"return_as": "generator_unordered", "pre_dispatch": "all", "max_nbytes": None}
    # One thread in each worker: the fits already fill the cores.
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        fits = joblib.Parallel(n_jobs=min(workers, num_factors), **settings)(jobs)
        bar = progress_bar(iterable=fits, total=num_factors, desc=title, unit=" factors")
        found = sorted(bar, key=lambda fit: fit[0])
    _, columns, train_accuracy, test_accuracy = zip(*found, strict=True)
    return np.stack(columns, axis=1), np.mean(train_accuracy), np.mean(test_accuracy)


def library_dci(
    data: Any,
    representation_function: RepresentationFunction,
    random_state: np.random.RandomState,
    workers: int,
) -> dict[str, Any]:
    """The library's compute_dci as it is, on one core. Its classifiers draw from numpy's global
    generator, which is seeded with 0 before, so that the scores can be had again."""
    del workers
    state = np.random.get_state()
    np.random.seed(0)
    try:
        scores: dict[str, Any] = dci.compute_dci(data, representation_function, random_state)
    finally:
        np.random.set_state(state)
    return scores


def compute_dci(
    data: Any,
    representation_function: RepresentationFunction,
    random_state: np.random.RandomState,
    workers: int,
) -> dict[str, Any]:
    """The library's compute_dci with `importance` above in the place of its own, which takes nearly
    all of the time; sampling, disentanglement and completeness remain the library's."""
    dci.compute_importance_gbt = partial(importance, workers=workers)
    try:
        scores: dict[str, Any] = dci.compute_dci(data, representation_function, random_state)
    finally:
        dci.compute_importance_gbt = stock_importance
    return scores
