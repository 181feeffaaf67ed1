"""`pip install .`: a wheel of the checkout in an environment of its own, called from elsewhere."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from patches import write_patches

from submission.runtime.paths import PROJECT
from submission.server.preflight import lock_pins

pytestmark = pytest.mark.slow

Call = Callable[..., subprocess.CompletedProcess[str]]
SMALL = ["--device", "cpu", "--quick", "--metrics", "mig,irs", "train_vae.epochs=2"]
SMALL += ["Encoder.widths=(32,)", "Decoder.widths=(32,)", "VAE.latents=4"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns(".git", ".venv", "scratch", "__pycache__", ".*_cache")
    shutil.copytree(PROJECT, folder / "copy", ignore=ignore)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(folder / "copy")], check=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv that has the wheel, and sees this one's packages (another PyTorch would be 5 GB)."""
    venv = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    seen = [sysconfig.get_paths()["purelib"], *filter(lambda p: "site-packages" in p, sys.path)]
    (site / "seen.pth").write_text("\n".join(dict.fromkeys(seen)) + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install"]
    # With TensorFlow here, too, pip finds all that the wheel asks for.
    install += [] if importlib.util.find_spec("tensorflow") else ["--no-deps"]
    subprocess.run([*install, "--quiet", "--no-index", str(wheel)], check=True)
    return venv


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_patches(folder, (2,) * 7, red=(1, 100), blue=(0, 210))
    return folder


@pytest.fixture
def call(environment: Path, data: Path, tmp_path: Path) -> Call:
    """Runs one of the environment's programs in a folder that is empty at first."""
    dropped = ("AICROWD", "DISENT", "SUBMISSION", "PYTHON", "MPL")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    kept |= {"DISENTANGLEMENT_LIB_DATA": str(data), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(environment / "bin" / program), *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=kept, capture_output=True, text=True, check=False
        )

    return run


def test_the_wheel_holds_the_package_and_asks_for_what_it_needs(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "-C", str(PROJECT), "ls-files", "submission"], capture_output=True, text=True
    ).stdout.split()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (about,) = [name for name in names if name.endswith("/METADATA")]
        metadata = archive.read(about).decode()
    assert len(listed) > 100
    held = {name for name in names if ".dist-info/" not in name}
    assert held == set(listed)
    asked = {
        line.removeprefix("Requires-Dist: ")
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    }
    files = ("requirements.in", "requirements-tensorflow.in")
    lines = [line for file in files for line in (PROJECT / file).read_text().splitlines()]
    assert asked == {line.partition("#")[0].strip() for line in lines} - {""}
    assert asked < set(lock_pins((PROJECT / "requirements-tensorflow.lock").read_text()))


def test_it_trains_scores_and_reports_and_leaves_itself_alone(
    call: Call, environment: Path, tmp_path: Path
) -> None:
    (package,) = environment.glob("lib/python*/site-packages/submission")
    before = {path for path in package.parent.rglob("*") if "__pycache__" not in path.parts}
    done = call("disentanglement-submission", "run", *SMALL)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "scratch" / "runs" / "dry_run"
    assert f"everything is in {folder}" in done.stdout
    done = call("disentanglement-submission", "report", "--run", str(folder))
    assert done.returncode == 0, done.stderr
    assert (folder / "report.html").is_file()
    program = "from submission.render import rig, stand_in; print(rig.__file__)"
    done = call("python", "-c", program)
    assert done.stdout.startswith(f"{package}/"), done.stderr
    after = {path for path in package.parent.rglob("*") if "__pycache__" not in path.parts}
    assert after == before
    assert {path.name for path in tmp_path.iterdir()} == {"scratch"}


THREAD = """
import sys, threading
import submission
from submission.__main__ import main
codes = []
thread = threading.Thread(target=lambda: codes.append(main(sys.argv[1:])))
thread.start()
thread.join()
print("main returned", codes)
"""


def test_main_runs_in_a_thread(call: Call, tmp_path: Path) -> None:
    """As in a notebook, where signals are the main thread's."""
    done = call("python", "-c", THREAD, "run", *SMALL)
    assert "main returned [0]" in done.stdout, done.stderr
    assert (tmp_path / "scratch" / "runs" / "dry_run" / "scores.json").is_file()


def test_it_runs_without_docstrings_and_asserts(call: Call, tmp_path: Path) -> None:
    done = call("python", "-OO", "-m", "submission", "run", *SMALL)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scratch" / "runs" / "dry_run" / "scores.json").is_file()
    assert call("python", "-OO", "-m", "submission", "--help").returncode == 0


def test_check_is_of_the_checkout_that_it_is_called_in(call: Call, tmp_path: Path) -> None:
    done = call("disentanglement-submission", "check")
    assert done.returncode == 2
    assert f"git rev-parse in {tmp_path}: " in done.stderr
