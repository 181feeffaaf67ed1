"""DCI with its boosted trees spread over the cores."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from types import FunctionType, SimpleNamespace
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from submission.metrics.grids import RepresentationFunction
from submission.metrics.library import dci, stock_importance
from submission.runtime.progress import progress_bar

Array = NDArray[Any]
Fit = tuple[int, NDArray[np.float64], float, float]


def factor_importance(
    factor: int, x_train: Array, y_train: Array, x_test: Array, y_test: Array
) -> Fit:
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
    x_train: Array,
    y_train: Array,
    x_test: Array,
    y_test: Array,
    workers: int,
    title: str = "DCI",
    fit: str = "sorted",
) -> tuple[NDArray[np.float64], np.floating[Any], np.floating[Any]]:
    """The library's compute_importance_gbt with its loop over the factors spread over the cores.

    Args:
        x_train, x_test: codes (C, num_points). y_train, y_test: factors (num_factors, num_points).
        fit: "sorted", our classifier in threads, or "scikit-learn", the library's in processes.
            Both are seeded alike and give the same trees, see `boosting`.

    Returns:
        The importance (C, num_factors) of each latent for each factor, columns of sum 1, and the
        mean accuracies on the training and the test points.
    """
    # A fit's time grows with the number of its factor's values: begin with the longest.
    order = sorted(range(len(y_train)), key=lambda i: -len(np.unique(y_train[i])))
    jobs = [(i, x_train, y_train[i : i + 1], x_test, y_test[i : i + 1]) for i in order]
    found = _in_threads(jobs, workers, title) if fit == "sorted" else _stock(jobs, workers, title)
    _, columns, train, test = zip(*sorted(found, key=lambda one: one[0]), strict=True)
    return np.stack(columns, axis=1), np.mean(train), np.mean(test)


def _stock(jobs: list[tuple[Any, ...]], workers: int, title: str) -> Iterable[Fit]:
    """The library's fits, in processes."""
    # The data are a few MB: no memory-mapped copies (max_nbytes) in /dev/shm, small in Docker.
    settings = {"return_as": "generator_unordered", "pre_dispatch": "all", "max_nbytes": None}
    # One thread in each worker: the fits already fill the cores.
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        calls = (joblib.delayed(factor_importance)(*job) for job in jobs)
        fits = joblib.Parallel(n_jobs=min(workers, len(jobs)), **settings)(calls)
        return list(progress_bar(iterable=fits, total=len(jobs), desc=title, unit=" factors"))


def _in_threads(jobs: list[tuple[Any, ...]], workers: int, title: str) -> Iterable[Fit]:
    """Our fits, in threads: some wait for their factor's stages, `workers` grow the trees."""
    # Imported here: the scikit-learn route does without the compiler.
    from submission.metrics.boosting import SortedGradientBoosting

    stopped, lock = threading.Event(), threading.Lock()
    classes = [len(np.unique(job[2])) for job in jobs]
    stages = SortedGradientBoosting().n_estimators
    total = stages * sum(1 if n == 2 else n for n in classes)
    with (
        progress_bar(total=total, desc=title, unit=" trees") as bar,
        ThreadPoolExecutor(workers) as pool,
        ThreadPoolExecutor(min(workers, len(jobs))) as fits,
    ):

        def grown(trees: int) -> None:
            if stopped.is_set():
                raise InterruptedError
            with lock:
                bar.update(trees)

        def one(job: tuple[Any, ...]) -> Fit:
            def classifier() -> SortedGradientBoosting:
                model = SortedGradientBoosting(random_state=job[0])
                most = len(np.unique(job[2]))
                model.pool, model.share, model.grown = pool, -(-most // workers), grown
                return model

            matrix, train, test = library_importance(classifier)(*job[1:])
            return job[0], matrix[:, 0], float(train), float(test)

        calls = [fits.submit(one, job) for job in jobs]
        try:
            return [call.result() for call in as_completed(calls)]  # the first error at once
        except BaseException:
            stopped.set()  # the others end with their stage
            fits.shutdown(wait=False, cancel_futures=True)
            raise


def library_importance(classifier: Callable[[], Any]) -> Callable[..., tuple[Array, Any, Any]]:
    """The library's own compute_importance_gbt, to which `ensemble.GradientBoostingClassifier` is
    `classifier`: a copy with a name of its own, so that threads do not meet."""
    names = vars(dci) | {"ensemble": SimpleNamespace(GradientBoostingClassifier=classifier)}
    return FunctionType(stock_importance.__code__, names)


def library_dci(
    data: Any, representation_function: RepresentationFunction, random_state: np.random.RandomState
) -> dict[str, Any]:
    """The library's compute_dci as it is, on one core. Its classifiers draw from numpy's global
    generator, which is seeded with 0 before, so that the scores can be had again."""
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
    fit: str = "sorted",
) -> dict[str, Any]:
    """The library's compute_dci with `importance` above in the place of its own, which takes nearly
    all of the time; sampling, disentanglement and completeness remain the library's."""
    dci.compute_importance_gbt = partial(importance, workers=workers, fit=fit)
    try:
        scores: dict[str, Any] = dci.compute_dci(data, representation_function, random_state)
    finally:
        dci.compute_importance_gbt = stock_importance
    return scores
