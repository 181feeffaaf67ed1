"""disentanglement_lib 1.5's own metrics, imported without TensorFlow."""

import contextlib
import logging
import sys
import types
from collections.abc import Iterator

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
    from disentanglement_lib.data.ground_truth import ground_truth_data, util
    from disentanglement_lib.evaluation.metrics import beta_vae, dci, factor_vae, irs, mig, utils
    from disentanglement_lib.evaluation.metrics import modularity_explicitness as modularity
    from disentanglement_lib.evaluation.metrics import sap_score as sap

__all__ = ["beta_vae", "dci", "factor_vae", "ground_truth_data", "irs", "mig", "modularity"]
__all__ += ["sap", "util", "utils"]
# Kept under a name of its own: `dci.compute_importance_gbt` is swapped while DCI runs.
stock_importance = dci.compute_importance_gbt
