"""What a run's folder says, and the data set that it was scored on."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from submission.data.dataset import Dataset, find_file, open_file, verify
from submission.data.factors import FACTOR_NAMES
from submission.data.kit import KIT_NAMES
from submission.data.own import open_any, open_own
from submission.metrics.settings import OFFICIAL
from submission.pipeline.train import RECORD
from submission.runtime import paths
from submission.runtime.errors import UserError
from submission.runtime.files import read_csv


@dataclass(frozen=True)
class Run:
    """What a run's folder says: scores.json, config.gin, losses.csv, groups.csv, stages.json,
    exported.json and udr.txt (empty where there is no such file). `losses` has the rows of each VAE
    of the exported model: under "" that of a single one, else under the group's name."""

    folder: Path
    scores: dict[str, Any]
    config: str
    losses: dict[str, list[dict[str, float]]]
    groups: list[dict[str, str]]
    stages: dict[str, dict[str, float]]
    made_of: dict[str, Any]
    ranking: str

    @property
    def name(self) -> str:
        return self.folder.resolve().name


def scored(folders: Sequence[Path]) -> list[Path]:
    """The runs that have scores, so that a seed that failed hides no other. Where none has any, all
    of them: reading them says what is missing."""
    return [f for f in folders if (f / "scores.json").is_file() or not f.is_dir()] or [*folders]


def read_run(folder: Path) -> Run:
    """Reads what a run left in its folder; UserError for no such folder, no scores in it, or a
    damaged file."""
    if not folder.is_dir():
        raise UserError(f"no run {folder}: name the folder that `run` or `train` wrote")
    if not (folder / "scores.json").is_file():
        if not paths.model_path(folder).is_file():
            what = f"{folder} has neither scores.json nor an exported model"
            remedy = "repeat the command that trains it, which goes on where it was"
            raise UserError(f"{what}: {remedy}")
        score = f"python -m submission score --name {folder.resolve().name}"
        remedy = f"`AICROWD_OUTPUT_PATH={folder.parent} {score}` with the run's --data, --dataset"
        raise UserError(f"{folder} has no scores.json: make it by {remedy}")
    scores = _read(folder / "scores.json", _scores, {})
    config = _read(folder / "config.gin", Path.read_text, "")
    best = _read(folder / "udr.json", lambda file: f"seed_{_json(file)['best_seed']}", "")
    groups: list[dict[str, str]] = []
    files = {"": folder / best / "losses.csv"}
    if "train_groups.groups" in config:
        groups, files = _read(folder / best / "groups.csv", _groups, (groups, files))
    losses = {name: _read(file, _numbers, []) for name, file in files.items() if file.is_file()}
    stages = _read(folder / "stages.json", _json, {})
    one_seed = {"weights": "", "seeds": 1, "trained": 1}
    made_of = _read(folder / RECORD, lambda file: one_seed | _json(file), one_seed)
    if "unfinished" in made_of:
        why = "its scores are of the model before, its curves are not"
        what = f"{folder} has been trained anew and not to the end: {why}"
        raise UserError(f"{what}; repeat the command that trains it")
    ranking = _read(folder / "udr.txt", Path.read_text, "")
    return Run(folder, scores, config, losses, groups, stages, made_of, ranking)


def _read(file: Path, parse: Callable[[Path], Any], default: Any) -> Any:
    """What `parse` makes of a file; the default if there is no such file."""
    try:
        return parse(file) if file.is_file() else default
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{file} cannot be read ({type(error).__name__}: {error})"
        raise UserError(f"{what}: train or score the run again") from error


def _json(file: Path) -> Any:
    return json.loads(file.read_text())


def _scores(file: Path) -> dict[str, Any]:
    scores: dict[str, Any] = _json(file)
    for part in (scores["scores"], scores["paper"], scores["ideal_code"]):
        if part and not all(isinstance(value, float) for value in part["headline"].values()):
            raise ValueError("a score is no number")
    if scores["scores"]["settings"].keys() != OFFICIAL.keys():
        raise ValueError("settings are missing")
    scores["data"].setdefault("sample", False)  # not so in older ones, as the next
    names = scores["data"].setdefault("factor_names", list(FACTOR_NAMES))
    if not len(scores["data"]["factor_sizes"]) >= len(names) >= 2:
        raise ValueError("factor_sizes are missing")
    if not all(isinstance(v, str) for v in (scores["data"]["md5"], scores["model_sha256"])):
        raise ValueError("it does not say of which data and model")
    for matrix in (scores["scores"].get(name, []) for name in ("importance", "information")):
        if any(len(row) != len(names) for row in matrix) or not np.isfinite(matrix).all():
            raise ValueError("a matrix is not of finite numbers, one for each factor")
    return scores


def _groups(file: Path) -> tuple[list[dict[str, str]], dict[str, Path]]:
    """The groups, and where the losses of those are that a VAE was trained on."""
    groups = read_csv(file)
    pairs = [(row["group"], row["start"]) for row in groups if int(row["components"]) > 1]
    folders = {f"group {g}": file.parent / f"group_{g}" / f"start_{start}" for g, start in pairs}
    return groups, {name: folder / "losses.csv" for name, folder in folders.items()}


def _numbers(file: Path) -> list[dict[str, float]]:
    return [{name: float(value) for name, value in row.items()} for row in read_csv(file)]


def scored_dataset(this: Run, folder: Path | None, name: str | None) -> tuple[Dataset, str]:
    """The data set that the scores were measured on, and its MD5; UserError unless it is there."""
    said = this.scores["data"]
    sizes = tuple(said["factor_sizes"])
    name = name or said["name"].split()[-1]  # "a rendered stand-in for mpi3d_real"
    # Where `run` leaves the stand-in that it renders.
    folder_name = f"real_axis_steps_{sizes[-1]}"
    rendered = paths.home() / "stand_in" / folder_name / "mpi3d_real" / "mpi3d_real.npz"
    if name in KIT_NAMES:
        dataset = open_any(folder, name)
    elif folder is None and said["domain"] == "":  # no set of MPI3D's
        if not (path := Path(this.scores.get("data_path", ""))).is_file():
            raise UserError(
                f"the images of {said['name']} are not in {path}: name them with --data"
            )
        dataset = open_own(path)
    elif folder is not None and (folder.is_file() or said["domain"] == ""):
        dataset = open_any(folder)
    elif folder is None and _missing(name) and said["stand_in"] and rendered.is_file():
        dataset = open_file(rendered, "mpi3d_real")
    else:
        dataset = open_any(folder, name)
    md5 = verify(dataset)
    if md5 != said["md5"]:
        data = f"{said['name']}, {' x '.join(map(str, sizes))}, MD5 {said['md5'][:8]}..."
        what = f"{dataset.path} is not what {this.folder} was scored on ({data})"
        raise UserError(f"{what}: name its folder with --data")
    return dataset, md5


def _missing(name: str) -> bool:
    return find_file(paths.data_folder(), name)[1] is None
