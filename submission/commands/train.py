"""`train`: what the server runs. Data -> features -> VAE -> TorchScript, and the events."""

import argparse
from pathlib import Path

from submission.commands import options
from submission.data.dataset import open_dataset
from submission.features.weights import SHIPPED_WEIGHTS
from submission.pipeline.memory_plan import log_comparison
from submission.pipeline.train import train, working_in
from submission.runtime import paths, signals
from submission.runtime.errors import first_line
from submission.runtime.usage import Stages
from submission.server import events


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_training_arguments(parser)
    parser.add_argument("--config", type=Path, default=Path("public.gin"), help="gin file")


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """What `train` and `run` share."""
    options.add_bindings(parser)
    options.add_data(parser)
    parser.add_argument("--name", help="the run's name; default: AICROWD_EVALUATION_NAME")
    parser.add_argument(
        "--weights", type=Path, default=SHIPPED_WEIGHTS, help="extractor; default: the shipped one"
    )
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 ...; default: a GPU if there is one"
    )
    parser.add_argument(
        "--seeds", type=int, default=1,
        help="train so many and export the one that ranks first by UDR, without labels",
    )  # fmt: skip
    parser.add_argument(
        "--hours", type=float,
        help="begin no further seed that would end after so many hours from the start; the same "
        "command goes on with the seeds that are left",
    )  # fmt: skip
    parser.add_argument(
        "--memory", help="as 8g, 2GiB, 1500m: what the run may take; default: what the system says"
    )


def run(args: argparse.Namespace) -> None:
    """The server's job. The grader hears of the start, the progress, and the end or the error."""
    events.execution_started()
    try:
        with signals.stoppable():
            dataset = open_dataset(
                args.data or paths.data_folder(), args.dataset or paths.dataset_name()
            )
            folder = paths.run_folder(args.name)
            stages = Stages()
            with working_in(folder):
                planned = train(dataset, folder, args, stages)
            log_comparison(planned, stages)
            print(f"\n{stages.table()}\n\nexported: {paths.model_path(folder)}")
    except BaseException as error:
        events.execution_error(first_line(error) or type(error).__name__)
        raise
    events.submit()
