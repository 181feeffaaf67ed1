"""The challenge's five metrics, computed by disentanglement_lib 1.5's own, unmodified code.

The library's metrics draw factors, ask a `GroundTruthData` for the observations and hand these
to a representation function. `GridRepresentations` answers with precomputed representations, so
that no image passes through a network; `GridImages` is the stock route over the images. Both
leave the random draws alone and give the same scores.
"""

import contextlib
import importlib
import importlib.metadata
import json
import logging
import math
import platform
import sys
import textwrap
import time
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gin
import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from submission.errors import UserError
from submission.progress import progress_bar
from submission.stages import write_text


@contextlib.contextmanager
def _without_tensorflow() -> Iterator[None]:
    """Inert stand-ins for `gin.tf` and `tensorflow.compat.v1` while the metrics are imported.

    The metric modules only write `import gin.tf` where they use plain gin, and
    `data.ground_truth.util` names TensorFlow in one function that no metric calls; a TensorFlow
    of several GB would be installed for these two import statements. The stand-ins are taken out
    again at once, since others (torch.utils.tensorboard) ask by `import tensorflow` whether there
    is one. What is already loaded is left in place and used.
    """
    placed = []
    # gin 0.4.0 warns through the root logger that the library's `blacklist` is deprecated, which
    # would also install a handler there and so turn the caller's own logging set-up into a no-op.
    silence, disabled = logging.NullHandler(), logging.root.manager.disable
    logging.root.addHandler(silence)
    logging.disable(logging.WARNING)
    # New configurables cannot be registered in a locked configuration, and the caller may have
    # locked it by gin.parse_config_files_and_bindings for the training.
    with gin.unlock_config():
        try:
            if "gin.tf" not in sys.modules:
                sys.modules["gin.tf"] = gin
                placed.append("gin.tf")
            if "tensorflow" not in sys.modules:
                for name in ("tensorflow", "tensorflow.compat", "tensorflow.compat.v1"):
                    sys.modules[name] = types.ModuleType(name)
                    placed.append(name)
            yield
        finally:
            for name in placed:
                del sys.modules[name]
            logging.disable(disabled)
            logging.root.removeHandler(silence)


with _without_tensorflow():
    _PACKAGE = "disentanglement_lib"
    _dci: Any = importlib.import_module(f"{_PACKAGE}.evaluation.metrics.dci")
    _factor_vae: Any = importlib.import_module(f"{_PACKAGE}.evaluation.metrics.factor_vae")
    _irs: Any = importlib.import_module(f"{_PACKAGE}.evaluation.metrics.irs")
    _mig: Any = importlib.import_module(f"{_PACKAGE}.evaluation.metrics.mig")
    _sap: Any = importlib.import_module(f"{_PACKAGE}.evaluation.metrics.sap_score")
    _ground_truth_data: Any = importlib.import_module(
        f"{_PACKAGE}.data.ground_truth.ground_truth_data"
    )
    _util: Any = importlib.import_module(f"{_PACKAGE}.data.ground_truth.util")

# Kept under a name of its own: `dci.compute_importance_gbt` is swapped while DCI runs.
_stock_importance = _dci.compute_importance_gbt

Result = dict[str, Any]
RepresentationFunction = Callable[[NDArray[Any]], NDArray[Any]]

METRICS: tuple[str, ...] = ("factor_vae", "dci", "sap", "irs", "mig")

# The one number the server reports of each metric.
REPORTED = {
    "factor_vae": "eval_accuracy",
    "dci": "disentanglement",
    "sap": "SAP_score",
    "irs": "IRS",
    "mig": "discrete_mig",
}

# arXiv 2002.12356: MPI3D-real (public leader board) and MPI3D-real with complex objects (private).
PAPER: dict[str, dict[str, float]] = {
    "real": {"factor_vae": 0.992, "dci": 0.809, "sap": 0.223, "irs": 0.547, "mig": 0.297},
    "complex": {"factor_vae": 0.893, "dci": 0.589, "sap": 0.192, "irs": 0.447, "mig": 0.268},
}
_PAPER_GRID = {
    "real": "MPI3D-real, full grid of 1,036,800 images",
    "complex": "MPI3D-real complex, full grid of 460,800 images",
}

