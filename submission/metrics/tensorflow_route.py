"""Scoring as the challenge's grader did it: disentanglement_lib's metrics with real TensorFlow.

In a process of its own, since TensorFlow takes 700 MiB and seconds, and since nothing else here may
import it. There the library is as it is installed: `gin.tf` and `tensorflow` are the real modules,
no function is replaced, and DCI's trees grow in one go on one core.
"""

import contextlib
import importlib
import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from submission.metrics.settings import Result, bind_settings, bound_settings
from submission.runtime.errors import UserError, first_line
from submission.runtime.paths import PACKAGE

log = logging.getLogger(__name__)
INSTALL = ".venv/bin/pip install -r requirements-tensorflow.lock"
# Not by PYTHONPATH, in which a path with a colon is two.
_START = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('submission.metrics.tensorflow_route', run_name='__main__', alter_sys=True)"
)
_ASKED, _CODES, _ANSWER = "asked.json", "codes.npy", "answer.json"


class ScorerFault(UserError):
    """TensorFlow's process failed: that is no fault of the codes."""


def is_installed() -> bool:
    """Whether there is a TensorFlow; it is not imported for that."""
    return importlib.util.find_spec("tensorflow") is not None


def refuse_if_missing() -> None:
    """Raises UserError if there is no TensorFlow."""
    if not is_installed():
        what = "--scorer tensorflow needs TensorFlow, which is not installed here"
        raise UserError(f"{what}: run `{INSTALL}`, or leave the option out")


def score_with_tensorflow(
    codes: NDArray[Any],
    factor_sizes: Sequence[int],
    metrics: Sequence[str],
    observed: Sequence[int] | None = None,
) -> tuple[Result, str]:
    """`score` of codes (num_images, C) in data-set order, under the settings bound in gin, in a
    process with TensorFlow; and TensorFlow's version.

    The numbers are those of `score` but for DCI's, whose trees are seeded once and not for each
    factor: they differ as they do from run to run in the unseeded library.

    Raises UserError as `score` does and if there is no TensorFlow; ScorerFault if the process
    fails.
    """
    refuse_if_missing()
    with tempfile.TemporaryDirectory(prefix="scoring-") as name:
        folder = Path(name)
        asked: dict[str, Any] = {"factor_sizes": list(map(int, factor_sizes))}
        asked |= {"metrics": list(metrics), "observed": observed and list(observed)}
        (folder / _ASKED).write_text(json.dumps(asked | {"settings": bound_settings()}))
        np.save(folder / _CODES, codes, allow_pickle=False)
        # No GPU: the metrics compute nothing in TensorFlow, which would fill its memory.
        own = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        log.info("scoring in a process with TensorFlow, whose import takes some seconds")
        command = [sys.executable, "-P", "-c", _START, str(PACKAGE.parent), name]
        code = subprocess.run(command, env=os.environ | own, check=False).returncode
        answer = folder / _ANSWER
        if code or not answer.is_file():
            what = f"the scoring with TensorFlow ended with exit code {code}"
            raise ScorerFault(f"{what}: see the lines above, or leave out --scorer tensorflow")
        said = json.loads(answer.read_text())
    if "fault" in said:
        raise ScorerFault(said["fault"])
    if "error" in said:
        raise UserError(said["error"])
    return said["result"], said["version"]


def import_tensorflow() -> Any:
    """TensorFlow and `gin.tf`, imported. Of TensorFlow's parts that are gone today, gin.tf 0.4.0
    names one, `tf.estimator.SessionRunHook`: it gets the same class from where it lies now."""
    with _without_its_greetings():
        tensorflow: Any = importlib.import_module("tensorflow")
        if not hasattr(tensorflow, "estimator"):
            hook = tensorflow.compat.v1.train.SessionRunHook
            tensorflow.estimator = types.SimpleNamespace(SessionRunHook=hook)
        importlib.import_module("gin.tf")
    return tensorflow


@contextlib.contextmanager
def _without_its_greetings() -> Iterator[None]:
    """TensorFlow writes about the CPU and missing GPUs to stderr, whatever one sets."""
    sys.stderr.flush()
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def _answer(folder: Path) -> dict[str, Any]:
    try:
        version = import_tensorflow().__version__
    except Exception as error:  # a damaged installation fails in its own ways
        what = f"TensorFlow cannot be imported ({type(error).__name__}: {first_line(error)})"
        return {"fault": f"{what}: install it again with `{INSTALL}`"}
    # After TensorFlow: what is loaded already is what the library gets.
    from submission.metrics.compute import score
    from submission.metrics.grids import GridRepresentations

    asked = json.loads((folder / _ASKED).read_text())
    bind_settings(asked["settings"])
    codes = np.load(folder / _CODES, allow_pickle=False)
    try:
        data = GridRepresentations(codes, asked["factor_sizes"], asked["observed"])
        result = score(data, metrics=asked["metrics"], dci_fit="library")
    except UserError as error:
        return {"error": str(error)}
    return {"result": result, "version": version}


if __name__ == "__main__":
    given = Path(sys.argv[1])
    try:
        (given / _ANSWER).write_text(json.dumps(_answer(given)))
    except KeyboardInterrupt:  # the parent has it, too
        sys.exit(130)
