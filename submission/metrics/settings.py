"""The metrics' names, their settings, and the numbers that the paper reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gin

from submission.runtime.config import config_texts
from submission.runtime.errors import UserError
from submission.runtime.paths import CONFIGS

Result = dict[str, Any]
METRICS: tuple[str, ...] = ("factor_vae", "dci", "sap", "irs", "mig")
# How DCI's boosted trees are grown: from features sorted once (`boosting`), or by scikit-learn.
DCI_FITS = ("sorted", "scikit-learn")
TITLES = {"factor_vae": "FactorVAE", "dci": "DCI", "sap": "SAP", "irs": "IRS", "mig": "MIG"}
# Not the challenge's, and never part of the sum.
FURTHER = ("betavae", "infomec", "completeness", "informativeness", "modularity")
# What a number is called in a table, and where it comes from.
FURTHER_TITLES: dict[str, str] = {
    "betavae": "beta-VAE score (Higgins et al. 2017), disentanglement_lib's",
    "InfoM": "modularity in information (Hsu et al. 2023)",
    "InfoE": "explicitness in information (Hsu et al. 2023)",
    "InfoC": "compactness in information (Hsu et al. 2023)",
    "completeness": "of DCI (Eastwood and Williams 2018), disentanglement_lib's",
    "informativeness": "of DCI, share of test rows that the trees get right",
    "modularity": "Ridgeway and Mozer 2018, disentanglement_lib's",
    "explicitness": "the same paper's, test rows, disentanglement_lib's",
}

# In this process and without TensorFlow, or as the challenge's grader did it (tensorflow_route).
SCORERS = ("light", "tensorflow")

# The one number the server reports of each metric.
REPORTED = {
    **{"factor_vae": "eval_accuracy", "dci": "disentanglement", "sap": "SAP_score"},
    **{"irs": "IRS", "mig": "discrete_mig"},
}

# arXiv 2002.12356: MPI3D-real (public leader board) and MPI3D-real with complex objects (private).
PAPER: dict[str, dict[str, float]] = {
    "real": {"factor_vae": 0.992, "dci": 0.809, "sap": 0.223, "irs": 0.547, "mig": 0.297},
    "complex": {"factor_vae": 0.893, "dci": 0.589, "sap": 0.192, "irs": 0.447, "mig": 0.268},
}
PAPER_GRID = {
    "real": "MPI3D-real, full grid of 1,036,800 images",
    "complex": "MPI3D-real complex, full grid of 460,800 images",
}

# The server's settings, as metrics_official.gin binds them. A result is called official if its
# settings equal these, whatever file or binding they came from.
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


@dataclass(frozen=True)
class ScoreOptions:
    """What a scoring is asked for: some of METRICS, and `also` of FURTHER; `quick`: lowered sample
    counts, comparable with nothing else; `stock`: the scorer's own route, the images through the
    model for every metric; `dci`: one of DCI_FITS; `scorer`: one of SCORERS, by whom the codes are
    scored; `drawn`: codes are computed of the images that the metrics draw, and of no others."""

    metrics: tuple[str, ...] = METRICS
    also: tuple[str, ...] = ()
    quick: bool = False
    device: str = "auto"
    stock: bool = False
    dci: str = DCI_FITS[0]
    scorer: str = SCORERS[0]
    drawn: bool = False


def load_settings(quick: bool = False) -> dict[str, Any]:
    """Binds the metrics' settings through gin (`quick`: metrics_quick.gin, with lowered counts) and
    returns them. Gin's other bindings stay, and a locked configuration is locked again."""
    # Registers what the settings bind. Imported here: 80 MiB that a training does without.
    import submission.metrics.library  # noqa: F401

    name = "metrics_quick.gin" if quick else "metrics_official.gin"
    with gin.unlock_config():
        for _, text in config_texts(CONFIGS / name):
            gin.parse_config(text)
    return bound_settings()


def bind_settings(settings: dict[str, Any]) -> None:
    """Binds what `bound_settings` returned, in another process."""
    import submission.metrics.library  # noqa: F401 (as above)

    with gin.unlock_config():
        gin.parse_config([f"{key} = {value}" for key, value in settings.items()])


def bound_settings() -> dict[str, Any]:
    """The metric settings bound in gin, by configurable and parameter, as JSON values; raises
    ValueError if one is not bound (`load_settings` was not called)."""
    bound = {key: gin.query_parameter(key) for key in OFFICIAL}
    # A reference to a configurable prints as it is written in a gin file.
    return {k: v if isinstance(v, bool | int | float) else str(v) for k, v in bound.items()}


def chosen(
    metrics: str, known: tuple[str, ...] = METRICS, option: str = "--metrics"
) -> tuple[str, ...]:
    """The metrics of a comma-separated list, each once; raises UserError if one is unknown."""
    return checked(tuple(name.strip() for name in metrics.split(",")), known, option)


def checked(names: Sequence[str], known: tuple[str, ...], option: str) -> tuple[str, ...]:
    """The names, each once; raises UserError if one is none of the known."""
    if unknown := [name for name in names if name not in known]:
        what = f"unknown metric {unknown[0]!r} in {option}"
        raise UserError(f"{what}: choose from {','.join(known)}")
    return tuple(dict.fromkeys(names))
