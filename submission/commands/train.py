"""`train`: what the server runs. Data -> features -> VAE -> TorchScript, and the events."""

import argparse
from pathlib import Path

from submission.commands.options import add_training, dataset_of, filled
from submission.pipeline.memory_plan import log_comparison
from submission.pipeline.train import TrainOptions, train, working_in
from submission.runtime import paths, signals
from submission.runtime.errors import first_line
from submission.runtime.usage import Stages
from submission.server import events


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_training(parser)
    parser.add_argument("--config", type=Path, default=Path("public.gin"), help="gin file")


def run(args: argparse.Namespace) -> None:
    """The server's job. The grader hears of the start, the progress, and the end or the error."""
    events.execution_started()
    events.register_progress(0.0)
    try:
        with signals.stoppable():
            dataset, stages = dataset_of(args), Stages()
            folder, progress = paths.run_folder(args.name), events.register_progress
            options = filled(TrainOptions, args, for_grading=events.is_grading())
            with working_in(folder):
                planned = train(dataset, folder, options, stages, on_progress=progress)
            events.register_progress(1.0)
            log_comparison(planned, stages)
            print(f"\n{stages.table()}\n\nexported: {paths.model_path(folder)}")
    except BaseException as error:
        events.execution_error(first_line(error) or type(error).__name__)
        raise
    events.submit()
