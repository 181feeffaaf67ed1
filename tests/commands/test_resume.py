"""Killed, stopped, starved of disk and disturbed: real processes (see processes.py), and the model
of a quiet run."""

import contextlib
import functools
import importlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from finetuning_runs import command, data, finish, settings  # noqa: F401 (data is a fixture)
from processes import forked, run_main
from test_run import Grader, grader  # noqa: F401 (grader is a fixture)

from submission.latents.training import train_vae
from submission.pipeline.configuration import load_training
from submission.runtime import signals
from submission.runtime.paths import PROJECT

COUNT, BATCH, EPOCHS = 32, 4, 30
SIZES = (2, 2, 2, 2, 2, 1, 1)
HEADER, ROW = 128, 512 * 4  # bytes of the feature file's npy header, and of a row
FAST = [
    "Encoder.widths=(32,)",
    "Decoder.widths=(32,)",
    "VAE.latents=4",
    f"train_vae.epochs={EPOCHS}",
    "train_vae.batch_size=4",
    f"extract_features.batch_size={BATCH}",
]


def _stop_before(function: str, call: int) -> None:
    """Lets this process stop itself when it is about to make the nth call of a module's function,
    so that who wants to disturb it there need not hurry."""
    module = importlib.import_module(f"submission.{function.rpartition('.')[0]}")
    name = function.rpartition(".")[2]
    real, calls = getattr(module, name), itertools.count(1)

    def stopping(*args: object, **keywords: object) -> object:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGSTOP)
        return real(*args, **keywords)

    setattr(module, name, stopping)


# Two batches' features are written; the first epoch's checkpoint is.
IN_FEATURES, IN_VAE = ("features.extraction.to_float", 3), ("latents.training.save_checkpoint", 2)


class World:
    """A folder with a data set, a home and an output, and the processes started over them."""

    def __init__(self, folder: Path, images: np.ndarray, sizes: tuple[int, ...] = SIZES) -> None:
        self.folder, self.home, self.output = folder, folder / "home", folder / "output"
        self.data = folder / "data" / "mpi3d_real" / "mpi3d_real.npz"
        self.data.parent.mkdir(parents=True)
        self.output.mkdir()
        np.savez(
            self.data,
            images=images,
            factor_sizes=np.array(sizes),
            stand_in=np.array("noise made by a test"),
        )
        self.runs: list[Run] = []
        self.run = self.output / "trial"
        self.model = self.run / "representation" / "pytorch_model.pt"
        self.checkpoint = self.run / "checkpoint.pt"

    def environment(self) -> dict[str, str]:
        return {
            "DISENTANGLEMENT_LIB_DATA": str(self.data.parents[1]),
            "AICROWD_DATASET_NAME": "mpi3d_real",
            "AICROWD_OUTPUT_PATH": str(self.output),
            "SUBMISSION_HOME": str(self.home),
        }

    def start(
        self, name: str = "trial", pause: tuple[str, int] | None = None, **environment: str
    ) -> "Run":
        """`train`, up to `pause` if there is one; what it prints goes into a new file each time."""
        arguments = ["train", "--config", "dry_run.gin", "--name", name, *FAST]
        said = self.folder / f"said_{len(self.runs)}.txt"
        self.runs.append(Run(arguments, self.environment() | environment, said, pause))
        if pause:
            self.runs[-1].wait_until_stopped()
        return self.runs[-1]

    def cached(self, pattern: str) -> list[Path]:
        return list((self.home / "cache").rglob(pattern))

    def log(self) -> str:
        return (self.run / "train.log").read_text()


class Run:
    """One process. `wait_for` asks again and again; only what is on disk decides, never a time."""

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        said: Path,
        pause: tuple[str, int] | None = None,
    ) -> None:
        self.said = said
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("AICROWD", "DISENT", "SUBMISSION"))
        }
        before = functools.partial(_stop_before, *pause) if pause else None
        said.unlink(missing_ok=True)
        self.process = forked.Process(
            target=run_main,
            daemon=True,
            args=(arguments, kept | environment, (str(said), str(said)), None, before),
        )
        self.process.start()

    def wait_until_stopped(self) -> None:
        stat = Path(f"/proc/{self.process.pid}/stat")
        self.wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")

    def wait_for(self, there: Callable[[], object]) -> None:
        while not there():
            assert self.process.is_alive(), f"it ended too early: {self.said.read_text()}"
            time.sleep(0.005)

    def send(self, *numbers: int) -> None:
        assert self.process.pid
        for number in numbers:
            os.kill(self.process.pid, number)

    def end(self) -> tuple[int, str]:
        """The exit code, and all that it printed."""
        self.process.join(600)
        assert self.process.exitcode is not None, "it hangs"
        return self.process.exitcode, self.said.read_text()


