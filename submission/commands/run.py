"""`run`: what run.sh calls. On the server the submission's job, anywhere else a local dry run."""

import argparse
import logging
from pathlib import Path

from submission.commands import train as server_job
from submission.commands.options import add_metrics, add_training, filled, scoring_of
from submission.data.dataset import Dataset, find_file, open_dataset, open_file
from submission.pipeline.configuration import load_training
from submission.pipeline.memory_plan import log_comparison
from submission.pipeline.score import score_run
from submission.pipeline.train import TrainOptions, train, working_in
from submission.runtime import paths, signals
from submission.runtime.usage import Stages
from submission.server import events

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_training(parser)
    add_metrics(parser)
    what = "gin file; default: public.gin on the server, else dry_run.gin"
    parser.add_argument("--config", type=Path, help=what)
    what = "of the rendered stand-in (default: %(default)s)"
    parser.add_argument("--axis-steps", type=int, default=4, help=what)


def run(args: argparse.Namespace) -> None:
    """Trains and exports; off the server renders a stand-in if need be, and scores, too."""
    args.config = args.config or Path("public.gin" if events.is_grading() else "dry_run.gin")
    if events.is_grading():
        server_job.run(args)
        return
    # What is mistyped is heard of now, not after the rendering or the training.
    scoring, options = scoring_of(args), filled(TrainOptions, args)
    load_training(args.config, args.bindings)
    folder = paths.run_folder(args.name, default="dry_run")
    stages = Stages()
    with signals.stoppable(), working_in(folder):
        dataset, rendered = _named_or_rendered(args, stages)
        print(f"\n{dataset.description}\n")
        planned = train(dataset, folder, options, stages, scoring=True, rendered=rendered)
        score_run(dataset, folder, scoring, stages, looked_at=True)
        log_comparison(planned, stages)
        stages.write(folder / "stages.json")
        scores = (folder / "scores.txt").read_text()
        print(f"\n{scores}\n{stages.table()}\n\neverything is in {folder}")


def _named_or_rendered(args: argparse.Namespace, stages: Stages) -> tuple[Dataset, bool]:
    """The named data set if its file is there, else a rendered stand-in; and whether it is that."""
    folder, name = args.data or paths.data_folder(), args.dataset or paths.dataset_name()
    # Who names a data set wants that one, or to hear that it is missing.
    named = args.dataset or args.data or paths.data_is_named()
    if named or find_file(folder, name)[1]:
        return open_dataset(folder, name), False
    log.info("no %s in %s: using a stand-in for mpi3d_real, rendered here", name, folder)
    from submission.render.stand_in import write_stand_in  # here: its compiler takes memory

    folder = paths.home() / "stand_in" / f"real_axis_steps_{args.axis_steps}"
    path = folder / "mpi3d_real" / "mpi3d_real.npz"
    if not path.exists():
        with stages.stage("rendering"):
            write_stand_in(folder, "real", args.axis_steps, seed=0)
    return open_file(path, "mpi3d_real"), True
