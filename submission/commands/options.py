"""Options that several commands share, and what they ask for as plain values."""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from submission.data.dataset import Dataset
from submission.data.own import open_any
from submission.features.weights import SHIPPED_WEIGHTS
from submission.metrics.settings import DCI_FITS, FURTHER, METRICS, ScoreOptions, chosen

T = TypeVar("T")


def add_bindings(parser: argparse.ArgumentParser) -> None:
    what = "gin bindings that override the configuration"
    parser.add_argument("bindings", nargs="*", metavar="Function.parameter=value", help=what)


def add_data(parser: argparse.ArgumentParser) -> None:
    """Which data set, and where; see dataset_of."""
    parser.add_argument("--dataset", help="default: AICROWD_DATASET_NAME, else mpi3d_real")
    what = (
        "folder of the data sets (default: DISENTANGLEMENT_LIB_DATA); or a set of your own, a file"
    )
    what += " or a folder of images (docs/datasets.md)"
    parser.add_argument("--data", type=Path, help=what)


def add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="the run's name; default: AICROWD_EVALUATION_NAME")


def add_device(parser: argparse.ArgumentParser) -> None:
    what = "cpu, cuda, cuda:1 ...; default: a GPU if there is one"
    parser.add_argument("--device", default="auto", help=what)


def add_weights(parser: argparse.ArgumentParser) -> None:
    what = "extractor; default: the shipped one"
    parser.add_argument("--weights", type=Path, default=SHIPPED_WEIGHTS, help=what)


def add_metrics(parser: argparse.ArgumentParser) -> None:
    what = "comma-separated, some of %(default)s"
    parser.add_argument("--metrics", default=",".join(METRICS), help=what)
    what = "how DCI's trees are grown: by our faster code (sorted), or by scikit-learn's"
    parser.add_argument("--dci", choices=DCI_FITS, default=DCI_FITS[0], help=what)
    add_quick(parser)


def add_further(parser: argparse.ArgumentParser) -> None:
    what = f"further numbers, not the challenge's: some of {','.join(FURTHER)}"
    parser.add_argument("--also", default="", help=what)


def add_quick(parser: argparse.ArgumentParser) -> None:
    what = "lowered sample counts; comparable with nothing else"
    parser.add_argument("--quick", action="store_true", help=what)


def add_training(parser: argparse.ArgumentParser) -> None:
    """What fills TrainOptions, but for --config."""
    for add in (add_bindings, add_data, add_name, add_weights, add_device):
        add(parser)
    what = "train so many and export the one that ranks first by UDR, without labels"
    parser.add_argument("--seeds", type=int, default=1, help=what)
    what = "begin no further seed that would end after so many hours from the start"
    left = "the same command goes on with the seeds that are left"
    parser.add_argument("--hours", type=float, help=f"{what}; {left}")
    what = "learn from so many images, drawn at random; the exported model takes any, and scoring "
    what += (
        "calls it on those that the metrics draw (score --drawn; FactorVAE draws 61 %% of a whole "
    )
    what += "grid of MPI3D, the others together 1.4 %%)"
    parser.add_argument("--images", type=int, metavar="N", help=what)
    what = "as 8g, 2GiB, 1500m: what the run may take; default: what the system says"
    parser.add_argument("--memory", help=what)


def dataset_of(args: argparse.Namespace) -> Dataset:
    """The data set of --data and --dataset, or of the challenge's variables."""
    return open_any(args.data, args.dataset)


def filled(kind: type[T], args: argparse.Namespace, **others: Any) -> T:
    """A dataclass of the arguments that its fields are named after, and of `others`."""
    names = [field.name for field in fields(kind) if field.name in args]  # type: ignore[arg-type]
    return kind(**{name: getattr(args, name) for name in names} | others)


def scoring_of(args: argparse.Namespace) -> ScoreOptions:
    return filled(ScoreOptions, args, metrics=chosen(args.metrics), also=further_of(args))


def further_of(args: argparse.Namespace) -> tuple[str, ...]:
    also = getattr(args, "also", "")
    return chosen(also, FURTHER, "--also") if also else ()
