"""Bad input of every kind, as a careless or a hostile user brings it, through the command line.

One table, one test: exit code 2, one sentence that says what, where and what to do, no traceback,
and the user's files as they were. Then the two readers that meet foreign bytes are fuzzed.
"""

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import gin
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from submission.__main__ import main
from submission.data.dataset import open_file, verify
from submission.features.weights import SHIPPED_WEIGHTS
from submission.finetuning.configuration import load_finetuning
from submission.latents.codes import call_model
from submission.pipeline.configuration import load_training
from submission.runtime import paths
from submission.runtime.checkpoint import load_checkpoint, save_checkpoint
from submission.runtime.errors import UserError
from submission.runtime.paths import CONFIGS, PROJECT

SIZES = (1, 1, 1, 1, 1, 2, 2)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
HTML = b"<!DOCTYPE html>\n<html><title>503 Service Unavailable</title></html>\n" * 20
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12740198574\n"

# Commands; the folder they are called in is the user's.
TRAIN = [
    "train", "--data", "data", "--dataset", "mpi3d_toy", "--config", "dry_run.gin",
    "--device", "cpu", "train_vae.epochs=1", "Encoder.widths=(8,)", "Decoder.widths=(8,)",
]  # fmt: skip
ENCODE = ["encode", "--images", "x.npz", "--model", "model.pt", "--out", "out.npz"]
SCORE = ["score", "--data", "data", "--dataset", "mpi3d_toy", "--quick", "--metrics", "mig"]
THEIRS = "data/mpi3d_toy/mpi3d_toy.npz"

Make = Callable[[Path], object]


@dataclass(frozen=True)
class Row:
    """One bad input: `make` puts it into the user's folder, `words` must be in the answer."""

    kind: str
    name: str
    command: list[str]
    words: tuple[str, ...]
    make: Make = lambda folder: None
    environment: dict[str, str] = field(default_factory=dict)
    process: bool = False  # a real process instead of a call


# --- what the rows are made of


def npz(name: str, save: Callable[..., None] = np.savez, **arrays: Any) -> Make:
    """A file of good images and sizes, but for `arrays`; None leaves one out."""
    good = {"images": IMAGES, "factor_sizes": np.array(SIZES)}
    kept = {key: value for key, value in (good | arrays).items() if value is not None}

    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save(folder / name, allow_pickle=True, **kept)

    return make


def raw(name: str, content: bytes) -> Make:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return make


def changed(make: Make, name: str, change: Callable[[bytearray], object]) -> Make:
    """What `make` makes, its bytes changed in place."""

    def both(folder: Path) -> None:
        make(folder)
        content = bytearray((folder / name).read_bytes())
        change(content)
        (folder / name).write_bytes(content)

    return both


def flip(place: int) -> Callable[[bytearray], object]:
    def change(content: bytearray) -> None:
        content[place] ^= 255

    return change


def cut(by: int) -> Callable[[bytearray], object]:
    def change(content: bytearray) -> None:
        del content[-by:]

    return change


