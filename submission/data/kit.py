"""The data sets that the challenge's starter kit knows beside MPI3D, by their names: found where
disentanglement_lib 1.5 looks for them, and written once into the cache as MPI3D's files are."""

from pathlib import Path

from submission.data import kit_readers
from submission.data.conversion import Source, converted
from submission.data.kit_readers import GRIDS, remedy
from submission.data.small_norb import smallnorb
from submission.runtime.errors import UserError

KIT_NAMES = tuple(GRIDS)
_CHUNKS = ("5x46789x9x18x6x2x96x96-training", "5x01235x9x18x6x2x96x96-testing")
# Below DISENTANGLEMENT_LIB_DATA. Of 3D Shapes either file will do: the library's, or as published.
PLACES: dict[str, tuple[str, ...]] = {
    "cars3d": ("cars",),
    "dsprites_full": ("dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",),
    "shapes3d": (
        "3dshapes/look-at-object-room_floor-hueXwall-hueXobj-hueXobj-sizeXobj-shapeXview-azi.npz",
        "3dshapes/3dshapes.h5",
    ),
    "smallnorb": tuple(
        f"small_norb/smallnorb-{chunk}-{part}.mat"
        for chunk in _CHUNKS
        for part in ("dat", "cat", "info")
    ),
}


def open_kit(folder: Path, name: str) -> Path:
    """The npz file in the cache that holds a data set of the kit: `images`, uint8 (N, 64, 64, 3 or
    1), in C order over `factor_sizes`, with `factor_names` and, for smallnorb, `observed`. It is
    written at the first call, and again when the files have changed.

    Args:
        folder: what DISENTANGLEMENT_LIB_DATA names. name: one of KIT_NAMES.

    Raises UserError for missing, damaged and other files, and if the cache cannot be written.
    """
    files = kit_files(folder, name)
    return converted(name, files, "kit, first form", lambda: source_of(name, files))


def kit_files(folder: Path, name: str) -> list[Path]:
    """The files that a data set of the kit is read from; raises UserError if one is missing."""
    places = [folder / place for place in PLACES[name]]
    if name == "cars3d":
        return _cars(places[0])
    there = [place for place in places if place.is_file()]
    if name == "shapes3d" and there:
        return there[:1]
    if missing := [place for place in places if place not in there]:
        packed = missing[0].with_name(missing[0].name + ".gz")
        if packed.is_file():
            raise UserError(f"{packed} is still packed: run `gunzip {packed}`")
        either = f" or {missing[-1]}" if name == "shapes3d" else ""
        raise UserError(f"no file {missing[0]}{either}: {remedy(name)}")
    return places


def _cars(folder: Path) -> list[Path]:
    """Sorted by name. The library takes them as the file system lists them, so that its numbers of
    the cars differ from one machine to another."""
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: {remedy('cars3d')}")
    files = sorted(folder.glob("*.mat"))
    wanted = GRIDS["cars3d"]["object_type"]
    if len(files) == wanted:
        return files
    lacking = ""
    names = folder / "list.txt"  # comes with the files, one name a line
    if names.is_file() and names.stat().st_size < 1 << 20:
        listed = names.read_text(errors="replace").split()
        first = next((n for n in listed if not (folder / f"{n}.mat").is_file()), None)
        lacking = f" ({first}.mat is missing)" if first else ""
    what = f"{folder} holds {len(files)} .mat files{lacking}, it must be {wanted}"
    raise UserError(f"{what}: {remedy('cars3d')}")


def source_of(name: str, files: list[Path]) -> Source:
    """What reads these files, their headers checked; raises UserError for others."""
    if name == "cars3d":
        return kit_readers.cars3d(files)
    if name == "dsprites_full":
        return kit_readers.dsprites(files[0])
    if name == "shapes3d":
        npz = files[0].suffix == ".npz"
        return (kit_readers.shapes3d_npz if npz else kit_readers.shapes3d_h5)(files[0])
    return smallnorb([(files[0], files[1], files[2]), (files[3], files[4], files[5])])
