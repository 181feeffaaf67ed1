"""How many components and groups: both found from the features, without a label.

A factor is a block of components that depend on each other and on no others, and such blocks are
clusters. How well a component lies in its cluster is its silhouette (Rousseeuw, J. Comput. Appl.
Math. 20, 1987): (b - a) / max(a, b), where a is the mean distance to its own cluster's others and b
that to the nearest other cluster; 0 for one that is alone. The distance is 1 - dependence.

Summed over components, it grows with each component that finds a place. With too few components the
factors are mixed, with too many their blocks fall apart, and one that belongs nowhere adds nothing.
So the fewest components are taken, and of these the most groups, whose sum is nearly the largest.

It sees pairs. Four equally frequent values at the corners of a regular tetrahedron are two bits and
their parity, any two of which are independent: such a factor's components are not joined.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from submission.latents.components import (
    Principal,
    dependence,
    dependent_groups,
    independent_components,
    principal,
)
from submission.runtime.errors import UserError
from submission.runtime.files import write_text
from submission.runtime.progress import progress_bar

log = logging.getLogger(__name__)

AUTO = "auto"
# What "auto" may choose at most. Beyond it FastICA hardly converges.
MOST_COMPONENTS = 30
# FastICA ends in other components from another start: for each number it has so many.
_STARTS = 2
# Sums that lack no more than this share of the largest are taken for as good. Of these the fewest
# components, then the most groups: a group too many costs less than a factor that has none.
_AS_GOOD = 0.1
_RECORD = "choice.json"


@dataclass(frozen=True)
class Choice:
    """What was chosen: FastICA's seed too, and the sum of silhouettes."""

    components: int
    groups: int
    seed: int
    silhouettes: float


def largest(components: int | str, groups: int | str) -> tuple[int, int]:
    """The numbers themselves, and for "auto" what it may choose at most."""
    most = MOST_COMPONENTS if isinstance(components, str) else components
    return most, most - 1 if isinstance(groups, str) else groups


def separate(
    x: npt.NDArray[np.float32],
    components: int | str,
    groups: int | str,
    seed: int,
    folder: Path,
    fingerprint: str,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], list[list[int]]]:
    """Components of x (n, D) and their groups, as many as asked for, or as found by "auto".

    A choice is written to `choice.json` in the folder. Called again for the same fingerprint, it is
    read there and not made anew, so that a run goes on with its groups.

    Returns U (K, D), o (K,) as independent_components does, and the groups' members. Raises
    UserError if x varies in too few directions.
    """
    of = principal(x)
    if not (isinstance(components, str) or isinstance(groups, str)):
        chosen = Choice(components, groups, seed, 0.0)
    else:
        chosen = _before(folder / _RECORD, fingerprint) or _choose(of, components, groups, seed)
        record = {"fingerprint": fingerprint, **asdict(chosen)}
        write_text(folder / _RECORD, json.dumps(record, indent=1) + "\n")
        log.info("chosen: %d components in %d groups", chosen.components, chosen.groups)
    unmix, offset = independent_components(of, chosen.components, chosen.seed)
    return unmix, offset, dependent_groups(dependence(x @ unmix.T + offset), chosen.groups)


def _before(record: Path, fingerprint: str) -> Choice | None:
    """What an earlier call of the same run chose, if it did."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        found = json.loads(record.read_text())
        if found.pop("fingerprint", None) == fingerprint:
            return Choice(**found)
    return None


def _choose(of: Principal, components: int | str, groups: int | str, seed: int) -> Choice:
    most = min(MOST_COMPONENTS, of.directions, len(of.centred) - 1)
    # Two groups at least, and one of them with two components.
    least = 3 if isinstance(groups, str) else groups + 1
    counts = [components] if isinstance(components, int) else list(range(least, most + 1))
    if not counts:
        raise UserError(
            f"the features vary in {most} directions, and train_groups.components='auto' takes "
            f"{least} at least: lower train_groups.groups, or name a larger data set"
        )
    found: list[Choice] = []
    tries = [(count, start) for count in counts for start in range(_STARTS)]
    with progress_bar(total=len(tries), desc="components", unit=" tries") as bar:
        for count, start in tries:
            found.extend(_groupings(of, count, groups, seed * _STARTS + start))
            bar.update()
    best = max(one.silhouettes for one in found)
    log.info("silhouettes: %s", _told(found))
    good = [one for one in found if one.silhouettes >= best - _AS_GOOD * abs(best)]
    return min(good, key=lambda one: (one.components, -one.groups, -one.silhouettes))


def _groupings(of: Principal, components: int, groups: int | str, seed: int) -> Iterator[Choice]:
    """Each number of groups that is asked for, with FastICA from one start."""
    from sklearn.metrics import silhouette_samples

    unmix, _ = independent_components(of, components, seed, warn=False)
    apart = 1 - dependence(of.centred @ unmix.T)
    np.fill_diagonal(apart, 0)
    for number in range(2, components) if isinstance(groups, str) else [groups]:
        labels = np.empty(components, dtype=np.int64)
        for label, members in enumerate(dependent_groups(1 - apart, number)):
            labels[members] = label
        of_each = silhouette_samples(apart, labels, metric="precomputed")
        yield Choice(components, number, seed, round(float(of_each.sum()), 4))


def _told(found: list[Choice]) -> str:
    """For the log: of each number of components the best grouping."""
    best: dict[int, Choice] = {}
    for one in found:
        before = best.setdefault(one.components, one)
        best[one.components] = max(one, before, key=lambda each: each.silhouettes)
    return ", ".join(
        f"{one.silhouettes:.2f} for {count} in {one.groups}" for count, one in best.items()
    )
