"""The metrics' global state, borrowed: disentanglement_lib reads its settings from gin, and
scikit-learn draws from numpy's global generator. Both are given back as they were."""

import contextlib
import copy
import threading
from collections.abc import Iterator, Mapping

import gin
import numpy as np

from submission.metrics.settings import OFFICIAL, load_settings
from submission.runtime.config import config_texts
from submission.runtime.paths import CONFIGS

# One call at a time: gin's bindings are one dictionary for all threads.
_LOCK = threading.RLock()
_OURS = {key.partition(".")[0] for key in OFFICIAL} | {"histogram_discretizer"}
_OURS |= {"beta_vae_sklearn", "modularity_explicitness", "infomec"}


@contextlib.contextmanager
def borrowed_settings(quick: bool, changed: Mapping[str, int] | None = None) -> Iterator[None]:
    """Within it the metrics' settings are bound in gin, those of `submission/configs` and over them
    `changed` ("dci.num_train": 500). Afterwards gin's bindings and its record of what was used, and
    numpy's global generator, are as before. Calls in several threads wait for each other."""
    with _LOCK:
        import submission.metrics.library  # noqa: F401 - registers what is bound

        # gin 0.4.0 has no public way to take a binding back.
        state = (gin.config._CONFIG, gin.config._OPERATIVE_CONFIG)
        kept = [{key: copy.copy(table[key]) for key in table if _is_ours(key)} for table in state]
        generator = np.random.get_state()
        try:
            with gin.config_scope(None):  # the caller's scope may have bindings of its own
                load_settings(quick)
                load_further_settings(quick)
                with gin.unlock_config():
                    for key, value in (changed or {}).items():
                        gin.bind_parameter(key, value)
                yield
        finally:
            np.random.set_state(generator)
            for table, before in zip(state, kept, strict=True):
                for key in [key for key in table if _is_ours(key)]:
                    del table[key]
                table.update(before)


def load_further_settings(quick: bool) -> None:
    """Binds the settings of the further numbers; gin's other bindings stay."""
    name = "metrics_further_quick.gin" if quick else "metrics_further.gin"
    with gin.unlock_config():
        import submission.metrics.further  # noqa: F401 - registers infomec

        for _, text in config_texts(CONFIGS / name):
            gin.parse_config(text)


def _is_ours(key: tuple[str, str]) -> bool:
    """Of a scope and the whole name of a configurable, which ends in the one that files use."""
    return key[1].rpartition(".")[2] in _OURS


def bound_further_settings() -> dict[str, int]:
    """The counts of the further numbers that a sample may be too small for, as bound in gin."""
    keys = ("modularity_explicitness.num_train", "modularity_explicitness.num_test")
    return {key: gin.query_parameter(key) for key in (*keys, "infomec.num_train")}
