"""The matrices that DCI and MIG are made of, kept while the library computes these scores."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

from submission.metrics.library import dci, utils
from submission.metrics.settings import Result


@contextmanager
def kept_in(result: Result) -> Iterator[None]:
    """Around the library's metrics: puts lists of C rows, each of one number per factor, there.

    After DCI `importance`: how much each latent serves the boosted trees that read a factor; each
    column sums to 1 (to 0 if the code is constant). After MIG `information`: the mutual information
    of each latent and a factor, divided by the factor's entropy.
    """
    with ExitStack() as stack:
        judged = stack.enter_context(_calls(dci, "disentanglement_per_code"))
        shared = stack.enter_context(_calls(utils, "discrete_mutual_info"))
        entropies = stack.enter_context(_calls(utils, "discrete_entropy"))
        yield
    if judged:
        result["importance"] = judged[-1][0][0].tolist()
    if shared:
        result["information"] = (shared[-1][1] / entropies[-1][1]).tolist()


@contextmanager
def _calls(module: ModuleType, name: str) -> Iterator[list[tuple[tuple[Any, ...], Any]]]:
    """Lists the calls of a module's function: its arguments, and what it returned."""
    function: Callable[..., Any] = getattr(module, name)
    calls: list[tuple[tuple[Any, ...], Any]] = []

    def listed(*args: Any) -> Any:
        calls.append((args, function(*args)))
        return calls[-1][1]

    setattr(module, name, listed)
    try:
        yield calls
    finally:
        setattr(module, name, function)
