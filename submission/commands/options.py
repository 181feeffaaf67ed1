"""Arguments that several commands share."""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def filled(kind: type[T], args: argparse.Namespace, **others: Any) -> T:
    """A dataclass of the arguments that its fields are named after, and of `others`."""
    names = [field.name for field in fields(kind) if field.name in args]  # type: ignore[arg-type]
    return kind(**{name: getattr(args, name) for name in names} | others)


def add_bindings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bindings", nargs="*", metavar="Function.parameter=value",
        help="gin bindings that override the configuration",
    )  # fmt: skip


def add_data(parser: argparse.ArgumentParser) -> None:
    """Which data set, and where."""
    parser.add_argument("--dataset", help="default: AICROWD_DATASET_NAME, else mpi3d_real")
    parser.add_argument(
        "--data", type=Path, help="folder of the data sets; default: DISENTANGLEMENT_LIB_DATA"
    )
