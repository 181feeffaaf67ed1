"""A training's curves as TensorBoard event files."""

import shutil
import sys
import types
from contextlib import AbstractContextManager
from pathlib import Path

_SWITCH = "tensorboard.compat.notf"


class Curves(AbstractContextManager["Curves"]):
    """Writes `folder`/tensorboard anew, so that it holds this run's rows and no other's: what a
    killed run wrote may lack the last ones, and the caller has them from its checkpoint."""

    def __init__(self, folder: Path) -> None:
        # TensorBoard writes through TensorFlow where that is installed (670 MiB more, and seconds),
        # unless there is a module of this name: its own switch.
        sys.modules.setdefault(_SWITCH, types.ModuleType(_SWITCH))
        # Imported here because it is slow to import and only a training needs it.
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def add(self, row: dict[str, float], step: int) -> None:
        """One point on the curve of each name."""
        for name, value in row.items():
            self._writer.add_scalar(name, value, step)

    def __exit__(self, *error: object) -> None:
        self._writer.close()