# The server's settings. metrics_official.gin binds the same values; these decide whether a result
# may be called official, whatever file or binding the settings in force came from.
OFFICIAL: dict[str, Any] = {
    "factor_vae_score.num_variance_estimate": 10000,
    "factor_vae_score.num_train": 10000,
    "factor_vae_score.num_eval": 5000,
    "factor_vae_score.batch_size": 64,
    "prune_dims.threshold": 0.05,
    "dci.num_train": 10000,
    "dci.num_test": 5000,
    "dci.batch_size": 16,
    "sap_score.num_train": 10000,
    "sap_score.num_test": 5000,
    "sap_score.batch_size": 16,
    "sap_score.continuous_factors": False,
    "irs.num_train": 10000,
    "irs.batch_size": 16,
    "irs.diff_quantile": 0.99,
    "mig.num_train": 10000,
    "mig.batch_size": 16,
    "discretizer.discretizer_fn": "@histogram_discretizer",
    "discretizer.num_bins": 20,
}

_CONFIGS = Path(__file__).parent / "configs"


def load_settings(quick: bool = False) -> dict[str, Any]:
    """Bind the metrics' settings through gin and return what is bound.

    Args:
        quick: lowered counts (metrics_quick.gin), whose scores are not comparable with any other.

    Other bindings in gin's global configuration stay as they are, and a locked configuration is
    locked again afterwards.
    """
    name = "metrics_quick.gin" if quick else "metrics_official.gin"
    with gin.unlock_config():
        gin.parse_config_file(str(_CONFIGS / name), skip_unknown=False)
    return bound_settings()


def bound_settings() -> dict[str, Any]:
    """The metric settings in force in gin, by configurable and parameter, as JSON values.

    Raises:
        ValueError: one of them is not bound (`load_settings` was not called).
    """
    settings = {}
    for key in OFFICIAL:
        value = gin.query_parameter(key)
        # A reference to a configurable prints as it is written in a gin file.
        settings[key] = value if isinstance(value, bool | int | float) else str(value)
    return settings


def chosen(metrics: str) -> tuple[str, ...]:
    """The metrics of a comma-separated list, each once.

    Raises:
        UserError: one is unknown.
    """
    names = tuple(dict.fromkeys(name.strip() for name in metrics.split(",")))
    if unknown := [name for name in names if name not in METRICS]:
        raise UserError(
            f"unknown metric {unknown[0]!r} in --metrics: choose from {','.join(METRICS)}"
        )
    return names


def check_grid(factor_sizes: Sequence[int]) -> None:
    """UserError if the metrics cannot score a grid of these sizes, whatever the codes."""
    if min(factor_sizes, default=0) < 2:
        raise UserError(
            f"The grid {list(factor_sizes)} has a factor with fewer than two values, which the "
            "metrics cannot score; use at least two steps on every axis."
        )


