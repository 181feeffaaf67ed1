"""Arguments that several commands share."""

import argparse
from pathlib import Path


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