def header(shape: str, version: int = 1, descr: str = "'|u1'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text


def members(name: str, *entries: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> Make:
    """An archive of raw members, which may have one name."""

    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(folder / name, "w", method) as archive:
            for member, content in entries:
                archive.writestr(member, content)

    return make


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def encrypted(content: bytearray) -> None:
    """Sets the flag that says so, in the first directory entry and its local header."""
    content[content.rindex(b"PK\x01\x02", 0, content.index(b"PK\x01\x02") + 4) + 8] |= 1
    content[6] |= 1


def zip64_without_sizes(content: bytearray) -> None:
    """The directory says "see the zip64 field" and there is none."""
    place = content.index(b"PK\x01\x02")
    content[place + 20 : place + 28] = b"\xff" * 8


def payload(folder: Path) -> bytes:
    """A pickle that makes a file in the user's folder when it is loaded."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch '{folder}/owned'",)

    return pickle.dumps({"fingerprint": Evil(), "images": Evil()})


def evil(name: str) -> Make:
    return lambda folder: raw(name, payload(folder))(folder)


def torch_zip_with_payload(folder: Path) -> None:
    """A checkpoint as torch writes them, its pickle replaced."""
    save_checkpoint(folder / "good.pt", "", {"step": 1})
    with zipfile.ZipFile(folder / "good.pt") as good:
        entries = [(name, good.read(name)) for name in good.namelist()]
    (folder / "good.pt").unlink()
    swapped = [(n, payload(folder) if n.endswith("data.pkl") else c) for n, c in entries]
    members("out/trial/checkpoint.pt", *swapped)(folder)


def saved(name: str, value: object) -> Make:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save(value, folder / name)

    return make


def nan_weights(folder: Path) -> None:
    state = load_file(SHIPPED_WEIGHTS)
    state["features.0.weight"][0, 0, 0, 0] = torch.nan
    save_file(state, folder / "w.safetensors")


def negative_variance(folder: Path) -> None:
    state = load_file(SHIPPED_WEIGHTS)
    state["aggregator.2.running_var"][7] = -1
    save_file(state, folder / "w.safetensors")


@cache
def exported(body: str) -> bytes:
    """A TorchScript file whose answer to `images` is written out."""
    # TorchScript takes one `forward` per class.
    kind: Any = type(f"Answer{sha256(body.encode()).hexdigest()}", (torch.jit.ScriptModule,), {})
    module = kind()
    module.define(f"def forward(self, images):\n    {body}\n")
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    return buffer.getvalue()


def model(body: str) -> Make:
    """An exported model, and images that fill one batch and one more."""

    def make(folder: Path) -> None:
        (folder / "model.pt").write_bytes(exported(body))
        np.savez(folder / "x.npz", images=np.repeat(IMAGES[:1] * 0, 65, axis=0))

    return make


def link(name: str, target: str) -> Make:
    return lambda folder: (folder / name).symlink_to(target)


def both(*makes: Make) -> Make:
    def make(folder: Path) -> None:
        for one in makes:
            one(folder)

    return make


def pipe(name: str) -> Make:
    return lambda folder: os.mkfifo(folder / name)


def directory(name: str) -> Make:
    return lambda folder: (folder / name).mkdir(parents=True)


BROKEN = ("is truncated or corrupt", "download (or render) it again")
NO_ARCHIVE = ("is neither an npz nor an npy file", "download (or render) it again")
GOOD_DATA = npz(THEIRS)
CHECKPOINT = "out/trial/checkpoint.pt"
NESTED = "(" * 300 + ")" * 300
# 2**52 more images are 2**64 bytes * 3 more: the same size if it is reckoned in 64 bits.
WRAPPED = header(f"({2**52 + 4}, 64, 64, 3)") + IMAGES.tobytes()


def data_row(name: str, words: tuple[str, ...], make: Make, process: bool = False) -> Row:
    return Row("data file", name, TRAIN, ("mpi3d_toy.npz", *words), make, process=process)


def factor_row(name: str, sizes: Any, *words: str) -> Row:
    row_words = ("mpi3d_toy.npz", "factor_sizes", *words)
    return Row("factors", name, TRAIN, row_words, npz(THEIRS, factor_sizes=sizes))


def gin_row(name: str, binding: str, *words: str) -> Row:
    return Row("gin", name, [*TRAIN, binding], words, GOOD_DATA)


def gin_file(name: str, content: bytes, *words: str) -> Row:
    command = [*TRAIN, "--config", "mine.gin"]
    return Row(
        "gin", name, command, ("mine.gin", *words), both(GOOD_DATA, raw("mine.gin", content))
    )


def weights_row(name: str, words: tuple[str, ...], make: Make, file: str = "w.safetensors") -> Row:
    return Row("weights", name, [*TRAIN, "--weights", file], (file, *words), both(GOOD_DATA, make))


def checkpoint_row(name: str, words: tuple[str, ...], make: Make) -> Row:
    return Row("checkpoint", name, TRAIN, ("checkpoint.pt", *words), both(GOOD_DATA, make))


def model_row(name: str, words: tuple[str, ...], make: Make) -> Row:
    return Row("model", name, ENCODE, ("model.pt", *words), both(npz("x.npz"), make))


def line_row(name: str, command: list[str], *words: str, process: bool = False) -> Row:
    return Row("command line", name, command, words, GOOD_DATA, process=process)


DAMAGED = ("is damaged", "delete it to start again")
AGAIN = "export it again"

ROWS = [
    data_row("a web page", NO_ARCHIVE, raw(THEIRS, HTML), process=True),
    data_row("a git-lfs pointer", ("git lfs pull",), raw(THEIRS, POINTER)),
    data_row("empty", BROKEN, raw(THEIRS, b"")),
    data_row("an npy by another name", ("holds 4 images",), raw(THEIRS, npy(IMAGES))),
    data_row("cut in its directory", BROKEN, changed(GOOD_DATA, THEIRS, cut(30))),
    data_row("cut in its images", BROKEN, changed(GOOD_DATA, THEIRS, cut(30_000))),
    data_row("one bit", BROKEN, changed(GOOD_DATA, THEIRS, flip(20_000))),
    data_row("encrypted", ("encrypted", "numpy.savez"), changed(GOOD_DATA, THEIRS, encrypted)),
    data_row("zip64 without sizes", BROKEN, changed(GOOD_DATA, THEIRS, zip64_without_sizes)),
    data_row("pickled", ("object", "must be uint8"), npz(THEIRS, images=np.array([{}, {}]))),
    data_row("a pickle", NO_ARCHIVE, evil(THEIRS)),
    data_row("Fortran order", ("C order",), npz(THEIRS, images=np.asfortranarray(IMAGES))),
    data_row("floats", ("float32", "uint8 (0..255)"), npz(THEIRS, images=IMAGES / np.float32(9))),
    data_row("32 pixels", ("(4, 32, 64, 3)", "64, 64, 3"), npz(THEIRS, images=IMAGES[:, :32])),
    data_row(
        "another key, with a terminal's commands", ("no array 'images'", "not an MPI3D file"),
        members(THEIRS, ("\x1b[2J\nerror: all is well", b"")),
    ),
    data_row(
        "images twice", ("an array twice",),
        members(THEIRS, ("images.npy", npy(IMAGES)), ("images.npy", npy(IMAGES * 0))),
    ),
    data_row(
        "claims 10**15 images", BROKEN,
        members(THEIRS, ("images.npy", header(f"({10**15}, 64, 64, 3)") + bytes(12288))),
    ),
    data_row("size wraps", BROKEN, members(THEIRS, ("images.npy", WRAPPED))),
    data_row("a shape of brackets", BROKEN, members(THEIRS, ("images.npy", header(NESTED)))),
    data_row("a shape of text", BROKEN, members(THEIRS, ("images.npy", header("{[]: 1}")))),
    data_row(
        "a header of 2 GB", BROKEN,
        members(THEIRS, ("images.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f")),
    ),
    data_row(
        "a note that fills the memory", ("'stand_in' cannot be read",),
        npz(THEIRS, np.savez_compressed, stand_in=np.zeros(10**8, np.uint8)),
    ),
    Row("data file", "a folder", ENCODE, ("no PNG or JPEG file in x.npz",), directory("x.npz")),
    Row("data file", "a pipe", ENCODE, ("no file x.npz",), pipe("x.npz")),
    Row("data file", "a link to itself", ENCODE, ("x.npz",), link("x.npz", "x.npz")),
    Row(
        "data file", "compressed, one bit", ENCODE, ("x.npz", *BROKEN),
        both(model("return images.flatten(1)[:, :2]"),
             changed(npz("x.npz", np.savez_compressed), "x.npz", flip(20_000))),
    ),
    Row(
        "data file", "lzma, one bit", ENCODE, ("x.npz", *BROKEN),
        both(model("return images.flatten(1)[:, :2]"),
             changed(members("x.npz", ("images.npy", npy(IMAGES)), method=zipfile.ZIP_LZMA),
                     "x.npz", flip(20_000))),
    ),

    factor_row("another product", np.array([2] * 7), "[2, 2, 2, 2, 2, 2, 2]", "seven", "images, 4"),
    factor_row("six", np.array([1, 1, 1, 1, 2, 2]), "seven whole numbers"),
    factor_row("zero", np.array([0, 1, 1, 1, 1, 2, 2]), "seven whole numbers"),
    factor_row("negative", np.array([-1, -1, 1, 1, 1, 2, 2]), "[-1, -1,"),
    factor_row("fractions", np.array([1, 1, 1, 1, 1, 1.6, 2.5]), "whole numbers"),
    factor_row("NaN", np.array([np.nan] * 7), "nan"),
    factor_row("a product that wraps", np.array([2**32, 2**32, 1, 1, 1, 2, 2]), "4294967296"),
    factor_row("durations", np.array(SIZES, "m8[s]"), "whole numbers"),
    factor_row("text", np.array("4\nerror: all is well"), "seven whole numbers"),
    factor_row("a table", np.ones((7, 10_000), np.int8), "of shape (7, 10000)"),
    factor_row("pickled", np.array([{}] * 7), "cannot be read"),
    Row(
        "factors", "none, and no official number", TRAIN, ("holds 4 images", "factor_sizes"),
        npz(THEIRS, factor_sizes=None),
    ),
    Row("factors", "one value, to be scored", SCORE, ("fewer than two values",), GOOD_DATA),

    Row("environment", "unknown data set", TRAIN[:1], ("celeba", "mpi3d_real_complex"), GOOD_DATA,
        {"AICROWD_DATASET_NAME": "celeba"}),
    Row("environment", "data set with ..", TRAIN[:1], ("'../mpi3d_toy'", "the names are"),
        GOOD_DATA, {"AICROWD_DATASET_NAME": "../mpi3d_toy"}),
    Row("environment", "data set with a slash", [*TRAIN, "--dataset", "/etc"], ("'/etc'",)),
    Row("environment", "empty data folder", TRAIN[:1], ("mpi3d_toy.npz", "place the data set"),
        GOOD_DATA, {"DISENTANGLEMENT_LIB_DATA": "", "AICROWD_DATASET_NAME": "mpi3d_toy"}),
    Row("environment", "data folder is a file", TRAIN[:1], ("mpi3d_toy.npz", "--data"), GOOD_DATA,
        {"DISENTANGLEMENT_LIB_DATA": THEIRS, "AICROWD_DATASET_NAME": "mpi3d_toy"}),
    Row("environment", "data folder's name is too long", [*TRAIN, "--data", "x" * 300],
        ("too long", "name another folder")),
    Row("environment", "run name with a slash", TRAIN, ("plain folder name", "--name"), GOOD_DATA,
        {"AICROWD_EVALUATION_NAME": "../trial"}),
    Row("environment", "run name ..", [*TRAIN, "--name", ".."], ("plain folder name",), GOOD_DATA),
    Row("environment", "run name too long", [*TRAIN, "--name", "n" * 300], ("cannot be written",),
        GOOD_DATA),
    Row("environment", "output is a file", TRAIN, ("cannot be written", "AICROWD_OUTPUT_PATH"),
        GOOD_DATA, {"AICROWD_OUTPUT_PATH": THEIRS}, process=True),
    Row("environment", "cache is a file", TRAIN, ("cannot be written", "SUBMISSION_CACHE"),
        GOOD_DATA, {"SUBMISSION_CACHE": THEIRS}),

    gin_row("unknown function", "Enkoder.widths=(8,)", "Enkoder", "write Function.parameter"),
    gin_row("unknown parameter", "Encoder.width=(8,)", "'Encoder.width=(8,)'", "width"),
    gin_row("no binding", "VAE.latents", "'VAE.latents'", "Function.parameter=value"),
    gin_row("a comment", "# VAE.latents=3", "no binding", "Function.parameter=value"),
    gin_row("two at once", "VAE.latents=3\nVAE.latents=4", "more than one"),
    gin_row("import", "import os", "import is not taken"),
    gin_row("open bracket", "Encoder.widths=(8,", "left open"),
    gin_row("no such optimizer", "train_vae.optimizer='sgd'", "'sgd'", "'radam' or 'adam'"),
    gin_row("text for a number", "VAE.latents='four'", "VAE.latents is 'four'", "whole number"),
    gin_row("text for a switch", "Decoder.sigmoid='no'", "'no'", "True or False"),
    gin_row("number for a row of them", "Encoder.widths=8", "Encoder.widths is 8", "(512, 512)"),
    gin_row("no layers", "Encoder.widths=()", "Encoder.widths is ()", "(512, 512)"),
    gin_row("negative", "train_vae.epochs=-1", "train_vae.epochs is -1", "1..2147483647"),
    gin_row("fraction", "train_vae.epochs=1.5", "train_vae.epochs is 1.5", "whole number"),
    gin_row("batches of none", "train_vae.batch_size=0", "train_vae.batch_size is 0"),
    gin_row("batches of one", "train_vae.batch_size=1", "batch_size is 1", "2..2147483647"),
    gin_row("another command's", "finetune.epochs=9", "finetune.epochs has no part", "train_vae"),
    gin_row("within a scope", "a/train_vae.epochs=1", "a/train_vae.epochs has no part"),
    gin_row("no images at a time", "extract_features.batch_size=0", "extract_features.batch_size"),
    gin_row("nan", "train_vae.learning_rate=nan", "learning_rate=nan", "not understood"),
    gin_row("infinite", "train_vae.learning_rate=1e999", "is inf", "finite"),
    gin_row("betas of 1", "train_vae.betas=(0.9, 1.0)", "train_vae.betas is (0.9, 1.0)"),
    gin_row("a reference", "Encoder.widths=@Decoder", "Encoder.widths is @Decoder", "write it out"),
    gin_row("unknown choice", "Encoder.init='zeros'", "'zeros'", "'orthogonal' or 'pytorch'"),
    gin_row("128 pixels", "Extractor.resolution=128", "Extractor.resolution is 128", "64 to 95"),
    gin_row("more than fits", "Encoder.widths=(1000000, 1000000)", "MiB of memory", "give it more"),
    Row("gin", "no such file", [*TRAIN, "--config", "publik.gin"], ("publik.gin", "public.gin"),
        GOOD_DATA),
    gin_file("a picture", b"\x89PNG\r\n\x1a\n\xff\xff", "no text"),
    gin_file("bound twice", b"VAE.latents = 3\nVAE.latents = 4\n", ":2:", "remove one"),
    gin_file("bytes of nothing", b"VAE.latents = 3\0\n", "mine.gin"),
    gin_file("an include of a user's file", b"include 'mine.gin'\n", "'mine.gin' is not taken"),
    gin_file("a module that would run", b"import mine\n", "import is not taken"),

    weights_row("not there", ("no weight file", "--weights"), lambda folder: None),
    weights_row("a folder", ("no weight file",), directory("w.safetensors")),
    weights_row("a web page", ("no safetensors file", "copy it again"), raw("w.safetensors", HTML)),
    weights_row("a git-lfs pointer", ("git lfs pull",), raw("w.safetensors", POINTER)),
    weights_row("a pickle that runs", ("no safetensors file",), evil("w.safetensors")),
    weights_row("a pth that runs", ("plain tensors",), evil("w.pth"), "w.pth"),
    weights_row("a list", ("plain tensors",), saved("w.pth", [torch.ones(2)]), "w.pth"),
    weights_row("settings", ("plain tensors",), saved("w.pth", {"features.0.weight": 1}), "w.pth"),
    weights_row(
        "a tensor without data", ("plain tensors",),
        saved("w.pth", {"features.0.weight": torch.ones(64, 3, 3, 3, device="meta")}), "w.pth",
    ),
    weights_row(
        "cut short", ("cut short",),
        lambda folder: raw("w.safetensors", SHIPPED_WEIGHTS.read_bytes()[:100_000])(folder),
    ),
    weights_row(
        "a header of 2 GB", ("no safetensors file",),
        raw("w.safetensors", struct.pack("<Q", 2**31) + b"{}"),
    ),
    weights_row(
        "another network", ("another architecture", "'features.0.weight'", "(64, 3, 3, 3)"),
        lambda folder: save_file({"features.0.weight": torch.ones(2)}, folder / "w.safetensors"),
    ),
    weights_row("NaN", ("NaN", "--weights"), nan_weights),
    weights_row("negative variance", ("negative variance", "--weights"), negative_variance),

    checkpoint_row("rubbish", DAMAGED, raw(CHECKPOINT, bytes(range(256)) * 40)),
    checkpoint_row("a pickle that runs", DAMAGED, evil(CHECKPOINT)),
    checkpoint_row("an archive that runs", DAMAGED, torch_zip_with_payload),
    checkpoint_row("a list", DAMAGED, saved(CHECKPOINT, [torch.ones(3)])),
    checkpoint_row(
        "cut short", DAMAGED,
        changed(saved(CHECKPOINT, {"vae": torch.ones(9999)}), CHECKPOINT, cut(20_000)),
    ),
    checkpoint_row(
        "one bit", DAMAGED,
        changed(saved(CHECKPOINT, {"vae": torch.ones(9999)}), CHECKPOINT, flip(20_000)),
    ),
    checkpoint_row("a folder", DAMAGED, directory(CHECKPOINT)),
    checkpoint_row(
        "of another run", ("of another configuration", "--name"),
        saved(CHECKPOINT, {"fingerprint": "another", "vae": torch.ones(3)}),
    ),

    model_row("not there", ("no exported model",), lambda folder: None),
    model_row("a web page", ("no TorchScript file",), raw("model.pt", HTML)),
    model_row("a pickle that runs", ("no TorchScript file",), evil("model.pt")),
    model_row("a checkpoint", ("no TorchScript file",), saved("model.pt", {"a": torch.ones(3)})),
    model_row(
        "cut short", ("no TorchScript file",),
        changed(model("return images.flatten(1)[:, :2]"), "model.pt", cut(300)),
    ),
    model_row("a pair", ("tuple", AGAIN), model("return images[:, 0, 0], images[:, 1, 0]")),
    model_row("a map", ("(64, 2, 64, 64)", AGAIN), model("return images[:, :2]")),
    model_row("one number an image", ("(64,)", AGAIN), model("return images[:, 0, 0, 0]")),
    model_row("one row for all", ("(1, 2)", AGAIN), model("return images.flatten(1)[:1, :2]")),
    model_row("no latents", ("(64, 0)", AGAIN), model("return images.flatten(1)[:, :0]")),
    model_row("NaN", ("NaN or infinity", AGAIN), model("return images[:, 0, 0, :2] / 0")),
    model_row(
        "beyond float32", ("NaN or infinity", AGAIN),
        model("return (images[:, 0, 0, :2].double() + 1) * 1e300"),
    ),
    model_row("whole numbers", ("int64", AGAIN), model("return images[:, 0, 0, :2].long()")),
    model_row(
        "a sparse answer", ("Tensor", AGAIN), model("return images[:, 0, 0, :2].to_sparse()")
    ),
    model_row("of other images", ("does not take images",), model("return images.view(-1, 99)")),
    model_row(
        "that refuses images itself", ("does not take images",),
        model("assert images.shape[1] == 4, 'no alpha'\n    return images[:, :2, 0, 0]"),
    ),
    model_row(
        "as many latents as there are images", ("64", "1 latents", AGAIN),
        model("return images.flatten(1)[:, :images.shape[0]]"),
    ),

    line_row("unknown command", ["fly"], "invalid choice: 'fly'", process=True),
    line_row("no command", [], "required"),
    line_row("unknown option", [*TRAIN, "--fast"], "unrecognized", "--fast"),
    line_row("no such device", [*TRAIN, "--device", "cuda:63"], "'cuda:63'", "--device cpu"),
    line_row("a device in words", [*TRAIN, "--device", "fastest"], "'fastest'", "--device cpu"),
    line_row("memory in words", [*TRAIN, "--memory", "lots"], "'lots'", "8g"),
    line_row("no memory", [*TRAIN, "--memory", "0g"], "'0g'", "8g"),
    line_row("negative memory", [*TRAIN, "--memory=-8g"], "'-8g'", "8g"),
    line_row("too little memory", [*TRAIN, "--memory", "9m"], "9 MiB are allowed", "give it more"),
    line_row("unknown metric", [*SCORE, "--metrics", "mig,fid"], "'fid'", "factor_vae"),
    line_row("unknown metric of a run", ["run", "--metrics", "mgi"], "'mgi'", "factor_vae"),
    line_row("no metric", [*SCORE, "--metrics", ""], "unknown metric ''", "factor_vae"),
    line_row("no --out", ENCODE[:-2], "required: --out"),
    line_row("no axis steps", ["render", "--axis-steps", "0", "--out", "r"], "0"),
    line_row("axis steps in words", ["render", "--axis-steps", "many", "--out", "r"], "'many'"),
    line_row("unknown domain", ["render", "--domain", "moon", "--out", "r"], "moon", "realistic"),
    line_row("negative seed", ["render", "--seed", "-1", "--axis-steps", "2", "--out", "r"], "-1"),
    line_row("seed of 67 bits", ["render", "--seed", f"{2**66}", "--out", "r"], "out of range"),
    line_row("no images", ["probe", "--dataset", "mpi3d_toy", "--count", "0"], "--count 0"),
    line_row("a picture in no folder", ["probe", "--dataset", "x", "--picture", "no/x.png"], "no"),
    line_row("two sources", ["probe", "--dataset", "x", "--frames", "y"], "not allowed with"),
    line_row(
        "no mix", ["finetune", "--config", "finetune_cpu.gin", "--from", "scratch", "--out", "f",
                   "rendered_source.mix=(0, 0, 0)"], "mix is (0, 0, 0)", "not all of them 0",
    ),
    line_row(
        "finetuning into a file", ["finetune", "--config", "finetune_cpu.gin", "--from", "scratch",
                                   "--out", THEIRS], "cannot be written", "--out",
    ),
    line_row("a remote in the way", ["remote", "data"], "holds something else"),
    Row("command line", "--out of another kind", [*ENCODE, "--out", "x.npy"], ("end in .npz",),
        npz("x.npz")),
    Row("command line", "--out in no folder", [*ENCODE, "--out", "no/out.npz"],
        ("no/out.npz", "a folder that exists"),
        both(npz("x.npz"), model("return images.flatten(1)[:, :2]"))),
]  # fmt: skip


# --- the test


def user_files(folder: Path) -> dict[str, str]:
    """Every file and its content, but for what a run says it keeps: log, lock, curves."""
    kept = {}
    for path in folder.rglob("*"):
        documented = path.name == "train.log" or path.suffix == ".lock" or path.name == ".lock"
        if not documented and "tensorboard" not in path.parts:
            content = path.read_bytes() if path.is_file() else b""
            if not path.is_dir():
                kept[str(path.relative_to(folder))] = sha256(content).hexdigest()
    return kept


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of the good data file: the same command without the bad input goes through."""
    folder = tmp_path_factory.mktemp("good")
    GOOD_DATA(folder)
    with pytest.MonkeyPatch.context() as patch:
        set_environment(patch, folder, folder / "cache")
        assert main(TRAIN) == 0
    assert (folder / "out" / "trial" / "representation" / "pytorch_model.pt").exists()
    return folder / "cache"


def set_environment(patch: pytest.MonkeyPatch, folder: Path, cache: Path) -> None:
    for name in [*os.environ]:
        if name.startswith(("AICROWD", "DISENTANGLEMENT", "SUBMISSION")):
            patch.delenv(name)
    patch.setenv("SUBMISSION_HOME", str(folder / "home"))
    patch.setenv("SUBMISSION_CACHE", str(cache))
    patch.setenv("AICROWD_OUTPUT_PATH", str(folder / "out"))
    patch.setenv("AICROWD_EVALUATION_NAME", "trial")
    patch.chdir(folder)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind}: {row.name}")
def test_bad_input_gets_one_sentence_and_leaves_nothing(
    row: Row,
    features: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    row.make(tmp_path)
    set_environment(monkeypatch, tmp_path, features)
    for name, value in row.environment.items():
        monkeypatch.setenv(name, value)
    before = [user_files(folder) for folder in (tmp_path, features)]
    if row.process:
        monkeypatch.setenv("PYTHONPATH", str(PROJECT))
        command = [sys.executable, "-P", "-m", "submission", *row.command]
        code: object = subprocess.run(command, timeout=120, check=False).returncode
    else:
        try:
            code = main(row.command)
        except SystemExit as stop:  # argparse ends so
            code = stop.code
    said = capfd.readouterr().err
    assert code == 2, said
    assert "Traceback" not in said
    sentences = [line.partition("error: ")[2] for line in said.splitlines() if "error: " in line]
    assert len(sentences) == 1, said
    assert said.splitlines()[-1].endswith(sentences[0]), "it is the last thing said"
    for word in row.words:
        assert word in sentences[0]
    assert sentences[0].isprintable()
    assert len(sentences[0]) < 800
    assert [user_files(folder) for folder in (tmp_path, features)] == before


def test_the_table_is_wide_enough() -> None:
    kinds = [row.kind for row in ROWS]
    assert len(set(kinds)) == 8
    assert len(kinds) >= 40
    assert all(kinds.count(kind) >= 5 for kind in kinds)
    names = [(row.kind, row.name) for row in ROWS]
    assert len(set(names)) == len(names)


def test_a_value_of_no_kind_is_refused_for_every_shipped_parameter() -> None:
    """Else a slip in a value would be met hours later, with a traceback."""
    for path in CONFIGS.glob("*.gin"):
        if path.name.startswith("metrics"):
            continue
        load = load_finetuning if path.name.startswith("finetune") else load_training
        load(path)
        lines = [line.partition(" = ") for line in gin.config_str().splitlines()]
        names = [name for name, equals, _ in lines if equals]
        assert len(names) >= (6 if "readout" in path.name else 20)
        for name in names:
            with pytest.raises(UserError, match=f"{name} is {{}}, it must be"):
                load(path, [f"{name}={{}}"])


def test_empty_variables_count_as_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["SUBMISSION_HOME", "SUBMISSION_CACHE", "DISENTANGLEMENT_LIB_DATA"]
    for value in (None, ""):
        for name in [*names, "AICROWD_DATASET_NAME"]:
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        found = [paths.home(), paths.cache_folder(), paths.data_folder()]
        assert all(folder.is_absolute() for folder in found)
        assert paths.dataset_name() == "mpi3d_real"


def test_harmless_oddities_of_a_model_are_taken() -> None:
    """Trainable parameters, double precision and an answer with a gradient are no mistake."""
    layer = torch.nn.Linear(3 * 64 * 64, 2).double()

    def answer(images: torch.Tensor) -> torch.Tensor:
        return layer(images.flatten(1).double())

    images = torch.rand(5, 3, 64, 64)
    for function in (answer, lambda images: answer(images).requires_grad_(True)):
        codes = call_model(function, images)
        assert codes.dtype == np.float32
        np.testing.assert_allclose(codes, answer(images).detach().numpy(), rtol=1e-6)


# --- fuzzing

BOUNDED = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@st.composite
def damage(draw: st.DrawFn, whole: bytes, hot: list[int]) -> bytes:
    """A whole file's bytes after one to three cuts, changes, insertions or repetitions, most of
    them at `hot` places, where the formats keep their structure."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(hot) | st.integers(0, len(whole) - 1))
        place = min(place + draw(st.integers(0, 60)), len(content))
        what = draw(st.sampled_from(["change", "cut", "insert", "end", "number"]))
        length = draw(st.integers(1, 40))
        if what == "change":
            new = draw(st.binary(min_size=1, max_size=4))
            content[place : place + len(new)] = new
        elif what == "cut":
            del content[place : place + length]
        elif what == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=length))
        elif what == "end":
            del content[place:]
        else:
            size = draw(st.sampled_from([2, 4, 8]))
            number = draw(st.sampled_from([0, 1, 2**15, 2**31, 2**63, 2**64 - 1]))
            content[place : place + size] = (number % 2 ** (8 * size)).to_bytes(size, "little")
    return bytes(content)


def structure(whole: bytes, *marks: bytes) -> list[int]:
    """Where any of the marks is found."""
    found = []
    for mark in (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", *marks):
        place = whole.find(mark)
        while place >= 0:
            found.append(place)
            place = whole.find(mark, place + 1)
    return found


def in_memory(save: Callable[..., None]) -> bytes:
    buffer = io.BytesIO()
    note = np.array("rendered by a test")
    save(buffer, images=IMAGES[:2] // 64, factor_sizes=np.array((1,) * 6 + (2,)), stand_in=note)
    return buffer.getvalue()


STORED, COMPRESSED = in_memory(np.savez), in_memory(np.savez_compressed)


@BOUNDED
@given(
    damage(STORED, structure(STORED, b"\x93NUMPY", b"{'descr"))
    | damage(COMPRESSED, structure(COMPRESSED))
)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_data_file_is_refused_or_read_as_it_was(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    refusal = ""
    try:
        dataset = open_file(path, "mpi3d_toy")
        verify(dataset, progress=False)
        images = np.concatenate(list(dataset.batches(1)))
    except UserError as error:
        refusal = str(error)
    if refusal:
        assert str(path) in refusal
        assert refusal.isprintable()
        return
    assert np.array_equal(images, IMAGES[:2] // 64)
    assert dataset.factor_sizes == (1,) * 6 + (2,)
    assert dataset.stand_in == "rendered by a test"


def checkpoint_bytes(folder: Path) -> bytes:
    state = {
        "vae": {"weight": torch.arange(12.0).view(3, 4), "steps": torch.tensor(7)},
        "history": [{"epoch": 0, "loss": 0.5}],
        "step": 3,
    }
    save_checkpoint(folder / "whole.pt", "mine", state)
    return (folder / "whole.pt").read_bytes()


@pytest.fixture(scope="module")
def whole_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return checkpoint_bytes(tmp_path_factory.mktemp("checkpoint"))


@BOUNDED
@given(st.data())
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_checkpoint_is_refused_or_read_as_it_was(
    tmp_path: Path, whole_checkpoint: bytes, data: st.DataObject
) -> None:
    hot = structure(whole_checkpoint, b"\x80\x02", b"fingerprint")
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(data.draw(damage(whole_checkpoint, hot)))
    refusal = ""
    try:
        state = load_checkpoint(path, "mine", torch.device("cpu"))
    except UserError as error:
        refusal = str(error)
    if refusal:
        assert str(path) in refusal
        assert refusal.isprintable()
        return
    assert state is not None
    assert state["fingerprint"] == "mine"
    assert state["step"] == 3
    assert state["history"] == [{"epoch": 0, "loss": 0.5}]
    assert torch.equal(state["vae"]["weight"], torch.arange(12.0).view(3, 4))
    assert state["vae"]["steps"] == 7


def test_the_page_on_development_counts_them() -> None:
    page = " ".join((PROJECT / "docs" / "development.md").read_text().split())
    assert len({row.kind for row in ROWS}) == 8
    assert f"hold {len(ROWS)} bad inputs of eight kinds" in page
