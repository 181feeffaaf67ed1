"""What a run's folder says, and the data set that it was scored on."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submission.data.dataset import Dataset, find_file, open_dataset, open_file, verify
from submission.data.factors import FACTOR_NAMES
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

    @property
    def headline(self) -> dict[str, float]:
        values: dict[str, float] = self.scores["scores"]["headline"]
        return values


def read_run(folder: Path) -> Run:
    """Reads what a run left in its folder.

    Raises:
        UserError: no such folder, no scores in it, or a file of it is damaged.
    """
    if not folder.is_dir():
        raise UserError(f"no run {folder}: name the folder that `run` or `train` wrote")
    file = folder / "scores.json"
    if not file.is_file():
        if not paths.model_path(folder).is_file():
            raise UserError(
                f"{folder} has neither scores.json nor an exported model: repeat the command that "
                "trains it, which goes on where it was"
            )
        raise UserError(
            f"{folder} has no scores.json: make it by `AICROWD_OUTPUT_PATH={folder.parent} python "
            f"-m submission score --name {folder.resolve().name}` with the run's --data, --dataset"
        )
    config, stages, ranking, record, udr = (
        folder / n for n in ("config.gin", "stages.json", "udr.json", RECORD, "udr.txt")
    )
    try:
        scores = json.loads(file.read_text())
        for part in (scores["scores"], scores["paper"], scores["ideal_code"] or scores["paper"]):
            if not all(isinstance(value, float) for value in part["headline"].values()):
                raise ValueError("a score is no number")
        if scores["scores"]["settings"].keys() != OFFICIAL.keys():
            raise ValueError("settings are missing")
        if len(scores["data"]["factor_sizes"]) != len(FACTOR_NAMES):
            raise ValueError("factor_sizes are missing")
        if not all(isinstance(v, str) for v in (scores["data"]["md5"], scores["model_sha256"])):
            raise ValueError("it does not say of which data and model")
        file = config
        text = file.read_text() if file.is_file() else ""
        file = ranking
        trained = folder
        if file.is_file():
            trained = folder / f"seed_{json.loads(file.read_text())['best_seed']}"
        losses = {"": trained / "losses.csv"}
        file = trained / "groups.csv"
        groups = []
        if "train_groups.groups" in text and file.is_file():
            groups = read_csv(file)
            losses = {
                f"group {row['group']}": trained
                / f"group_{row['group']}" / f"start_{row['start']}" / "losses.csv"
                for row in groups
                if int(row["components"]) > 1
            }  # fmt: skip
        rows = {}
        for name, file in losses.items():
            if file.is_file():
                rows[name] = [{k: float(v) for k, v in row.items()} for row in read_csv(file)]
        file = stages
        times = json.loads(file.read_text()) if file.is_file() else {}
        file = record
        made_of = {"weights": "", "seeds": 1, "trained": 1}
        if file.is_file():
            made_of |= json.loads(file.read_text())
        if "unfinished" in made_of:
            raise UserError(
                f"{folder} has been trained anew and not to the end: its scores are of the model "
                "before, its curves are not; repeat the command that trains it"
            )
        file = udr
        ranked = file.read_text() if file.is_file() else ""
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} cannot be read ({type(error).__name__}: {error}): train or score the run again"
        ) from error
    return Run(folder, scores, text, rows, groups, times, made_of, ranked)


def dataset_of(this: Run, folder: Path | None, name: str | None) -> tuple[Dataset, str]:
    """The data set that the scores were measured on, and its MD5."""
    said = this.scores["data"]
    sizes = tuple(said["factor_sizes"])
    name = name or said["name"].split()[-1]  # "a rendered stand-in for mpi3d_real"
    # Where `run` leaves the stand-in that it renders.
    rendered = paths.home() / "stand_in" / f"real_axis_steps_{sizes[-1]}"
    rendered = rendered / "mpi3d_real" / "mpi3d_real.npz"
    official = find_file(paths.data_folder(), name)[1]
    if folder is None and official is None and said["stand_in"] and rendered.is_file():
        dataset = open_file(rendered, "mpi3d_real")
    else:
        dataset = open_dataset(folder or paths.data_folder(), name)
    md5 = verify(dataset)
    if md5 != said["md5"]:
        raise UserError(
            f"{dataset.path} is not what {this.folder} was scored on ({said['name']}, "
            f"{' x '.join(map(str, sizes))}, MD5 {said['md5'][:8]}...): name its folder with --data"
        )
    return dataset, md5
