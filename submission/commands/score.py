"""`score`: the five official numbers of an exported model, or of codes, beside an ideal code's."""

import argparse
from pathlib import Path

from submission.commands import options
from submission.metrics.settings import DCI_FITS, SCORERS, chosen
from submission.pipeline.score import score_run
from submission.pipeline.score_codes import CodeOptions, score_codes
from submission.runtime import paths
from submission.runtime.errors import UserError
from submission.runtime.files import locked
from submission.runtime.usage import Stages


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for add in (options.add_metrics, options.add_data, options.add_name, options.add_device):
        add(parser)
    options.add_further(parser)
    what = "TorchScript or ONNX file, images -> codes; default: the run's exported model"
    parser.add_argument("--model", type=Path, help=what)
    what = (
        "compute codes of the images that the metrics draw, and of no others: of MPI3D's 1,036,800 "
    )
    what += "14,893 for all metrics but FactorVAE, which draws 629,568"
    parser.add_argument("--drawn", action="store_true", help=what)
    what = "in place of a model: npz or CSV file of codes and their factors (docs/codes.md)"
    parser.add_argument("--codes", type=Path, help=what)
    what = "of --codes: CSV file of the factors, if they are not in the same file"
    parser.add_argument("--factors", type=Path, help=what)
    what = "of --codes: folder to write scores.json and scores.txt into"
    parser.add_argument("--out", type=Path, help=what)
    what = "the scorer's own route: call the model on images for every metric (slow)"
    route = parser.add_mutually_exclusive_group()
    route.add_argument("--stock", action="store_true", help=what)
    what = "tensorflow: with it, as the server's grader did; light (the default): without"
    route.add_argument("--scorer", choices=SCORERS, default=SCORERS[0], help=what)


def run(args: argparse.Namespace) -> None:
    """Scores one run's model, or a file of codes, and prints the table; files as in `score_run` and
    `score_codes`."""
    _check_together(args)
    if args.codes:
        metrics, also = chosen(args.metrics), options.further_of(args)
        print(score_codes(options.filled(CodeOptions, args, metrics=metrics, also=also)))
        return
    dataset, stages = options.dataset_of(args), Stages()
    folder = paths.run_folder(args.name)
    with locked(folder / ".lock", "wait for it, or give this one another --name"):
        score_run(dataset, folder, options.scoring_of(args), stages, args.model)
    print(f"\n{(folder / 'scores.txt').read_text()}\n{stages.table()}\n\nin {folder}")


def _check_together(args: argparse.Namespace) -> None:
    """Refuses options that would have no effect."""
    models = ("model", "dataset", "data", "name", "stock", "drawn")
    others = models if args.codes else ("factors", "out")
    if wrong := [name for name in others if getattr(args, name)]:
        what = "does not go with --codes" if args.codes else "goes with --codes only"
        raise UserError(f"--{wrong[0]} {what}: leave it out")
    if args.codes and (args.scorer, args.dci, args.device) != (SCORERS[0], DCI_FITS[0], "auto"):
        raise UserError("--scorer, --dci and --device do not go with --codes: leave them out")
