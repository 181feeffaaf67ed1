"""Where each data set that is known by name is to be had, and whether what lies there is whole."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from submission.data.dataset import FILE_NAMES, KNOWN_MD5, find_file, md5_warning, open_file, verify
from submission.data.kit import KIT_NAMES, PLACES, kit_files, source_of
from submission.data.kit_readers import GRIDS
from submission.runtime.errors import UserError
from submission.runtime.progress import progress_bar


@dataclass(frozen=True)
class Entry:
    """What is known of a data set; "not stated" and "not known" where nothing is.

    Attributes:
        images: how many of what kind. source: its address. licence: as its makers state it.
        size: of the download, in bytes where that is known. checksums: of what is downloaded.
        place: where the files go, below the data folder.
    """

    images: str
    source: str
    licence: str
    size: str
    checksums: tuple[str, ...]
    place: str


@dataclass(frozen=True)
class State:
    """What lies in the data folder: a sentence, and whether it is whole; None if there is nothing
    of the set."""

    text: str
    whole: bool | None


_FULL = "1,036,800 images (6 x 6 x 2 x 3 x 3 x 40 x 40), 64x64 colour"
_COMPLEX = "460,800 images (4 x 4 x 2 x 3 x 3 x 40 x 40), 64x64 colour"
# As other packages compare them (disent, latte); both files are read as they are downloaded.
_MD5 = {
    "dsprites_full": "7da33b31b13a06f4b04a70402ce90c2e",
    "shapes3d": "099a2078d58cec4daad0702c55d06868",
}
# Of smallNORB's packed files (TensorFlow Datasets' list), in the order of their places.
_NORB_SHA256 = (
    "5ffd6272a07d32695ee1082a26a41a93a37aab8c28da047f8c34ed348d214873",
    "2784e542c1922060691090952b6cd6278879a216c90f81476f0f00256d42cdaa",
    "de7eb932ebe7a4ee16217fead60660d0eb3d23632c2f4d1c51f88c501c17bf32",
    "cf7104eed3e51174d2f65b66d1e5878b9da233b886f161b0d88f4510ba2c7474",
    "ecaf6d5bb8c3bc5eab9cf0258f6d2198dd474e016e374836fc097f2e5ff509ff",
    "16adf314226327ee006d1a44db8cfef52773c06c829951d5653a9f6f310248a2",
)
_NORB_PACKED = tuple(f"{Path(place).name}.gz" for place in PLACES["smallnorb"])


def _mpi3d(name: str, images: str) -> Entry:
    md5 = KNOWN_MD5.get(name)
    return Entry(
        images=images,
        source="https://github.com/rr-learning/disentanglement_dataset (links in its README)",
        licence="CC BY 4.0",
        size=f"{12.7 if images == _FULL else 5.7} GB unpacked; of the download not known",
        checksums=(f"md5 {md5} (the 2019 file's)",) if md5 else ("not known",),
        place=" or ".join(f"{name}/{stem}.npz" for stem in FILE_NAMES[name]),
    )


ENTRIES: dict[str, Entry] = {
    **{name: _mpi3d(name, _FULL) for name in ("mpi3d_toy", "mpi3d_realistic", "mpi3d_real")},
    "mpi3d_real_complex": _mpi3d("mpi3d_real_complex", _COMPLEX),
    "cars3d": Entry(
        images="17,568 images (4 x 24 x 183), 128x128 colour, read as 64x64",
        source="http://www.scottreed.info/files/nips2015-analogy-data.tar.gz",
        licence="not stated",
        size="not known",
        checksums=("md5 4e866a7919c1beedf53964e6f7a23686 (the archive's)",),
        place=f"{PLACES['cars3d'][0]}/*.mat: the archive's folder data/cars, 183 files",
    ),
    "dsprites_full": Entry(
        images="737,280 images (3 x 6 x 40 x 32 x 32), 64x64 black and white",
        source="https://github.com/google-deepmind/dsprites-dataset",
        licence="Apache-2.0 (the repository's); drawn with LOVE, zlib/libpng licence",
        size="not known; 3.0 GB unpacked",
        checksums=(f"md5 {_MD5['dsprites_full']}",),
        place=PLACES["dsprites_full"][0],
    ),
    "shapes3d": Entry(
        images="480,000 images (10 x 10 x 10 x 8 x 4 x 15), 64x64 colour",
        source="https://storage.googleapis.com/3d-shapes/3dshapes.h5",
        licence="Apache-2.0",
        size="267,573,662 bytes; 5.9 GB unpacked",
        checksums=(
            f"md5 {_MD5['shapes3d']}",
            "sha256 0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785",
        ),
        place=f"{PLACES['shapes3d'][1]}, or disentanglement_lib's {PLACES['shapes3d'][0]}",
    ),
    "smallnorb": Entry(
        images="48,600 images (5 x 10 x 9 x 18 x 6), 96x96 grey, read as 64x64 (the second "
        "factor, the instance, is drawn at random)",
        source="https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/",
        licence="for research purposes, cannot be sold",
        size="262,778,180 bytes in six files; 897 MB unpacked",
        checksums=tuple(
            f"sha256 {sum_} {name}" for sum_, name in zip(_NORB_SHA256, _NORB_PACKED, strict=True)
        ),
        place="small_norb/smallnorb-*.mat: the six files, unpacked with gunzip",
    ),
}


def state(folder: Path, name: str) -> State:
    """Reads what lies in the folder from end to end, unless its checksum says that it is whole.

    Args:
        folder: what DISENTANGLEMENT_LIB_DATA names. name: one of ENTRIES.
    """
    try:
        return _kit_state(folder, name) if name in KIT_NAMES else _mpi3d_state(folder, name)
    except UserError as error:
        return State(str(error), whole=False)


def _mpi3d_state(folder: Path, name: str) -> State:
    _, path = find_file(folder, name)
    if path is None:
        return State(f"nothing in {folder}", whole=None)
    dataset = open_file(path, name)
    md5 = verify(dataset)
    if md5 == KNOWN_MD5.get(name):
        return State(f"{path} is whole: its md5 is the known one", whole=True)
    if dataset.offset is None:  # compressed: what its checksum is of comes out of the pixels
        batches, bar = dataset.batches(1024), {"total": -(-dataset.num_images // 1024)}
        for _ in progress_bar(iterable=batches, desc=f"checking {name}", delay=2, **bar):
            pass
    note = f"; {md5_warning(dataset, md5)}" if md5_warning(dataset, md5) else ""
    return State(f"{path} can be read to its end: {dataset.description}{note}", whole=True)


def _kit_state(folder: Path, name: str) -> State:
    if not any((folder / place).exists() for place in _with_packed(name)):
        return State(f"nothing in {folder}", whole=None)
    files = kit_files(folder, name)
    source = source_of(name, files)
    published = name != "shapes3d" or files[0].suffix == ".h5"
    known = _MD5.get(name) if published else None
    md5 = _md5(files[0]) if known else None
    where = (
        f"{files[0]} is" if len(files) == 1 else f"the {len(files)} files in {files[0].parent} are"
    )
    if known and md5 == known:
        return State(f"{where} whole: its md5 is the known one", whole=True)
    with progress_bar(total=source.count, unit=" images", desc=f"checking {name}", delay=2) as bar:
        for images in source.batches():
            bar.update(len(images))
    note = f"; its md5 is {md5}, the known one {known}" if known else ""
    sizes = " x ".join(map(str, GRIDS[name].values()))
    return State(f"{where} whole: {source.count:,} images ({sizes}) can be read{note}", whole=True)


def _with_packed(name: str) -> list[str]:
    packed = [f"{place}.gz" for place in PLACES[name]]
    return [*PLACES[name], *packed] if name == "smallnorb" else [*PLACES[name]]


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
