"""disentanglement_lib's own data set classes, and small files of exactly the forms that they read.

The classes carry the full sizes; one with other sizes is made of the class's own source text with
these replaced. So is what today's numpy and Pillow no longer take, by what it meant."""

import importlib.util
import io
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from submission.data.kit import PLACES
from submission.data.kit_readers import GRIDS
from submission.metrics.library import util

SIZES = {
    "cars3d": (2, 3, 4),
    "dsprites_full": (3, 2, 4, 3, 2),
    "shapes3d": (2, 3, 2, 2, 2, 3),
    "smallnorb": (2, 4, 3, 2, 2),
}
# Module, class, and the sizes as its text has them.
_CLASSES = {
    "cars3d": ("cars3d", "Cars3D", "[4, 24, 183]"),
    "dsprites_full": ("dsprites", "DSprites", "[1, 3, 6, 40, 32, 32]"),
    "shapes3d": ("shapes3d", "Shapes3D", "[10, 10, 10, 8, 4, 15]"),
    "smallnorb": ("norb", "SmallNORB", "[5, 10, 9, 18, 6]"),
}
_REPLACED = {
    "24 * 4 * 183": str(np.prod(SIZES["cars3d"])),
    "range(4)": f"range({SIZES['cars3d'][0]})",
    "range(24)": f"range({SIZES['cars3d'][1]})",
    "thumbnail((64, 64, 3), PIL.Image.ANTIALIAS)": "thumbnail((64, 64), PIL.Image.LANCZOS)",
    "PIL.Image.ANTIALIAS": "PIL.Image.LANCZOS",
    "import PIL\n": "import PIL.Image\n",
    'int(np.frombuffer(s, "int32", 1))': 'int(np.frombuffer(s, "int32", 1)[0])',
    'int(np.frombuffer(s, "int32", 1, 4))': 'int(np.frombuffer(s, "int32", 1, 4)[0])',
}


class _File(io.FileIO):
    """As TensorFlow's, which opens again when it is read after its `with`."""

    def __exit__(self, *_: object) -> None:
        pass


class Draws:
    """Takes the place of the random state: what the library draws is what the test wants."""

    def __init__(self, wanted: np.ndarray) -> None:
        self.wanted = wanted

    def randint(self, high: int, size: int) -> np.ndarray:
        assert self.wanted.shape == (size,)
        assert self.wanted.max() < high
        return self.wanted


def library_source(name: str) -> tuple[str, str, str]:
    """The text of the module that has the class, the class's name, and its sizes as written."""
    module, class_name, sizes = _CLASSES[name]
    found = importlib.util.find_spec(f"{util.__package__}.{module}")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).read_text(), class_name, sizes


def library_set(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library's data set of that name over the files in `folder`, with the sizes SIZES."""
    source, class_name, full = library_source(name)
    sizes = [1, *SIZES[name]] if name == "dsprites_full" else [*SIZES[name]]
    for old, new in {full: str(sizes), **_REPLACED}.items():
        source = source.replace(old, new)
    tensorflow = types.ModuleType("tensorflow.compat.v1")
    vars(tensorflow)["gfile"] = types.SimpleNamespace(
        Open=_File, GFile=_File, ListDirectory=lambda path: sorted(os.listdir(path))
    )
    with monkeypatch.context() as patch:
        patch.setenv("DISENTANGLEMENT_LIB_DATA", str(folder))
        for parent in ("tensorflow", "tensorflow.compat"):
            patch.setitem(sys.modules, parent, types.ModuleType(parent))
        vars(sys.modules["tensorflow.compat"])["v1"] = tensorflow
        patch.setitem(sys.modules, "tensorflow.compat.v1", tensorflow)
        space: dict[str, Any] = {"__name__": class_name}
        exec(source, space)
        return space[class_name](*([[1, 2, 3, 4, 5]] if name == "dsprites_full" else []))


def small_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    """The readers expect the small sizes, too."""
    for name, sizes in SIZES.items():
        monkeypatch.setitem(GRIDS, name, dict(zip(GRIDS[name], sizes, strict=True)))


def all_factors(name: str) -> np.ndarray:
    sizes = SIZES[name]
    return np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1)


def write_set(folder: Path, name: str, metadata: Any = None) -> list[Path]:
    """Noise in the set's files, at their places below `folder`; returns these."""
    random, sizes = np.random.default_rng(0), SIZES[name]
    places = [folder / place for place in PLACES[name]]
    places[0].parent.mkdir(parents=True, exist_ok=True)
    if name == "cars3d":
        places[0].mkdir()
        names = [f"car_{number:03d}_mesh" for number in (1, 2, 9, 10)]
        for car in names:
            im = random.integers(0, 256, (128, 128, 3, sizes[1], sizes[0]), np.uint8)
            mask = np.zeros((128, 128, sizes[1], sizes[0]), np.uint8)
            savemat(places[0] / f"{car}.mat", {"mask": mask, "im": im}, do_compression=True)
        (places[0] / "list.txt").write_text("\n".join(names) + "\n")
        return sorted(places[0].glob("*.mat"))
    if name == "smallnorb":
        _write_norb(places, sizes)
        return places
    if name == "shapes3d":
        images = random.integers(0, 256, (*sizes, 64, 64, 3), np.uint8)
        labels = np.zeros((*sizes, len(sizes)))
        np.savez(places[0], images=images, labels=labels)
        return places[:1]
    images = random.integers(0, 2, (int(np.prod(sizes)), 64, 64), np.uint8)
    about = {"latents_sizes": np.array([1, *sizes])} if metadata is None else metadata
    np.savez_compressed(places[0], imgs=images, metadata=np.array(about, dtype=object))
    return places


def _write_norb(places: list[Path], sizes: tuple[int, ...]) -> None:
    """Two chunks of half of the instances each, their images in any order."""
    random, factors = np.random.default_rng(1), all_factors("smallnorb")
    for chunk, instances in enumerate([(1, 3), (0, 2)]):
        rows = factors[np.isin(factors[:, 1], instances)]
        rows = rows[random.permutation(len(rows))] * [1, 1, 1, 2, 1]  # azimuths are even
        pairs = random.integers(0, 256, (len(rows), 2, 96, 96), np.uint8)
        dat, cat, info = places[3 * chunk : 3 * chunk + 3]
        write_matrix(dat, pairs)
        write_matrix(cat, rows[:, 0].astype("<i4"))
        write_matrix(info, rows[:, 1:].astype("<i4"))


def write_matrix(path: Path, values: np.ndarray) -> None:
    """A binary matrix as smallNORB's page defines it: its header has three dimensions or more."""
    kind = {1: 0x1E3D4C55, 4: 0x1E3D4C54}[values.dtype.itemsize]
    header = [kind, values.ndim, *values.shape, *[1] * (3 - values.ndim)]
    path.write_bytes(np.array(header, "<i4").tobytes() + values.tobytes())
