"""Scoring with real TensorFlow, beside the light route; and what happens where there is none."""

import base64
import hashlib
import importlib.metadata
import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from factor_grids import NO_DCI, SMALL, bind, factors_of, standardised
from numpy.typing import NDArray
from patches import write_patches
from test_evaluate import Codes

from submission.__main__ import main
from submission.metrics.compute import score
from submission.metrics.grids import GridRepresentations, identity
from submission.metrics.library import dci
from submission.metrics.settings import load_settings
from submission.metrics.tensorflow_route import score_with_tensorflow
from submission.runtime.errors import UserError
from submission.runtime.paths import PROJECT

HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None
needs_tensorflow = pytest.mark.skipif(
    not HAS_TENSORFLOW, reason="TensorFlow is an optional extra: requirements-tensorflow.lock"
)
REAL = (6, 6, 2, 3, 3, 40, 40)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 128 images; results and caches go beside it."""
    for name in [n for n in os.environ if n.startswith(("AICROWD", "DISENT", "SUBMISSION"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SUBMISSION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DISENTANGLEMENT_LIB_DATA", str(tmp_path / "data"))
    write_patches(tmp_path / "data", (2,) * 7, red=(1, 100), blue=(0, 210))
    return tmp_path / "data"


@pytest.mark.skipif(HAS_TENSORFLOW, reason="TensorFlow is installed here")
@pytest.mark.parametrize("command", [["score"], ["evaluate", "--tag", "submission-v1"]])
def test_without_it_one_sentence_says_how_to_get_it(
    command: list[str], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--scorer", "tensorflow"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install -r requirements-tensorflow.lock" in said
    assert not list((tmp_path / "home").rglob("*.json"))


def code_of(sizes: tuple[int, ...], latents: int) -> NDArray[np.float32]:
    random = np.random.RandomState(1)
    code = standardised(factors_of(sizes)) @ random.normal(size=(len(sizes), latents))
    return np.asarray(code + 0.5 * random.normal(size=(math.prod(sizes), latents)), np.float32)


@pytest.mark.slow
@needs_tensorflow
def test_both_routes_give_the_same_scores_on_the_full_grid() -> None:
    load_settings()
    code = code_of(REAL, 18)
    light = score(GridRepresentations(code, REAL), metrics=NO_DCI)
    real, version = score_with_tensorflow(code, REAL, NO_DCI)
    assert version == importlib.metadata.version("tensorflow")
    assert real["counts"] == "official"
    for metric in ("factor_vae", "sap"):
        assert real[metric] == light[metric]
    for metric in ("irs", "mig"):
        assert real[metric] == pytest.approx(light[metric], abs=1e-8)
    assert "tensorflow" not in sys.modules


@pytest.mark.slow
@needs_tensorflow
def test_dci_seeded_alike_is_the_same() -> None:
    load_settings(quick=True)
    bind(dci__num_train=500, dci__num_test=200)
    code = code_of(SMALL, 5)
    real, _ = score_with_tensorflow(code, SMALL, ("dci",))
    state = np.random.get_state()
    np.random.seed(0)
    data = GridRepresentations(code, SMALL)
    light = dci.compute_dci(data, identity, np.random.RandomState(0))  # imported without TensorFlow
    np.random.set_state(state)
    assert real["dci"] == pytest.approx(light, abs=1e-4)


@pytest.mark.slow
@needs_tensorflow
def test_what_cannot_be_scored_is_said_as_on_the_light_route() -> None:
    load_settings(quick=True)
    code = np.full((math.prod(SMALL), 3), np.nan)
    with pytest.raises(UserError, match="holds NaN or infinite values"):
        score_with_tensorflow(code, SMALL, ("mig",))


PROCESS = """
import inspect
from submission.metrics import tensorflow_route
tensorflow = tensorflow_route.import_tensorflow()
from submission.metrics import compute, dci
import gin.tf, disentanglement_lib.data.ground_truth.util as util
import disentanglement_lib.evaluation.metrics.dci as library
assert util.tf is tensorflow.compat.v1 and len(vars(tensorflow)) > 100
assert library.gin.tf is gin.tf and gin.tf.GinConfigSaverHook
assert tensorflow.estimator.SessionRunHook is tensorflow.compat.v1.train.SessionRunHook
for name in ("compute_dci", "compute_importance_gbt", "disentanglement", "completeness"):
    code = inspect.unwrap(getattr(library, name)).__code__  # gin wraps what it configures
    assert code.co_filename == library.__file__, name
print(tensorflow.__version__)
"""


@pytest.mark.slow
@needs_tensorflow
def test_modules_are_the_real_ones_and_the_library_is_as_published() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROCESS], capture_output=True, text=True, cwd=PROJECT, check=False
    )
    assert done.stdout.strip() == importlib.metadata.version("tensorflow"), done.stderr
    assert done.stderr == "", "what TensorFlow says at its import is kept back"
    files = importlib.metadata.files("disentanglement_lib") or []
    sources = [file for file in files if file.suffix == ".py" and "metrics" in file.parts]
    assert len(sources) > 10
    for file in sources:  # against the hashes of the wheel's own list
        digest = hashlib.sha256(file.read_binary()).digest()
        assert file.hash is not None
        assert file.hash.value == base64.urlsafe_b64encode(digest).decode().rstrip("=")


@pytest.mark.slow
@needs_tensorflow
def test_score_writes_which_tensorflow_it_was(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.pt"
    torch.jit.script(Codes()).save(str(model))
    found = {}
    for scorer in ("light", "tensorflow"):
        options = ["--scorer", scorer, "--quick", "--metrics", "sap,mig", "--device", "cpu"]
        assert main(["score", "--model", str(model), "--name", scorer, *options]) == 0
        folder = tmp_path / "home" / "runs" / scorer
        found[scorer] = json.loads((folder / "scores.json").read_text())
        assert found[scorer]["scorer"] == scorer
    assert found["light"]["scores"]["headline"] == found["tensorflow"]["scores"]["headline"]
    version = importlib.metadata.version("tensorflow")
    assert found["tensorflow"]["versions"] == found["light"]["versions"] | {"tensorflow": version}
    assert f"Scored with TensorFlow {version}" in " ".join(
        (folder / "scores.txt").read_text().split()
    )
    said = capfd.readouterr()
    assert "oneDNN" not in said.err
    assert "Traceback" not in said.err


TRAINING = """
import sys
from submission.__main__ import main
assert main(sys.argv[1:]) == 0
loaded = [name for name in sys.modules if name.partition(".")[0] in ("tensorflow", "keras")]
assert loaded == [], loaded
"""


@pytest.mark.slow
@needs_tensorflow
def test_a_training_imports_none_though_it_is_installed(data: Path, tmp_path: Path) -> None:
    """TensorBoard's writer would, and with it the curves."""
    small = ["train_vae.epochs=2", "Encoder.widths=(32,)", "Decoder.widths=(32,)"]
    command = [sys.executable, "-c", TRAINING, "run", "--device", "cpu", "--quick"]
    done = subprocess.run(
        [*command, "--metrics", "mig", *small], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "home" / "runs" / "dry_run").rglob("events.out.tfevents.*"))
