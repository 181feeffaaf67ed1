"""Whole runs as a user starts them: real processes, real signals, a real Redis protocol peer."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch
from patches import write_patches

from submission.render.rig import FACTOR_NAMES
from submission.runtime.paths import PROJECT, WEIGHTS

SIZES = (2, 2, 2, 2, 2, 2, 2)
AXES = FACTOR_NAMES[5:]

# Everything small: the subject is the run, not the representation.
FAST = [
    "train_vae.epochs=3",
    "Encoder.widths=(32,)",
    "Decoder.widths=(32,)",
    "VAE.latents=4",
    "extract_features.batch_size=32",
]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one tiny data set (two of its factors visible) and a cache for all runs."""
    folder = tmp_path_factory.mktemp("world")
    write_patches(folder / "data", SIZES)
    return folder


def environment(world: Path, output: Path, **extra: str) -> dict[str, str]:
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("AICROWD", "CROWDAI", "DISENT", "SUBMISSION"))
    }
    return {
        **kept,
        "DISENTANGLEMENT_LIB_DATA": str(world / "data"),
        "AICROWD_DATASET_NAME": "mpi3d_real",
        "AICROWD_OUTPUT_PATH": str(output),
        "AICROWD_EVALUATION_NAME": "trial",
        "SUBMISSION_HOME": str(world),
        "PYTHONPATH": str(PROJECT),
        **extra,
    }


def call(
    command: list[str], world: Path, output: Path, **extra: str
) -> subprocess.CompletedProcess[str]:
    return processes.call(command, environment(world, output, **extra), output)


