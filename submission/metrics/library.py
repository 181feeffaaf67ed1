"""disentanglement_lib 1.5's own metrics, imported without TensorFlow."""

import contextlib
import importlib.metadata
import logging
import sys
import types
from collections.abc import Iterator
from typing import Any

import gin


@contextlib.contextmanager
def _without_tensorflow() -> Iterator[None]:
    """Inert stand-ins for `gin.tf` and `tensorflow.compat.v1` while the metrics are imported.

    The metric modules write `import gin.tf` where they use plain gin, and `data.ground_truth.util`
    names TensorFlow in one function that no metric calls: two import statements for which several
    GB would be installed. The stand-ins are removed at once, since others (torch.utils.tensorboard)
    find out by `import tensorflow` whether there is one. What is already loaded stays and is used.
    """
    placed = []
    # gin 0.4.0 warns through the root logger that the library's `blacklist` is deprecated; that
    # would also install a handler there, and so make the caller's own logging set-up a no-op.
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
    dci: Any = importlib.import_module(f"{_PACKAGE}.evaluation.metrics.dci")
    factor_vae: Any = importlib.import_module(f"{_PACKAGE}.evaluation.metrics.factor_vae")
    irs: Any = importlib.import_module(f"{_PACKAGE}.evaluation.metrics.irs")
    mig: Any = importlib.import_module(f"{_PACKAGE}.evaluation.metrics.mig")
    sap: Any = importlib.import_module(f"{_PACKAGE}.evaluation.metrics.sap_score")
    ground_truth_data: Any = importlib.import_module(
        f"{_PACKAGE}.data.ground_truth.ground_truth_data"
    )
    utils: Any = importlib.import_module(f"{_PACKAGE}.evaluation.metrics.utils")
    util: Any = importlib.import_module(f"{_PACKAGE}.data.ground_truth.util")

# Kept under a name of its own: `dci.compute_importance_gbt` is swapped while DCI runs.
stock_importance = dci.compute_importance_gbt
