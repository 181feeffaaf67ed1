"""Kinds of hyper-parameters: a signature's annotation says what a gin file may bind.

    def beta_at_epoch(t: int, beta_start: Weight = gin.REQUIRED, ...)

`runtime/config.py` reads the annotations; there is no second table.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple


class Kind(NamedTuple):
    """What a value must be: a test, and the words for the user."""

    good: Callable[[Any], bool]
    words: str


def _whole(low: int, high: int = 2**31) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value < high


def _number(low: float, high: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: (
        type(value) in (int, float) and math.isfinite(value) and low <= value <= high
    )


def _several(one: Callable[[Any], bool], count: int | None = None) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, tuple | list)
        and (len(value) == count if count else len(value) > 0)
        and all(map(one, value))
    )


def _or_none(one: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or one(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


Count = Annotated[int, Kind(_whole(1), "a whole number in 1..2147483647")]
CountOrNone = Annotated[
    int | None, Kind(_or_none(_whole(1)), "a whole number of at least 1, or None")
]
Several = Annotated[int, Kind(_whole(2), "a whole number in 2..2147483647")]
Whole = Annotated[int, Kind(_whole(0), "a whole number in 0..2147483647")]
Rate = Annotated[float, Kind(_number(1e-30), "a finite number above 0")]
RateOrNone = Annotated[
    float | None, Kind(_or_none(_number(1e-30)), "a finite number above 0, or None")
]
Weight = Annotated[float, Kind(_number(0), "a finite number of at least 0")]
Share = Annotated[float, Kind(_number(0, 1), "a number in 0..1")]
Shares = Annotated[
    Sequence[float],
    Kind(
        lambda value: _several(_number(0, 1), 3)(value) and sum(value) > 0,
        "three numbers in 0..1 in brackets, not all of them 0",
    ),
]
Betas = Annotated[
    tuple[float, float],
    Kind(_several(_number(0, 0.999999), 2), "two numbers in 0..1, 1 excluded, in brackets"),
]
Widths = Annotated[
    Sequence[int],
    Kind(_several(_whole(1, 2**20)), "whole numbers in 1..1048575 in brackets: (512, 512)"),
]
Switch = Annotated[bool, Kind(lambda value: type(value) is bool, "True or False")]
Optimizer = Annotated[str, Kind(lambda value: value in ("radam", "adam"), "'radam' or 'adam'")]
Schedule = Annotated[
    str, Kind(lambda value: value in ("constant", "cosine"), "'constant' or 'cosine'")
]
Text = Annotated[str, Kind(_is_text, "text in quotes")]
Texts = Annotated[Sequence[str], Kind(_several(_is_text), "texts in brackets")]