@pytest.fixture(scope="session")
def dry_run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One dry run through run.sh, called from another folder; its folder and what it printed."""
    output = tmp_path_factory.mktemp("dry")
    result = subprocess.run(
        [str(PROJECT / "run.sh"), "--quick", "--name", "first", *FAST],
        # The interpreter of these tests has the locked packages, so run.sh installs nothing.
        env=environment(world, output, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        # As in a notebook: no backend that is installed here.
        | {
            "SUBMISSION_HOME": str(world),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        },
        cwd=output,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return output / "first", result.stdout


def test_dry_run_prints_one_honest_table(dry_run: tuple[Path, str]) -> None:
    folder, printed = dry_run
    table = (folder / "scores.txt").read_text()
    assert table in printed
    words = " ".join(table.split())
    for row in ("FactorVAE", "DCI", "SAP", "IRS", "MIG"):
        line = next(line for line in table.splitlines() if line.startswith(row))
        assert len(line.split()) == 4, "this run, the ideal code, the paper"
    assert "NOT MPI3D" in table
    assert "QUICK" in table
    assert "0.992" in table, "the paper's FactorVAE on the full real grid"
    assert "128 images, grid 2 x 2 x 2 x 2 x 2 x 2 x 2" in words
    for stage in ("features", "VAE", "export", "scoring"):
        assert stage in printed, "time and memory per stage"


def test_run_folder_explains_itself(dry_run: tuple[Path, str]) -> None:
    folder, _ = dry_run
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["data"]["stand_in"] is True
    assert 0 <= scores["scores"]["mig"]["discrete_mig"] <= 1
    assert "torch" in scores["versions"]
    config = (folder / "config.gin").read_text()
    assert "train_vae.epochs = 3" in config, "as run, command line included"
    assert "STAND-IN" in (folder / "train.log").read_text()
    assert (folder / "losses.csv").read_text().count("\n") == 4
    assert (folder / "scores.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    assert (folder / "representation" / "results").is_dir()
    assert {"features", "VAE", "export"} <= set(json.loads((folder / "stages.json").read_text()))
    left = {path.name for path in folder.rglob("*")}
    assert "checkpoint.pt" not in left
    assert not [name for name in left if "tmp" in name.split(".")]


def test_codes_match_the_exported_model(dry_run: tuple[Path, str], world: Path) -> None:
    """`encode` and scoring use codes from the cache; the exported file must say the same."""
    folder, _ = dry_run
    model = folder / "representation" / "pytorch_model.pt"
    out = folder.parent / "codes.npz"
    result = call(["encode", "--model", str(model), "--out", str(out)], world, folder.parent)
    assert result.returncode == 0, result.stderr
    with np.load(out, allow_pickle=False) as codes:
        assert codes["codes"].shape == (128, 4)
        assert codes["codes"].dtype == np.float32
        assert codes["factor_sizes"].tolist() == list(SIZES)
        assert str(codes["stand_in"]) == "patches made by a test"
        with np.load(world / "data/mpi3d_real/mpi3d_real.npz", allow_pickle=False) as data:
            x = torch.from_numpy(data["images"][::37]).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            direct = torch.jit.load(str(model))(x).numpy()
        np.testing.assert_allclose(codes["codes"][::37], direct, rtol=1e-3, atol=1e-3)


def test_encode_takes_any_images(dry_run: tuple[Path, str], world: Path, tmp_path: Path) -> None:
    model = dry_run[0] / "representation" / "pytorch_model.pt"
    np.savez_compressed(tmp_path / "mine.npz", images=np.zeros((5, 64, 64, 3), np.uint8))
    result = call(
        ["encode", "--images", "mine.npz", "--model", str(model), "--out", "out.npz"],
        world,
        tmp_path,
    )
    assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "out.npz", allow_pickle=False) as codes:
        assert codes.files == ["codes"]
        assert codes["codes"].shape == (5, 4)


def test_a_cache_that_cannot_be_written_costs_no_codes(
    dry_run: tuple[Path, str], world: Path, tmp_path: Path
) -> None:
    model = dry_run[0] / "representation" / "pytorch_model.pt"
    np.savez_compressed(tmp_path / "mine.npz", images=np.zeros((5, 64, 64, 3), np.uint8))
    (tmp_path / "cache").touch()  # a file, in which root cannot write either
    result = call(
        ["encode", "--images", "mine.npz", "--model", str(model), "--out", "out.npz"],
        world,
        tmp_path,
        SUBMISSION_CACHE=str(tmp_path / "cache"),
    )
    assert result.returncode == 0, result.stderr
    assert "codes cannot be kept in the cache" in result.stderr
    assert (tmp_path / "out.npz").is_file()


def test_a_cache_that_has_the_features_need_not_be_written(
    dry_run: tuple[Path, str], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from submission.__main__ import main

    for name, value in environment(world, tmp_path).items():
        monkeypatch.setenv(name, value)
    may = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: "cache" not in str(path) and may(path, mode)
    )
    command = ["train", "--config", "dry_run.gin", *FAST]
    assert main(command) == 0
    assert (tmp_path / "trial" / "representation" / "pytorch_model.pt").is_file()
    monkeypatch.setenv("SUBMISSION_CACHE", str(tmp_path / "empty cache"))
    assert main([*command, "--name", "second"]) == 2


@pytest.mark.slow
def test_stock_route_agrees(dry_run: tuple[Path, str], world: Path, tmp_path: Path) -> None:
    """The exported file called on images for a metric, against codes computed once."""
    model = dry_run[0] / "representation" / "pytorch_model.pt"
    scores = []
    for extra in ([], ["--stock"]):
        command = ["score", "--quick", "--metrics", "mig", "--model", str(model), *extra]
        result = call(command, world, tmp_path)
        assert result.returncode == 0, result.stderr
        scores.append(json.loads((tmp_path / "trial" / "scores.json").read_text())["scores"])
    # Not to the last digit: float32 sums in the network depend on the batch they are made in.
    assert scores[0]["headline"]["mig"] == pytest.approx(scores[1]["headline"]["mig"], abs=1e-3)


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def readout(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of readout.gin on the tiny data set."""
    output = tmp_path_factory.mktemp("readout")
    result = call([*READOUT, "--name", "read"], world, output)
    assert result.returncode == 0, result.stderr
    return output / "read"