def refused(ended: tuple[int, str], what: str) -> None:
    """Exit code 2 and one sentence, without a traceback."""
    code, said = ended
    assert code == 2, said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    assert what in errors[0]
    assert "Traceback" not in said


def same_model(world: World, quiet: World) -> None:
    a, b = (torch.jit.load(str(w.model)).state_dict() for w in (world, quiet))
    assert list(a) == list(b)
    assert all(torch.equal(a[key], b[key]) for key in a)
    (codes,), (expected,) = (
        [path.read_bytes() for path in w.cached("codes/*.npy")] for w in (world, quiet)
    )
    assert codes == expected
    rows = []
    for w in (world, quiet):
        lines = (w.run / "losses.csv").read_text().splitlines()
        rows.append([line.rpartition(",")[0] for line in lines])  # all but the seconds
    assert rows[0] == rows[1]
    assert len(rows[0]) == EPOCHS + 1


def left_over(folder: Path) -> list[Path]:
    """Files that are neither finished nor meant to be gone on with."""
    return [path for path in folder.rglob("*") if path.suffix == ".tmp"]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 64, 64, 3), dtype=np.uint8)
    return images


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory, images: np.ndarray) -> World:
    """The undisturbed run."""
    world = World(tmp_path_factory.mktemp("quiet"), images)
    code, said = world.start().end()
    assert code == 0, said
    return world


@pytest.fixture
def world(tmp_path: Path, images: np.ndarray) -> Iterator[World]:
    made = World(tmp_path, images)
    yield made
    for run in made.runs:  # a stopped one would be waited for at the end of the session
        run.process.kill()


@pytest.fixture
def extracted(world: World, quiet: World) -> World:
    """A world whose features are there already."""
    (features,) = quiet.cached("features/*.npy")
    (world.home / "cache" / "features").mkdir(parents=True)
    shutil.copy(features, world.home / "cache" / "features")
    return world


def rows(world: World) -> int:
    parts = world.cached("features/*.part")
    return (parts[0].stat().st_size - HEADER) // ROW if parts else 0


def begun(world: World, stage: str) -> Callable[[], bool]:
    return lambda: (world.run / "train.log").exists() and f"{stage} ..." in world.log()


# --- signals


def test_sigterm_in_features_and_vae(world: World, quiet: World) -> None:
    run = world.start(pause=IN_FEATURES)
    run.send(signal.SIGTERM, signal.SIGCONT)
    code, said = run.end()
    assert code == 143
    assert "Traceback" not in said
    (part,) = world.cached("features/*.part")
    done = rows(world)
    assert part.stat().st_size == HEADER + done * ROW
    assert done == 3 * BATCH
    sentence = f"stopped by SIGTERM: features of {done} of {COUNT} images are in {part}; the same"
    assert said.splitlines()[-1].startswith(sentence)

    run = world.start(pause=IN_VAE)
    run.send(signal.SIGINT, signal.SIGCONT)
    code, said = run.end()
    assert code == 130
    assert f"are in {world.checkpoint}; the same command goes on from there" in said
    assert "Traceback" not in said
    assert not world.model.exists()
    (features,) = world.cached("features/*.npy")
    before = features.stat()

    code, said = world.start().end()
    assert code == 0, said
    assert "continuing after epoch" in said
    assert (features.stat().st_ino, features.stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    ), "extracted a second time"
    same_model(world, quiet)

    exported = world.model.stat().st_mtime_ns
    code, said = world.start().end()
    assert code == 0
    assert "has exported" in said
    assert world.model.stat().st_mtime_ns == exported, "trained a second time"
    assert not left_over(world.folder)


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("steps", [1, 3, 4, 9, 12])
def test_a_signal_in_a_step_lets_it_finish(tmp_path: Path, steps: int) -> None:
    """Four steps an epoch, three epochs; SIGTERM comes while a given step computes."""
    rows = torch.from_numpy(np.random.default_rng(0).random((32, 8), dtype=np.float32))
    load_training(
        Path("private.gin"),
        [
            "VAE.latents=3",
            "Encoder.widths=(16,)",
            "Decoder.widths=(16,)",
            "train_vae.epochs=3",
            "train_vae.batch_size=8",
        ],
    )
    folders = tmp_path / "whole", tmp_path / "stopped"
    for folder in folders:
        folder.mkdir()
    whole = train_vae(rows, folders[0], "same", progress=False)
    seen = 0

    def at_a_step(module: torch.nn.Module, *_: object) -> None:
        nonlocal seen
        seen += type(module).__name__ == "VAE"
        if seen == steps and type(module).__name__ == "VAE":
            signal.raise_signal(signal.SIGTERM)

    hook = torch.nn.modules.module.register_module_forward_hook(at_a_step)
    try:
        with pytest.raises(signals.Stopped) as stopped, signals.stoppable():
            train_vae(rows, folders[1], "same", progress=False)
    finally:
        hook.remove()
    assert stopped.value.code == 143
    assert seen == steps
    assert str(folders[1] / "checkpoint.pt") in str(stopped.value)
    resumed = train_vae(rows, folders[1], "same", progress=False)
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    tables = [
        [line.rpartition(",")[0] for line in (folder / "losses.csv").read_text().splitlines()]
        for folder in folders
    ]
    assert tables[0] == tables[1]


