"""Kinds of hyper-parameters: a signature's annotation says what a gin file may bind, as in
`beta_at_epoch(t: int, beta_start: Weight = gin.REQUIRED)`. `runtime/config.py` reads it."""

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


def _or_none(kind: Kind) -> Kind:
    return Kind(lambda value: value is None or kind.good(value), f"{kind.words}, or None")


_COUNT = Kind(_whole(1), "a whole number in 1..2147483647")
_RATE = Kind(_number(1e-30), "a finite number above 0")
_SHARES = "four numbers in 0..1 in brackets, not all of them 0"
_BETAS = Kind(_several(_number(0, 0.999999), 2), "two numbers in 0..1, 1 excluded, in brackets")
_WIDTHS = Kind(_several(_whole(1, 2**20)), "whole numbers in 1..1048575 in brackets: (512, 512)")
_SCHEDULE = Kind(lambda value: value in ("constant", "cosine"), "'constant' or 'cosine'")
_TEXT = Kind(lambda value: isinstance(value, str), "text in quotes")

Count = Annotated[int, _COUNT]
CountOrAuto = Annotated[
    int | str,
    Kind(lambda value: value == "auto" or _COUNT.good(value), f"{_COUNT.words}, or 'auto'"),
]
CountOrNone = Annotated[int | None, _or_none(_COUNT)]
Several = Annotated[int, Kind(_whole(2), "a whole number in 2..2147483647")]
Whole = Annotated[int, Kind(_whole(0), "a whole number in 0..2147483647")]
Rate = Annotated[float, _RATE]
RateOrNone = Annotated[float | None, _or_none(_RATE)]
Weight = Annotated[float, Kind(_number(0), "a finite number of at least 0")]
Share = Annotated[float, Kind(_number(0, 1), "a number in 0..1")]
Shares = Annotated[
    Sequence[float], Kind(lambda value: _several(_number(0, 1), 4)(value) and any(value), _SHARES)
]
Betas = Annotated[tuple[float, float], _BETAS]
Widths = Annotated[Sequence[int], _WIDTHS]
Switch = Annotated[bool, Kind(lambda value: type(value) is bool, "True or False")]
Optimizer = Annotated[str, Kind(lambda value: value in ("radam", "adam"), "'radam' or 'adam'")]
Schedule = Annotated[str, _SCHEDULE]
Text = Annotated[str, _TEXT]
Texts = Annotated[Sequence[str], Kind(_several(_TEXT.good), "texts in brackets")]