READOUT = ["train", "--config", "readout.gin", "extract_features.batch_size=32"]


@pytest.mark.slow
def test_a_readout_exports_what_the_shipped_heads_answer(world: Path, readout: Path) -> None:
    """Against the two weight files, read here: softmax of twice the logits of the values that
    occur, their expected number; the axes' of the logits themselves. Clusters only draw."""
    from safetensors import safe_open

    from submission.features.extractor import Extractor
    from submission.features.weights import load_extractor

    with np.load(world / "data" / "mpi3d_real" / "mpi3d_real.npz", allow_pickle=False) as data:
        images = torch.from_numpy(data["images"][:20]).permute(0, 3, 1, 2).float() / 255
    extractor = load_extractor(WEIGHTS / "vgg19_bn_agg.safetensors", Extractor("learned", 64))
    with torch.inference_mode():
        codes = torch.jit.load(str(readout / "representation" / "pytorch_model.pt"))(images)
        vectors = extractor(images)
    with open(readout / "readout.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    seen = 0
    with safe_open(WEIGHTS / "heads.safetensors", "pt") as file:
        scale = float(file.metadata()["head_scale"])
        for i, row in enumerate(rows):
            if row["latent"] == "left out" or row["clusters"] != "1":
                continue
            weight, bias = (file.get_tensor(f"heads.{i}.{name}") for name in ("weight", "bias"))
            logits = (scale * vectors @ weight.T + bias) * (1 if row["factor"] in AXES else 2)
            if row["occurring"] != "all":
                logits = logits[:, [int(value) for value in row["occurring"].split()]]
            numbers = torch.arange(logits.shape[1]).float()
            expected = torch.softmax(logits, dim=1) @ numbers - numbers.mean()
            torch.testing.assert_close(codes[:, int(row["latent"])], expected, atol=1e-3, rtol=1e-3)
            seen += 1
    assert seen > 1


@pytest.mark.slow
def test_a_readout_leaves_what_a_run_leaves_and_is_not_made_again(
    world: Path, readout: Path
) -> None:
    left = {path.name for path in readout.iterdir() if not path.name.startswith(".")}
    expected = {"representation", "config.gin", "train.log", "readout.csv", "stages.json"}
    assert left == expected | {"exported.json"}
    assert {"features", "heads", "export"} <= set(json.loads((readout / "stages.json").read_text()))
    result = call([*READOUT, "--name", "read"], world, readout.parent)
    assert "nothing to train" in result.stderr
    assert result.returncode == 0
    for quick in (["score", "--quick", "--metrics", "mig,sap"], ["report", "--run", str(readout)]):
        named = ["--name", "read"] if quick[0] == "score" else []
        result = call([*quick, *named], world, readout.parent)
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seeds", "2"], "read_out has no seed, all would be the same: leave out --seeds"),
        (["--weights", "mine/vgg19_bn_agg.safetensors"], "there is no mine/heads.safetensors"),
        (["train_vae.epochs=3"], "train_vae is bound beside read_out"),
    ],
)
def test_what_a_readout_cannot_do_is_one_sentence(
    world: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "vgg19_bn_agg.safetensors").symlink_to(
        WEIGHTS / "vgg19_bn_agg.safetensors"
    )
    result = call([*READOUT, *more], world, tmp_path)
    assert result.returncode == 2
    assert said in result.stderr.splitlines()[-1]


