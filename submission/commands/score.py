"""`score`: the five official numbers of an exported model, beside an ideal code's."""

import argparse
from pathlib import Path

from submission.commands import options
from submission.metrics.settings import SCORERS
from submission.pipeline.score import score_run
from submission.runtime import paths
from submission.runtime.files import locked
from submission.runtime.usage import Stages


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for add in (options.add_metrics, options.add_data, options.add_name, options.add_device):
        add(parser)
    parser.add_argument("--model", type=Path, help="exported model; default: that of the run")
    what = "the scorer's own route: call the model on images for every metric (slow)"
    route = parser.add_mutually_exclusive_group()
    route.add_argument("--stock", action="store_true", help=what)
    what = "tensorflow: with real TensorFlow, as the server's grader did (default: %(default)s)"
    route.add_argument("--scorer", choices=SCORERS, default=SCORERS[0], help=what)


def run(args: argparse.Namespace) -> None:
    """Scores one run's model and prints the table; files as in `score_run`."""
    dataset, stages = options.dataset_of(args), Stages()
    folder = paths.run_folder(args.name)
    with locked(folder / ".lock", "wait for it, or give this one another --name"):
        score_run(dataset, folder, options.scoring_of(args), stages, args.model)
    print(f"\n{(folder / 'scores.txt').read_text()}\n{stages.table()}\n\nin {folder}")
