"""The five metrics; as a library: `from submission.metrics import score` (docs/codes.md)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from submission.metrics.arrays import score as score


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: disentanglement_lib is 80 MiB that a training does without.
    if name == "score":
        from submission.metrics.arrays import score

        return score
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
