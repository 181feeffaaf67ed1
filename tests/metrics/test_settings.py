"""The library's import without TensorFlow, and the settings of the metrics."""

import subprocess
import sys

from factor_grids import SMALL, bind

from submission.metrics.compute import score
from submission.metrics.grids import GridRepresentations, ideal_code
from submission.metrics.settings import load_settings


def test_import_leaves_no_stand_in_no_torch_no_log_handler_and_works_in_a_locked_gin() -> None:
    program = """
import logging, sys, gin
gin.config._set_config_is_locked(True)  # gin.finalize() of 0.4.0 fails on Python 3.10 and later
from submission.metrics import compute, settings
assert gin.config_is_locked()
for name in ("tensorflow", "tensorflow.compat.v1", "gin.tf", "torch"):
    assert name not in sys.modules, name
assert logging.root.handlers == [] and logging.root.manager.disable == 0
settings.load_settings(quick=True)
assert gin.config_is_locked()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_loaded_tensorflow_is_used_and_left_in_place() -> None:
    program = """
import sys, types
for name in ("tensorflow", "tensorflow.compat", "tensorflow.compat.v1"):
    sys.modules[name] = types.ModuleType(name)
real = sys.modules["tensorflow.compat.v1"]
import submission.metrics.compute
assert sys.modules["tensorflow.compat.v1"] is real
assert sys.modules["disentanglement_lib.data.ground_truth.util"].tf is real
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_official_settings_are_the_servers() -> None:
    # The challenge's table, typed in by hand.
    expected: dict[str, dict[str, object]] = {
        "factor_vae_score": {
            "num_variance_estimate": 10000,
            "num_train": 10000,
            "num_eval": 5000,
            "batch_size": 64,
        },
        "prune_dims": {"threshold": 0.05},
        "dci": {"num_train": 10000, "num_test": 5000, "batch_size": 16},
        "sap_score": {
            "num_train": 10000,
            "num_test": 5000,
            "batch_size": 16,
            "continuous_factors": False,
        },
        "irs": {"num_train": 10000, "batch_size": 16, "diff_quantile": 0.99},
        "mig": {"num_train": 10000, "batch_size": 16},
        "discretizer": {"discretizer_fn": "@histogram_discretizer", "num_bins": 20},
    }
    flat = {f"{name}.{key}": value for name, row in expected.items() for key, value in row.items()}
    assert load_settings() == flat


def test_quick_settings_keep_batch_sizes_and_every_other_setting_than_the_counts() -> None:
    official, quick = load_settings(), load_settings(quick=True)
    changed = {key.split(".")[1] for key in official if official[key] != quick[key]}
    assert changed == {"num_variance_estimate", "num_train", "num_eval", "num_test"}


def test_counts_are_official_only_where_every_setting_is() -> None:
    data = GridRepresentations(ideal_code(SMALL), SMALL)
    load_settings()
    assert score(data, metrics=["mig"])["counts"] == "official"
    bind(irs__num_train=9999)
    assert score(data, metrics=["mig"])["counts"] == "quick"