def script(text: str, ignored: bool = False) -> subprocess.Popen[str]:
    def before() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.SIG_DFL)

    head = "import time\nfrom submission.runtime import signals\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + text],
        cwd=PROJECT,
        text=True,
        preexec_fn=before,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


HELD = """
with signals.stoppable(), signals.held():
    print("begun", flush=True)
    while not signals.asked():
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("first", "second"), [(signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGINT)]
)
def test_a_second_signal_ends_at_once(first: signal.Signals, second: signal.Signals) -> None:
    process = script(HELD)
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    process.send_signal(first)
    assert process.stdout.readline() == "asked\n"
    process.send_signal(second)
    process.communicate()
    assert process.returncode == -second


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    process = script(HELD, ignored=True)
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == -signal.SIGTERM


def test_outside_the_loops_a_signal_unwinds() -> None:
    process = script(
        "with signals.stoppable():\n"
        "    try:\n        print('begun', flush=True)\n        time.sleep(600)\n"
        "    finally:\n        print('tidied')\n"
    )
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 143
    assert out == "tidied\n"
    assert err.strip() == (
        "stopped by SIGTERM: finished stages are kept; the same command goes on from there"
    )


def test_the_grader_hears_of_a_signal(extracted: World, grader: tuple[Grader, str]) -> None:  # noqa: F811
    peer, port = grader
    run = extracted.start(pause=IN_VAE, AICROWD_IS_GRADING="1", AICROWD_REDIS_PORT=port)
    run.send(signal.SIGTERM, signal.SIGCONT)
    code, said = run.end()
    assert code == 143, said
    assert peer.named()[-1] == ("ERROR", "disentanglement_challenge:execution_error")
    assert "stopped by SIGTERM" in peer.events[-1]["payload"]["error"]


@pytest.mark.slow
def test_sigterm_while_scoring(tmp_path: Path, images: np.ndarray) -> None:
    """Nothing half-written, nothing trained a second time; the scores are there in the end."""
    # Every factor needs two values to be scored.
    world = World(tmp_path, np.tile(images, (4, 1, 1, 1)), (2,) * 7)
    arguments = ["run", "--quick", "--name", "trial", *FAST]
    run = Run(arguments, world.environment(), world.folder / "said.txt")
    run.wait_for(begun(world, "scoring"))
    exported = world.model.stat().st_mtime_ns
    run.send(signal.SIGTERM)
    code, said = run.end()
    assert code == 143, said
    assert "finished stages are kept" in said
    assert not left_over(world.folder)
    assert not (world.run / "scores.json").exists()
    code, said = Run(arguments, world.environment(), world.folder / "said.txt").end()
    assert code == 0, said
    assert world.model.stat().st_mtime_ns == exported
    assert (world.run / "scores.json").exists()
    for stage in ("features", "VAE", "export", "scoring"):
        assert f"{stage} " in said.rpartition("peak memory\n")[2], "the table has all stages"


@pytest.mark.slow
@pytest.mark.parametrize("torchrun", [False, True])
def test_sigterm_while_finetuning(
    tmp_path: Path,
    data: Path,  # noqa: F811
    torchrun: bool,
) -> None:
    """No checkpoint but the one that the signal leads to."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    bindings = settings(finetune__checkpoint_steps=1000, finetune__epochs=1)
    finish(command(data, whole, bindings, torchrun))
    process = subprocess.Popen(
        command(data, stopped, bindings, torchrun),
        cwd=PROJECT,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while process.poll() is None and not (stopped / "tensorboard").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    if not torchrun:  # which has an exit code, and a traceback, of its own
        assert process.returncode == 143, said
        assert "Traceback" not in said
    # The signal may come before the first step, when nothing is there to be saved.
    saved = f"of 2 steps are in {stopped / 'checkpoint.pt'}; the same command goes on"
    assert saved in said or not (stopped / "checkpoint.pt").exists(), said
    finish(command(data, stopped, bindings, torchrun))
    states = [
        torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (whole, stopped)
    ]
    assert states[0]["step"] == states[1]["step"] == 2
    for key, value in states[0]["network"].items():
        assert torch.equal(value, states[1]["network"][key]), key
    losses = [state["history"][0]["loss"] for state in states]
    assert losses[0] == losses[1]


# --- killed


@pytest.mark.slow
def test_killed_and_stopped_while_rendering(tmp_path: Path) -> None:
    arguments = ["render", "--axis-steps", "4", "--out"]
    file = Path("mpi3d_real") / "mpi3d_real.npz"
    for name, number in (("whole", 0), ("killed", signal.SIGKILL), ("stopped", signal.SIGTERM)):
        run = Run([*arguments, str(tmp_path / name)], {}, tmp_path / "said.txt")
        if number:
            run.wait_for((tmp_path / name / file).with_suffix(".npz.tmp").exists)
            run.send(number)
            code, said = run.end()
            assert code in (-signal.SIGKILL, 143), said
            assert not (tmp_path / name / file).exists()
            assert (code == 143) == (not left_over(tmp_path / name))
            run = Run([*arguments, str(tmp_path / name)], {}, tmp_path / "said.txt")
        code, said = run.end()
        assert code == 0, said
        assert not left_over(tmp_path / name)
        assert (tmp_path / name / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.mark.slow
def test_killed_at_random_moments(world: World, quiet: World) -> None:
    """SIGKILL in each stage, a random moment after its beginning."""
    moments = random.Random(0)
    features = None
    for stage in ("features", "features", "VAE", "VAE", "export", "codes"):
        (world.run / "train.log").unlink(missing_ok=True)
        run = world.start()
        with contextlib.suppress(AssertionError):  # the stage was over before it was seen
            run.wait_for(begun(world, stage))
        time.sleep(moments.uniform(0, 0.5))
        run.process.kill()
        run.end()
        if features:
            assert world.cached("features/*.npy")[0].stat().st_ino == features, "extracted again"
        elif finished := world.cached("features/*.npy"):
            features = finished[0].stat().st_ino
        if world.model.exists():  # whole, whenever it is there
            torch.jit.load(str(world.model))
    code, said = world.start().end()
    assert code == 0, said
    same_model(world, quiet)
    assert not left_over(world.folder)


# --- disturbed


def test_two_at_once(world: World, quiet: World) -> None:
    """The second is refused, in the same folder and over the same features; the first goes on."""
    first = world.start(pause=IN_FEATURES)
    refused(world.start().end(), f"another run is working on {world.run}: wait for it, or give")
    features = world.cached("features/*.part")[0].with_suffix("")
    refused(world.start(name="other").end(), f"another run is working on {features}: wait for it,")
    first.send(signal.SIGCONT)
    code, said = first.end()
    assert code == 0, said
    same_model(world, quiet)


@pytest.mark.slow
def test_a_half_written_checkpoint(extracted: World, quiet: World) -> None:
    run = extracted.start(pause=IN_VAE)
    run.process.kill()
    run.end()
    whole = extracted.checkpoint.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1):
        extracted.checkpoint.write_bytes(whole[:size])
        refused(extracted.start().end(), f"{extracted.checkpoint} is damaged")
        assert extracted.checkpoint.read_bytes() == whole[:size], "it is the user's to delete"
    extracted.checkpoint.unlink()
    code, said = extracted.start().end()
    assert code == 0, said
    same_model(extracted, quiet)


def test_anothers_checkpoint_is_refused_before_anything_is_extracted(extracted: World) -> None:
    """Here by a run of two seeds, which knows no checkpoint of that name and would remove it."""
    run = extracted.start(pause=IN_VAE)
    run.process.kill()
    run.end()
    before, cache = extracted.checkpoint.read_bytes(), extracted.folder / "empty_cache"
    other = Run(
        ["train", "--config", "dry_run.gin", "--name", "trial", *FAST, "--seeds", "2"],
        extracted.environment() | {"SUBMISSION_CACHE": str(cache)},
        extracted.folder / "said.txt",
    )
    refused(other.end(), f"{extracted.checkpoint} is of another configuration")
    assert extracted.checkpoint.read_bytes() == before
    assert not cache.exists()


def test_features_cut_short(extracted: World) -> None:
    (features,) = extracted.cached("features/*.npy")
    cut = features.read_bytes()[:-1]
    features.write_bytes(cut)
    refused(extracted.start().end(), f"{features} is damaged: delete it")
    assert features.read_bytes() == cut


def test_a_vanished_data_file(world: World, quiet: World) -> None:
    """Taken away while features are computed: what is open stays readable, the run ends well.
    Not there when it is continued: one sentence; put back, it goes on."""
    away = world.folder / "away.npz"
    run = world.start(pause=IN_FEATURES)
    run.process.kill()
    run.end()
    done = rows(world)
    world.data.rename(away)
    refused(world.start().end(), f"no file {world.data}")
    assert rows(world) == done
    away.rename(world.data)
    run = world.start(pause=IN_FEATURES)
    assert rows(world) > done
    world.data.rename(away)
    run.send(signal.SIGCONT)
    code, said = run.end()
    assert code == 0, said
    same_model(world, quiet)


# --- disks


@contextlib.contextmanager
def disk(folder: Path, mib: int) -> Iterator[None]:
    """A small disk of its own at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("may not mount a small disk here: needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def filled(folder: Path, leaving: int) -> Iterator[None]:
    """The disk at `folder` with so many bytes free."""
    filler = folder / "filler"
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(folder).free - leaving)
    try:
        yield
    finally:
        filler.unlink()


@pytest.mark.slow
def test_a_full_disk_under_the_features(world: World, quiet: World) -> None:
    with disk(world.home, 50):
        with filled(world.home, COUNT * ROW // 2):
            refused(world.start().end(), "free some, or name another folder")
        run = world.start(pause=IN_FEATURES)
        with filled(world.home, 5000):
            run.send(signal.SIGCONT)
            refused(run.end(), "No space left on device): free disk space there")
            assert not world.cached("features/*.npy")
        done = rows(world)
        assert done >= BATCH
        code, said = world.start().end()
        assert code == 0, said
        same_model(world, quiet)


@pytest.mark.slow
@pytest.mark.parametrize(("leaving", "what"), [(20_000, "checkpoint.pt"), (20 << 20, "model")])
def test_a_full_disk_under_the_output(
    extracted: World, quiet: World, leaving: int, what: str
) -> None:
    """Too little room for a checkpoint; enough for that, but not for the export."""
    with disk(extracted.output, 150):
        with filled(extracted.output, leaving):
            refused(extracted.start().end(), "could not be written")
            assert not extracted.model.exists()
            assert not left_over(extracted.output)
            assert extracted.checkpoint.exists() == (what == "model")
        code, said = extracted.start().end()
        assert code == 0, said
        assert (f"continuing after epoch {EPOCHS} of {EPOCHS}" in said) == (what == "model")
        same_model(extracted, quiet)


def test_a_read_only_output(extracted: World, quiet: World) -> None:
    with disk(extracted.output, 150):
        remount = ["mount", "-o", "remount,ro", str(extracted.output)]
        subprocess.run(remount, check=True)
        refused(extracted.start().end(), f"{extracted.run}")
        subprocess.run([*remount[:2], "remount,rw", str(extracted.output)], check=True)
        run = extracted.start(pause=IN_VAE)
        run.process.kill()
        run.end()
        subprocess.run(remount, check=True)
        before = extracted.checkpoint.read_bytes()
        refused(extracted.start().end(), "Read-only file system")
        assert extracted.checkpoint.read_bytes() == before
        subprocess.run([*remount[:2], "remount,rw", str(extracted.output)], check=True)
        code, said = extracted.start().end()
        assert code == 0, said
        same_model(extracted, quiet)
