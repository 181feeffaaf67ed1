"""`score`: the five official numbers of an exported model, beside an ideal code's."""

import argparse
from pathlib import Path

from submission.data.dataset import open_dataset
from submission.metrics.settings import METRICS
from submission.pipeline.score import score_run
from submission.runtime import paths
from submission.runtime.files import locked
from submission.runtime.usage import Stages


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_scoring_arguments(parser)
    parser.add_argument("--dataset", help="default: AICROWD_DATASET_NAME, else mpi3d_real")
    parser.add_argument(
        "--data", type=Path, help="folder of the data sets; default: DISENTANGLEMENT_LIB_DATA"
    )
    parser.add_argument("--name", help="the run's name; default: AICROWD_EVALUATION_NAME")
    parser.add_argument("--model", type=Path, help="exported model; default: that of the run")
    parser.add_argument("--device", default="auto", help="cpu, cuda ...; default: a GPU if any")
    parser.add_argument(
        "--stock", action="store_true",
        help="the scorer's own route: call the model on images for every metric (slow)",
    )  # fmt: skip


def add_scoring_arguments(parser: argparse.ArgumentParser) -> None:
    """What `score` and `run` share."""
    parser.add_argument(
        "--metrics", default=",".join(METRICS),
        help="comma-separated, some of %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="lowered sample counts; comparable with nothing else"
    )


def run(args: argparse.Namespace) -> None:
    """Scores one run's model and prints the table; files as in `score_run`."""
    dataset = open_dataset(args.data or paths.data_folder(), args.dataset or paths.dataset_name())
    folder = paths.run_folder(args.name)
    stages = Stages()
    with locked(folder / ".lock", "wait for it, or give this one another --name"):
        score_run(dataset, folder, args, stages, args.model, args.stock)
    print(f"\n{(folder / 'scores.txt').read_text()}\n{stages.table()}\n\nin {folder}")
