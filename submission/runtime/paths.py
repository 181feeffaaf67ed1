"""Where things are: the challenge's environment variables and their defaults at home."""

import os
import tempfile
from pathlib import Path

from submission.runtime.errors import UserError

PACKAGE = Path(__file__).resolve().parent.parent
# The checkout. An installed package has none: there it is the folder that it is called from.
PROJECT = PACKAGE.parent if (PACKAGE.parent / "prepare.sh").is_file() else Path.cwd()
CONFIGS = PACKAGE / "configs"
WEIGHTS = PACKAGE / "weights"


def _path(text: str | Path) -> Path:
    """With the home folder for a leading ~, which no shell has put in for a quoted one."""
    return Path(text).expanduser()


def home() -> Path:
    """A folder this user may write to: SUBMISSION_HOME, else `scratch` in the project, else (where
    the checkout is another user's, or read-only) one in the temporary folder. Raises UserError if
    that is a link to nowhere: an unmounted disk's results belong nowhere else."""
    named = os.environ.get("SUBMISSION_HOME")  # set and empty counts as not set, as in prepare.sh
    folder = _path(named) if named else PROJECT / "scratch"
    if missing := _missing_target(folder):
        raise UserError(f"{missing}: make that folder, or remove the link")
    if named or os.access(folder if folder.exists() else PROJECT, os.W_OK):
        return folder
    return Path(tempfile.gettempdir()) / f"disentanglement-submission-{os.getuid()}"


def _missing_target(folder: Path) -> str:
    """What is wrong if the folder is, or lies in, a link to nowhere; else nothing."""
    for place in (folder, *folder.parents):
        # os.path's answer False where a name is too long.
        if os.path.islink(place) and not os.path.exists(place):
            return f"{place} is a link to {place.readlink()}, which is not there"
    return ""


def _reason(error: OSError, folder: Path) -> str:
    """Why a folder cannot be made; the system calls a link to nowhere a file that exists."""
    return _missing_target(folder) or str(error.strerror)


def data_folder() -> Path:
    """DISENTANGLEMENT_LIB_DATA: holds `<name>/<name>.npz`."""
    return _path(os.environ.get("DISENTANGLEMENT_LIB_DATA") or home() / "dataset")


def data_is_named() -> bool:
    """Whether the environment says which data set, or where."""
    return any(map(os.environ.get, ("DISENTANGLEMENT_LIB_DATA", "AICROWD_DATASET_NAME")))


def dataset_name() -> str:
    """AICROWD_DATASET_NAME, by default mpi3d_real."""
    return os.environ.get("AICROWD_DATASET_NAME") or "mpi3d_real"


def run_folder(name: str | None = None, default: str = "experiment", suffix: str = "") -> Path:
    """`AICROWD_OUTPUT_PATH/AICROWD_EVALUATION_NAME`, which holds everything one run writes; with a
    suffix it is one of several runs of that name. Raises UserError if it cannot be made or written
    to, or the name is no plain folder name."""
    output = _path(os.environ.get("AICROWD_OUTPUT_PATH") or home() / "runs")
    name = (name or os.environ.get("AICROWD_EVALUATION_NAME") or default) + suffix
    if Path(name).name != name or name in (".", ".."):
        what = f"the evaluation name {name!r} (AICROWD_EVALUATION_NAME, --name)"
        raise UserError(f"{what} must be a plain folder name without slashes")
    folder = output / name
    try:
        (folder / "representation" / "results").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the output folder {folder} cannot be written ({_reason(error, folder)})"
        raise UserError(f"{what}: set AICROWD_OUTPUT_PATH to one that can") from error
    return folder


def cache_folder() -> Path:
    """SUBMISSION_CACHE, else `cache` in home(): features, shared by runs."""
    return _path(os.environ.get("SUBMISSION_CACHE") or home() / "cache")


def make_folder(folder: Path, remedy: str) -> None:
    """Makes the folder unless it is there; raises UserError, its text ending in `remedy`, if it
    cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = _reason(error, folder)
        raise UserError(f"{folder} cannot be written ({why}): {remedy}") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder} cannot be written: {remedy}")


def model_path(folder: Path) -> Path:
    """Where the scorer looks for a run's exported model."""
    return folder / "representation" / "pytorch_model.pt"
