"""`score`: the five official numbers of an exported model, beside an ideal code's."""

import argparse
from dataclasses import replace
from pathlib import Path

from submission.commands.options import (
    add_data,
    add_device,
    add_metrics,
    add_name,
    dataset_of,
    scoring_of,
)
from submission.pipeline.score import score_run
from submission.runtime import paths
from submission.runtime.files import locked
from submission.runtime.usage import Stages


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_metrics(parser)
    add_data(parser)
    add_name(parser)
    parser.add_argument("--model", type=Path, help="exported model; default: that of the run")
    add_device(parser)
    what = "the scorer's own route: call the model on images for every metric (slow)"
    parser.add_argument("--stock", action="store_true", help=what)


def run(args: argparse.Namespace) -> None:
    """Scores one run's model and prints the table; files as in `score_run`."""
    dataset = dataset_of(args)
    folder = paths.run_folder(args.name)
    stages = Stages()
    with locked(folder / ".lock", "wait for it, or give this one another --name"):
        options = replace(scoring_of(args), stock=args.stock)
        score_run(dataset, folder, options, stages, args.model)
    print(f"\n{(folder / 'scores.txt').read_text()}\n{stages.table()}\n\nin {folder}")