class _Grid(_ground_truth_data.GroundTruthData):
    """What both data sets share: every combination of the factors, the last one fastest."""

    def __init__(self, factor_sizes: Sequence[int], num_rows: int, what: str) -> None:
        check_grid(factor_sizes)
        self.factor_sizes = [int(size) for size in factor_sizes]
        expected = math.prod(self.factor_sizes)
        if num_rows != expected:
            raise UserError(
                f"{what} has {num_rows:,} rows but the grid {self.factor_sizes} has {expected:,} "
                "images; compute it for this data set again."
            )
        self._space = _util.SplitDiscreteStateSpace(
            self.factor_sizes, list(range(len(self.factor_sizes)))
        )

    @property
    def num_factors(self) -> int:
        return len(self.factor_sizes)

    @property
    def factors_num_values(self) -> list[int]:
        return self.factor_sizes

    def sample_factors(self, num: int, random_state: np.random.RandomState) -> NDArray[np.int64]:
        """Draw `num` factor vectors uniformly: (num, num_factors) int64, as the library does."""
        factors: NDArray[np.int64] = self._space.sample_latent_factors(num, random_state)
        return factors

    def rows(self, factors: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row (N,) int64 in data-set order of each factor vector (N, num_factors) int64."""
        return np.asarray(np.ravel_multi_index(tuple(factors.T), tuple(self.factor_sizes)))


class GridRepresentations(_Grid):
    """A GroundTruthData whose observations are the representations themselves.

    Args:
        representations: (num_images, C) floats in data-set order (C order over the factors, last
            factor fastest), C >= 2; kept as float32.
        factor_sizes: number of values of each factor, each at least 2.

    Raises:
        UserError: wrong shape or number of rows, or a value that is not finite.
    """

    def __init__(self, representations: NDArray[Any], factor_sizes: Sequence[int]) -> None:
        if representations.ndim != 2 or representations.shape[1] < 2:
            raise UserError(
                f"The representation has shape {representations.shape}, but the metrics need "
                "(num_images, C) with at least two latents C; export at least two."
            )
        super().__init__(factor_sizes, representations.shape[0], "The representation")
        with np.errstate(over="ignore"):  # what overflows is refused in the next line
            self.representations = np.ascontiguousarray(representations, dtype=np.float32)
        bad = np.flatnonzero(~np.isfinite(self.representations).all(axis=1))
        if bad.size:
            raise UserError(
                f"The representation holds NaN or infinite values in {bad.size:,} rows, the first "
                f"of them row {bad[0]}; the encoder has diverged, so train it again."
            )

    @property
    def observation_shape(self) -> list[int]:
        return [self.representations.shape[1]]

    def sample_observations_from_factors(
        self, factors: NDArray[np.int64], random_state: np.random.RandomState
    ) -> NDArray[np.float32]:
        """The representations (N, C) float32 of the factor vectors (N, num_factors) int64."""
        del random_state  # every factor is observed: there is nothing left to draw
        return self.representations[self.rows(factors)]


class ImageRows(Protocol):
    """What `GridImages` asks of its images: a memory-mapped array will do."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]: ...


class GridImages(_Grid):
    """A GroundTruthData over images: the stock route, through the representation function.

    Args:
        images: (num_images, height, width, 3) uint8 in data-set order, indexed by arrays of rows
            in any order and with repetitions; it is never read as a whole.
        factor_sizes: number of values of each factor, each at least 2.

    Raises:
        UserError: wrong number of rows.
    """

    def __init__(self, images: ImageRows, factor_sizes: Sequence[int]) -> None:
        super().__init__(factor_sizes, len(images), "The image array")
        self.images = images

    @property
    def observation_shape(self) -> list[int]:
        return list(self.images[np.zeros(1, dtype=np.int64)].shape[1:])

    def sample_observations_from_factors(
        self, factors: NDArray[np.int64], random_state: np.random.RandomState
    ) -> NDArray[np.float64]:
        """Images (N, height, width, 3) float64 in [0, 1] of the factors (N, num_factors) int64.

        FactorVAE asks for `num_variance_estimate` images at once: 1 GB at the official 10,000.
        """
        del random_state  # every factor is observed: there is nothing left to draw
        return np.asarray(self.images[self.rows(factors)] / 255.0, dtype=np.float64)


def identity(observations: NDArray[Any]) -> NDArray[Any]:
    """The representation function that goes with `GridRepresentations`."""
    return observations


def torchscript_function(module: Callable[[Any], Any]) -> RepresentationFunction:
    """The representation function that goes with `GridImages`, around an exported module.

    Args:
        module: takes a float32 tensor (N, 3, height, width) in [0, 1] on the CPU and returns
            (N, C), as the server calls it.

    Returns:
        A function from images (N, height, width, 3) in [0, 1] to representations (N, C) float32.
    """
    # Imported here since the DCI workers import this module and have no use for torch.
    import torch

    from submission.encode import call_model

    def represent(images: NDArray[Any]) -> NDArray[Any]:
        channels_first = np.ascontiguousarray(np.moveaxis(images, 3, 1), dtype=np.float32)
        return call_model(module, torch.from_numpy(channels_first))

    return represent


def ideal_code(factor_sizes: Sequence[int]) -> NDArray[np.float32]:
    """One ordinal latent per factor: what the metrics give for perfect disentanglement.

    Returns:
        (num_images, num_factors) float32 in data-set order; each latent rises evenly with its
        factor and has mean 0 and variance 1 over the grid (SAP and IRS depend on the scale).
    """
    values = np.stack(np.unravel_index(np.arange(math.prod(factor_sizes)), tuple(factor_sizes)), 1)
    return np.asarray((values - values.mean(axis=0)) / values.std(axis=0), dtype=np.float32)


def factor_importance(
    factor: int,
    x_train: NDArray[Any],
    y_train: NDArray[Any],
    x_test: NDArray[Any],
    y_test: NDArray[Any],
) -> tuple[int, NDArray[np.float64], float, float]:
    """The library's compute_importance_gbt for one factor; y_* are (1, num_points).

    The classifier draws from numpy's global generator, unseeded in the stock code. Here the
    generator is seeded with the factor's number, so that the result depends neither on the
    process nor on the order of the fits; it is put back afterwards.
    """
    state = np.random.get_state()  # the one scikit-learn draws from
    np.random.seed(factor)
    try:
        matrix, train_accuracy, test_accuracy = _stock_importance(x_train, y_train, x_test, y_test)
    finally:
        np.random.set_state(state)
    return factor, matrix[:, 0], float(train_accuracy), float(test_accuracy)


def _compute_dci(
    data: Any,
    representation_function: RepresentationFunction,
    random_state: np.random.RandomState,
    workers: int,
) -> dict[str, Any]:
    """The library's compute_dci with its loop over the factors spread over processes.

    `dci.compute_importance_gbt` is replaced for the duration of the call, as it holds that loop
    and nearly all of the time; sampling, importances, disentanglement and completeness remain the
    library's.
    """

    def importance(
        x_train: NDArray[Any], y_train: NDArray[Any], x_test: NDArray[Any], y_test: NDArray[Any]
    ) -> tuple[NDArray[np.float64], np.floating[Any], np.floating[Any]]:
        num_factors = y_train.shape[0]
        # A fit takes as long as its factor has values: begin with the longest.
        order = sorted(range(num_factors), key=lambda i: -len(np.unique(y_train[i])))
        jobs = (
            joblib.delayed(factor_importance)(
                i, x_train, y_train[i : i + 1], x_test, y_test[i : i + 1]
            )
            for i in order
        )
        matrix = np.zeros((x_train.shape[0], num_factors))
        train_accuracy = np.zeros(num_factors)
        test_accuracy = np.zeros(num_factors)
        # One thread in each worker: the fits already fill the cores.
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            parallel = joblib.Parallel(
                n_jobs=min(workers, num_factors),
                return_as="generator_unordered",
                pre_dispatch="all",
                max_nbytes=None,  # a few MB: no memory-mapped copies in /dev/shm, small in Docker
            )
            finished = progress_bar(
                iterable=parallel(jobs), total=num_factors, desc="DCI", unit=" factors"
            )
            for i, column, train, test in finished:
                matrix[:, i] = column
                train_accuracy[i] = train
                test_accuracy[i] = test
        return matrix, np.mean(train_accuracy), np.mean(test_accuracy)

    _dci.compute_importance_gbt = importance
    try:
        scores: dict[str, Any] = _dci.compute_dci(data, representation_function, random_state)
    finally:
        _dci.compute_importance_gbt = _stock_importance
    return scores


def score(
    data: Any,
    representation_function: RepresentationFunction = identity,
    metrics: Sequence[str] = METRICS,
    workers: int | None = None,
) -> Result:
    """Compute the metrics under the settings bound in gin (`load_settings`).

    Args:
        data: a disentanglement_lib GroundTruthData.
        representation_function: from observations of `data` to (N, C) floats.
        metrics: some of METRICS; each starts from its own fresh RandomState(0).
        workers: processes for the DCI fits (default: one per core); the scores do not depend on it.

    Returns:
        For each metric's name every number the library returns; `headline`, the reported number
        of each metric; `seconds` of each; `settings`, as bound; `counts`, "official" where these
        are the server's settings and "quick" otherwise. `num_active_dims` is what the library
        makes of it: the number of all latents (FactorVAE), the sum of all codes (IRS).

    Raises:
        UserError: fewer than one worker, or a metric gives NaN or a number out of its range. IRS
            does so on latents constant at another value than zero: in float32 their rounded mean
            can leave them a variance above 0, so that the library keeps them, and a largest
            deviation of 0 or next to it, by which it then divides.
    """
    if workers is None:
        workers = joblib.cpu_count()
    if workers < 1:
        raise UserError(f"The number of workers is {workers}; ask for at least one.")
    stock = {
        "factor_vae": _factor_vae.compute_factor_vae,
        "sap": _sap.compute_sap,
        "irs": _irs.compute_irs,
        "mig": _mig.compute_mig,
    }
    settings = bound_settings()
    counts = "official" if settings == OFFICIAL else "quick"
    result: Result = {"headline": {}, "seconds": {}, "settings": settings, "counts": counts}
    # DCI last: it takes nearly all of the time, and another metric's failure need not wait for it.
    order = sorted(metrics, key=lambda metric: metric == "dci")
    for metric in (bar := progress_bar(iterable=order, desc="metrics", unit=" metrics")):
        bar.set_postfix_str(metric, refresh=False)
        start = time.perf_counter()
        random_state = np.random.RandomState(0)
        with warnings.catch_warnings():
            # SAP's linear classifiers stop at the library's iteration limit; nothing to be done.
            warnings.simplefilter("ignore", ConvergenceWarning)
            if metric == "dci":
                values = _compute_dci(data, representation_function, random_state, workers)
            else:
                values = stock[metric](data, representation_function, random_state)
        result["seconds"][metric] = time.perf_counter() - start
        result[metric] = {name: float(value) for name, value in values.items()}
        reported = result[metric][REPORTED[metric]]
        # No metric can leave [-1, 1]; a comparison with NaN is False.
        if not (-1 <= reported <= 1 and all(map(math.isfinite, result[metric].values()))):
            raise UserError(
                f"The metric {metric} gives {result[metric]} on this representation, which is no "
                "score: check it for latents of extreme size and for latents constant at another "
                "value than zero, whose rounding error IRS divides by (export those as zero)."
            )
        result["headline"][metric] = reported
    return result


@dataclass(frozen=True)
class Context:
    """What a result was measured on, for the table's caption and scores.json.

    Attributes:
        data: the data set's name, e.g. "mpi3d_real" or "stand-in, rendered domain real".
        stand_in: True for rendered images, False for a published MPI3D file.
        domain: "toy", "realistic", "real" or "complex"; picks the paper's column.
        factor_sizes: number of values of each factor.
        ideal: `score` of `ideal_code` on the same grid under the same settings.
        data_md5: of the data file. model_sha256: of the exported model.
    """

    data: str
    stand_in: bool
    domain: str
    factor_sizes: tuple[int, ...]
    ideal: Result | None = None
    data_md5: str = ""
    model_sha256: str = ""

    @property
    def num_images(self) -> int:
        return math.prod(self.factor_sizes)


def format_table(result: Result, context: Context) -> str:
    """The scores as plain text of at most 100 columns, beside the ideal code's and the paper's."""
    reference = "complex" if context.domain == "complex" else "real"
    ideal = context.ideal["headline"] if context.ideal else {}
    names = {"factor_vae": "FactorVAE", "dci": "DCI", "sap": "SAP", "irs": "IRS", "mig": "MIG"}
    columns = [result["headline"], ideal, PAPER[reference]]
    shown = [metric for metric in METRICS if metric in result["headline"]]
    rows = [[names[m], *(f"{c[m]:.3f}" if m in c else "-" for c in columns)] for m in shown]
    if len(shown) == len(METRICS):
        sums = (f"{sum(c[m] for m in METRICS):.3f}" if c else "-" for c in columns)
        rows.append(["sum", *sums])
    this_run = "stand-in, NOT MPI3D" if context.stand_in else context.data
    paper_set = "MPI3D-real complex" if reference == "complex" else "MPI3D-real"
    head = [
        ["metric", "this run", "ideal code", "paper"],
        ["", this_run[:24], "same grid", f"{paper_set}, full grid"],
    ]
    widths = [max(len(row[i]) for row in head + rows) for i in range(4)]

    def line(row: list[str]) -> str:
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        return "   ".join([row[0].ljust(widths[0]), *cells])

    grid = " x ".join(str(size) for size in context.factor_sizes)
    same_kind = not context.stand_in and context.domain == reference
    caption = [
        f"Measured on: {context.data}{'; NOT MPI3D' if context.stand_in else ''} "
        f"({context.num_images:,} images, grid {grid}).",
        "Metric settings: official (the server's)."
        if result["counts"] == "official"
        else "Metric settings: QUICK, not the official counts; comparable with no other numbers.",
        f"The paper's column (arXiv 2002.12356) is {_PAPER_GRID[reference]}: "
        + (
            "compare only where this run covers the same images under official settings."
            if same_kind
            else "a different data set from this run's, given for orientation only."
        ),
    ]
    rule = "-" * len(line(head[0]))
    table = [*map(line, head), rule, *map(line, rows), rule]
    wrapped = [
        part for text in caption for part in textwrap.wrap(text, 100, subsequent_indent="  ")
    ]
    return "\n".join(text.rstrip() for text in [*table, *wrapped]) + "\n"


def _versions() -> dict[str, str]:
    names = ["numpy", "scipy", "scikit-learn", "gin-config", "disentanglement-lib"]
    if "torch" in sys.modules:
        names.append("torch")
    return {"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in names}


def write_scores(folder: Path, result: Result, context: Context) -> None:
    """Write `scores.json` (every number, settings, data set, versions) and `scores.txt` (table).

    Each file appears whole or not at all; an existing one is replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reference = "complex" if context.domain == "complex" else "real"
    document = {
        "data": {
            "name": context.data,
            "stand_in": context.stand_in,
            "domain": context.domain,
            "factor_sizes": list(context.factor_sizes),
            "num_images": context.num_images,
            "md5": context.data_md5,
        },
        "model_sha256": context.model_sha256,
        "scores": result,
        "ideal_code": context.ideal,
        "paper": {"measured_on": _PAPER_GRID[reference], "headline": PAPER[reference]},
        "versions": _versions(),
    }
    texts = {
        "scores.json": json.dumps(document, indent=2, allow_nan=False) + "\n",
        "scores.txt": format_table(result, context),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