# Few components, so that one of two groups has several, and a VAE from each of two starts.
GROUPS = [
    "train_groups.components=6",
    "train_groups.groups=2",
    "train_groups.redundant=1.0",
    "train_groups.starts=2",
    "train_vae.epochs=60",
    "train_vae.batch_size=32",
    "extract_features.batch_size=32",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "bindings", "checkpoint"),
    [
        ("dry_run.gin", [*FAST[1:], "train_vae.epochs=20"], "checkpoint.pt"),
        ("refined.gin", GROUPS, "group_0/start_0/checkpoint.pt"),
        ("refined.gin", GROUPS, "group_0/start_1/checkpoint.pt"),
        ("refined.gin", [*GROUPS, "--seeds", "2"], "seed_1/group_0/start_0/checkpoint.pt"),
    ],
)
def test_killed_training_goes_on_to_the_same_model(
    world: Path, tmp_path: Path, config: str, bindings: list[str], checkpoint: str
) -> None:
    """SIGKILL after some epochs; the same command ends with the model of an undisturbed run."""
    models = []
    for name, kill in (("whole", False), ("killed", True)):
        command = ["train", "--config", config, "--name", name, *bindings]
        if kill:
            process = subprocess.Popen(
                [sys.executable, "-m", "submission", *command],
                # As many threads as `call` has: sums round differently with another number.
                env=environment(world, tmp_path, OMP_NUM_THREADS="1"),
                cwd=tmp_path,
                text=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            wait_for(tmp_path / name / checkpoint, process)
            process.send_signal(signal.SIGKILL)
            process.wait()
            model = tmp_path / name / "representation" / "pytorch_model.pt"
            assert not model.exists()
        result = call(command, world, tmp_path)
        assert result.returncode == 0, result.stderr
        if kill:
            assert "continuing after epoch" in result.stderr
        models.append(torch.jit.load(str(tmp_path / name / "representation" / "pytorch_model.pt")))
    assert len(models[0].state_dict()) == len(models[1].state_dict())
    for (name, a), b in zip(
        models[0].state_dict().items(), models[1].state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    with np.load(world / "data/mpi3d_real/mpi3d_real.npz", allow_pickle=False) as data:
        x = torch.from_numpy(data["images"][:64]).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        codes = models[1](x)
    assert codes.shape == (64, 2 if config == "refined.gin" else 4)
    assert torch.isfinite(codes).all()


@pytest.mark.slow
def test_seeds_that_hours_left_over_are_trained_by_the_same_command(
    world: Path, tmp_path: Path
) -> None:
    command = ["train", "--config", "dry_run.gin", "--name", "hours", *FAST, "--seeds", "3"]
    for hours, said in (
        ("1e-9", "seed 2 is not begun"),
        ("1", "seed 2 (3 of 3)"),
        ("1", "nothing to"),
    ):
        result = call([*command, "--hours", hours], world, tmp_path)
        assert result.returncode == 0, result.stderr
        assert said in result.stderr
        if hours == "1e-9":
            # Another call that has no time leaves the model, and so its scores, as they are.
            model = (tmp_path / "hours" / "representation" / "pytorch_model.pt").read_bytes()
            (tmp_path / "hours" / "scores.json").write_text("its scores\n")
            again = call([*command, "--hours", hours], world, tmp_path)
            assert "no further seed" in again.stderr
            assert (tmp_path / "hours" / "scores.json").exists()
            path = tmp_path / "hours" / "representation" / "pytorch_model.pt"
            assert path.read_bytes() == model
    ranked = json.loads((tmp_path / "hours" / "udr.json").read_text())
    assert len(ranked["udr"]) == 3
    assert not list((tmp_path / "hours").rglob("checkpoint.pt"))
    (tmp_path / "whole").mkdir()
    result = call([*command[:4], "whole", *command[5:]], world, tmp_path)
    assert json.loads((tmp_path / "whole" / "udr.json").read_text()) == ranked


@pytest.mark.slow
def test_a_runs_own_configuration_runs_again(world: Path, tmp_path: Path) -> None:
    """The config.gin in a run's folder, its seed included, gives the run's model."""
    given = [*FAST, "train_vae.seed=7"]
    result = call(["train", "--config", "dry_run.gin", "--name", "first", *given], world, tmp_path)
    assert result.returncode == 0, result.stderr
    config = tmp_path / "first" / "config.gin"
    assert "train_vae.seed = 7" in config.read_text()
    result = call(["train", "--config", str(config), "--name", "second"], world, tmp_path)
    assert result.returncode == 0, result.stderr
    assert config.read_text() == (tmp_path / "second" / "config.gin").read_text()
    first, second = (
        torch.jit.load(str(tmp_path / name / "representation" / "pytorch_model.pt")).state_dict()
        for name in ("first", "second")
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
def test_a_run_goes_on_with_the_features_it_began_with(world: Path, tmp_path: Path) -> None:
    """Those of bfloat16, as a run for the server has them, though float32's are there, too."""
    cache = tmp_path / "cache"
    command = ["train", "--config", "dry_run.gin", "--name", "same", *FAST]
    diverging = [*command, "train_vae.learning_rate=1e30"]  # it comes to nothing after the features

    def log() -> str:
        result = call(diverging, world, tmp_path, SUBMISSION_CACHE=str(cache))
        assert result.returncode == 2
        return result.stderr

    first = log()
    (plain,) = (cache / "features").glob("*.npy")
    assert f"features: {plain}, multiplied in float32" in first
    fast = plain.with_suffix(".bfloat16.npy")
    shutil.copy(plain, fast)
    record = tmp_path / "same" / "exported.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"features": fast.name}))
    assert f"features: {fast}, multiplied in bfloat16" in log()
    record.unlink()
    assert f"features: {plain}, multiplied in float32" in log()


@pytest.mark.slow
def test_another_training_in_a_runs_folder_leaves_none_of_its_results(
    world: Path, tmp_path: Path
) -> None:
    """One VAE with curves and scores; then groups under the same name; then one VAE again."""
    plain = ["--config", "dry_run.gin", *FAST]
    result = call(["train", "--name", "same", *plain], world, tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "same"
    assert (folder / "losses.csv").exists()
    (folder / "scores.json").write_text("the first model's\n")
    # Come to nothing, it has overwritten the curves: the report must not draw them as the model's.
    diverging = ["train", "--name", "same", *plain, "train_vae.learning_rate=1e30"]
    assert call(diverging, world, tmp_path).returncode == 2
    assert (folder / "scores.json").exists()
    assert "unfinished" in json.loads((folder / "exported.json").read_text())
    (folder / "checkpoint.pt").unlink()  # of its last good epoch
    groups = ["--config", "refined.gin", *GROUPS]
    result = call(["train", "--name", "same", *groups], world, tmp_path)
    assert result.returncode == 0, result.stderr
    left = {path.name for path in folder.iterdir()}
    assert "groups.csv" in left
    assert not left & {"losses.csv", "tensorboard", "scores.json"}
    result = call(["train", "--name", "same", *plain], world, tmp_path)
    assert result.returncode == 0, result.stderr
    left = {path.name for path in folder.iterdir()}
    assert "groups.csv" not in left
    assert {"losses.csv", "tensorboard"} <= left


class Grader:
    """Takes events from Redis lists as the challenge's grader does, and answers blocking ones."""

    def __init__(self, port: int) -> None:
        import redis

        self.redis = redis.Redis(port=port)
        self.events: list[dict[str, Any]] = []
        self.of_2019: list[dict[str, Any]] = []  # what came by the API's earlier name
        self.stopped = False
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.stopped = True
        self.thread.join()

    def listen(self) -> None:
        while not self.stopped:
            lists = {"AICROWD": self.events, "CROWDAI": self.of_2019}
            channel = "_REDIS_COMMUNICATION_CHANNEL"
            taken: Any = self.redis.brpop([wire + channel for wire in lists], timeout=1)
            if taken:
                wire, event = taken[0].decode().removesuffix(channel), json.loads(taken[1])
                lists[wire].append(event)
                if event["event_type"] != f"{wire}_EVENT_INFO":
                    answer = json.dumps({"ok": True})
                    self.redis.lpush(f"{wire}_BLOCKING_RESPONSE_CHANNEL", answer)

    def named(self) -> list[tuple[str, str]]:
        return [
            (e["event_type"].rpartition("_")[2], e["payload"]["event_type"]) for e in self.events
        ]


@pytest.fixture
def grader() -> Iterator[tuple[Grader, str]]:
    from fakeredis import TcpFakeServer

    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    peer = Grader(port)
    yield peer, str(port)
    peer.stop()
    server.shutdown()
    server.server_close()


def test_on_the_server_the_contract_is_kept(
    world: Path, tmp_path: Path, grader: tuple[Grader, str]
) -> None:
    peer, port = grader
    result = call(
        ["run", *FAST],
        world,
        tmp_path,
        AICROWD_IS_GRADING="true",
        AICROWD_REDIS_PORT=port,
        CROWDAI_IS_GRADING="true",
        CROWDAI_REDIS_PORT=port,
        SUBMISSION_CACHE=str(tmp_path / "cache"),
    )
    assert result.returncode == 0, result.stderr
    prefix = "disentanglement_challenge:"
    names = peer.named()
    assert names[0] == ("INFO", f"{prefix}execution_started")
    assert names[-1] == ("SUCCESS", f"{prefix}submit")
    assert set(names[1:-1]) == {("INFO", f"{prefix}register_progress")}
    shares = [e["payload"]["training_progress"] for e in peer.events[1:-1]]
    # The authors' release reports 0, .4 after the features, .9 after the VAE; the kit 1.
    assert shares == pytest.approx([0, 0.4, *(0.4 + 0.5 * e / 3 for e in (1, 2, 3)), 1])
    older = [
        {**e, "event_type": e["event_type"].replace("CROWDAI", "AICROWD")} for e in peer.of_2019
    ]
    assert older == peer.events
    representation = tmp_path / "trial" / "representation"
    module = torch.jit.load(str(representation / "pytorch_model.pt"))
    for batch in (16, 64):
        assert module(torch.rand(batch, 3, 64, 64)).shape == (batch, 4)
    assert list((representation / "results").iterdir()) == []
    assert not (tmp_path / "trial" / "scores.json").exists(), "the server scores, not we"
    assert len(list(tmp_path.rglob("config.gin"))) == 1, "one configuration alone"
    assert not list((tmp_path / "cache").rglob("*.npy")), "no features are left on the server"


def test_an_error_is_reported_to_the_grader(
    world: Path, tmp_path: Path, grader: tuple[Grader, str]
) -> None:
    peer, port = grader
    result = call(
        ["run"],
        world,
        tmp_path,
        AICROWD_IS_GRADING="1",
        AICROWD_REDIS_PORT=port,
        AICROWD_DATASET_NAME="mpi3d_toy",
    )
    assert result.returncode == 2
    assert peer.named()[-1] == ("ERROR", "disentanglement_challenge:execution_error")
    assert "mpi3d_toy.npz" in peer.events[-1]["payload"]["error"]


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["nobody", "mute"])
def test_a_silent_grader_hangs_nothing(world: Path, tmp_path: Path, peer: str) -> None:
    """Nobody listens at the port, or somebody who accepts and never says a word."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        if peer == "mute":
            mute.listen()
        result = call(
            ["run", *FAST],
            world,
            tmp_path,
            AICROWD_IS_GRADING="False",
            AICROWD_REDIS_PORT=str(mute.getsockname()[1]),
            AICROWD_EVENT_TIMEOUT="2",
            SUBMISSION_CACHE=str(world / "grading" / peer),
        )
    assert result.returncode == 0, result.stderr
    assert "did not answer 'submit'" in result.stderr
    assert (tmp_path / "trial" / "representation" / "pytorch_model.pt").exists()


MISTAKES = {
    "unknown data set": (["train", "--dataset", "celeba"], {}, "unknown data set 'celeba'"),
    "data set not there": (["train", "--dataset", "mpi3d_toy"], {}, "mpi3d_toy.npz"),
    "dry run of a missing set": (["run", "--dataset", "mpi3d_toy"], {}, "mpi3d_toy.npz"),
    "dry run of a mistyped folder": (
        ["run"],
        {"DISENTANGLEMENT_LIB_DATA": "mistyped"},
        "no npz file in that folder",
    ),
    "dry run of a set that the environment names": (
        ["run"],
        {"AICROWD_DATASET_NAME": "mpi3d_toy"},
        "but 'mpi3d_real/mpi3d_real.npz' in that folder",
    ),
    "a quoted ~": (
        ["score", "--model", "~/m.pt"],
        {"HOME": "/home/somebody"},
        "no exported model /home/somebody/m.pt",
    ),
    "no such config": (["train", "--config", "none.gin"], {}, "no configuration none.gin"),
    "binding that names nothing": (["train", "VAE.latent=3"], {}, "VAE.latent=3"),
    "no such device": (["train", "--device", "cuda:7"], {}, "no device 'cuda:7'"),
    "no weights": (["train", "--weights", "w.safetensors"], {}, "no weight file w.safetensors"),
    "name with a slash": (["train", "--name", "../x"], {}, "plain folder name"),
    "output is a file": (["train"], {"AICROWD_OUTPUT_PATH": __file__}, "cannot be written"),
    "nothing to score": (["score", "--name", "empty"], {}, "no exported model"),
    "unknown metric": (["score", "--metrics", "mig,fid"], {}, "unknown metric 'fid'"),
    "not an npz name": (["encode", "--out", "x.npy"], {}, "must end in .npz"),
    "images missing": (["encode", "--images", "x.npz", "--out", "y.npz"], {}, "no file x.npz"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence(
    world: Path,
    tmp_path: Path,
    mistake: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from submission.__main__ import main

    command, extra, message = MISTAKES[mistake]
    for name, value in environment(world, tmp_path, **extra).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    said = capsys.readouterr()
    assert message in said.err
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Traceback" not in said.err
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize(
    "command",
    [
        ["encode", "--images", "mine.npz", "--model", "m.pt", "--out", "mine.npz"],
        ["encode", "--images", "mine.npz", "--model", "m.pt", "--out", "other_name.npz"],
        ["probe", "--frames", "mine.npz", "--picture", "other_name.npz"],
        [
            *("finetune", "--config", "finetune_cpu.gin", "--out", "."),
            *("--from", "vgg19_bn_agg.safetensors"),
        ],
    ],
    ids=" ".join,
)
def test_no_command_writes_over_what_it_reads(
    world: Path,
    tmp_path: Path,
    command: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from submission.__main__ import main

    for name, value in environment(world, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    np.savez("mine.npz", images=np.zeros((5, 64, 64, 3), np.uint8))
    os.link("mine.npz", "other_name.npz")
    for name in ("m.pt", "vgg19_bn_agg.safetensors"):
        Path(name).write_bytes(b"not to be lost")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}
    assert main(command) == 2
    assert "is what is read, not to be written over" in capsys.readouterr().err
    assert before.items() <= {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}.items()


def test_a_wrong_command_line_exits_with_2(world: Path, tmp_path: Path) -> None:
    for command in (["fly"], [], ["train", "--fast"], ["render", "--axis-steps", "many"]):
        result = call(command, world, tmp_path)
        assert result.returncode == 2
        assert "Traceback" not in result.stderr
        assert "usage: " in result.stderr


def test_two_runs_in_one_folder_do_not_mix(world: Path, tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "trial").mkdir()
    with open(tmp_path / "trial" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = call(["train", *FAST], world, tmp_path)
    assert result.returncode == 2
    assert "another run is working on" in result.stderr
