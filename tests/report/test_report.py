"""The report, against codes whose picture is known, the scores and the library's own functions."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from PIL import Image

from submission.data.factors import FACTOR_NAMES
from submission.report import comparison
from submission.report.comparison import obstacles
from submission.report.runs import read_run
from submission.runtime.paths import PROJECT

SIZES = (3, 2, 2, 2, 2, 3, 2)
FACTORS = np.stack(np.unravel_index(np.arange(np.prod(SIZES)), SIZES), axis=1)
# Elements that HTML closes by itself.
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Reads a page strictly: every element closed in order; keeps tables' cells and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.cell_open = False
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.cell_open = True

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.cell_open = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.cell_open:
            self.tables[-1][-1][-1] += data


class ReadsPixels(torch.nn.Module):
    """Latent j is pixel (0, j), standardised: factor j for j < 7, and latent 7 a constant."""

    mean: torch.Tensor
    sd: torch.Tensor

    def __init__(self, mean: list[float], sd: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("sd", torch.tensor(sd))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images[:, 0, 0, :8] * 255 - self.mean) / self.sd


class Turned(ReadsPixels):
    """The same, but latent j is factor 6 - j."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        order = [6, 5, 4, 3, 2, 1, 0, 7]
        return (images[:, 0, 0, :8][:, order] * 255 - self.mean) / self.sd


def environment(world: Path) -> dict[str, str]:
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("AICROWD", "DISENT", "SUBMISSION"))
    }
    return {**kept, "SUBMISSION_HOME": str(world), "PYTHONPATH": str(PROJECT)}


def call(world: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return processes.call(command, environment(world))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose images say their factors, and a scored run whose latent j is factor j."""
    world = tmp_path_factory.mktemp("report")
    images = np.zeros((len(FACTORS), 64, 64, 3), np.uint8)
    images[:, 0, :7, 0] = FACTORS
    images[:, 32:, :, 1] = (FACTORS * [60, 20, 10, 5, 2, 1, 1]).sum(axis=1)[:, None, None]
    folder = world / "dataset" / "mpi3d_real"
    folder.mkdir(parents=True)
    np.savez(
        folder / "mpi3d_real.npz",
        images=images,
        factor_sizes=np.array(SIZES),
        stand_in=np.array("made <by> a test"),
    )
    run = world / "runs" / "known"
    (run / "representation").mkdir(parents=True)
    model = ReadsPixels([*FACTORS.mean(axis=0), 0.0], [*FACTORS.std(axis=0), 1.0])
    torch.jit.script(model).save(str(run / "representation" / "pytorch_model.pt"))
    done = call(world, "score", "--quick", "--name", "known", "--metrics", "mig,dci,sap,factor_vae")
    assert done.returncode == 0, done.stderr
    (run / "config.gin").write_text(
        "# as run\ntrain_vae.seed = 0\nEncoder.widths = \\\n    (8, 8)\n"
    )
    (run / "losses.csv").write_text(
        "epoch,beta,loss,squared_error,kl,active_latents,seconds\n"
        "0,0.1,9.0,8.0,3.0,8,1.0\n1,0.2,5.0,4.0,2.0,7,1.0\n"
    )
    (run / "stages.json").write_text('{"features": {"seconds": 12.5, "peak_mib": 1234}}')
    done = call(world, "report", "--run", str(run))
    assert done.returncode == 0, done.stderr
    return world


@pytest.fixture(scope="session")
def page(world: Path) -> Page:
    return Page((world / "runs/known/report.html").read_text(encoding="utf-8"))


def table(page: Page, head: str) -> list[list[str]]:
    return next(table for table in page.tables if head in " ".join(table[0]))


def heat(page: Page, rows: int) -> list[np.ndarray]:
    """The two heat maps' numbers, (rows, 7) each."""
    maps = [table for table in page.tables if "object color" in table[0]]
    return [np.array([[float(c) for c in r[1:8]] for r in t[1 : rows + 1]]) for t in maps]


def test_the_page_is_whole_and_needs_nothing_else(page: Page, world: Path) -> None:
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert len(page.ids) == len(set(page.ids))
    for name, value in page.attributes:
        assert "//" not in value or value.startswith("data:image/png;base64,"), (name, value)
        if name in ("src", "href"):
            assert value.startswith(("data:image/png;base64,", "#"))
    assert "//" not in re.sub(r"base64,[^\"]*", "", page.text)
    for anchor in re.findall(
        r"(?:href=\"|url\()#([\w-]+)", (world / "runs/known/report.html").read_text()
    ):
        assert anchor in page.ids
    for heading in ("Scores", "Learning curves", "Mutual", "Importance", "Traversals", "Time and"):
        assert heading in page.text
    assert "1,234" in page.text
    assert "12.5" in page.text


def test_a_stand_in_is_called_one(page: Page) -> None:
    assert "Run known, on a stand-in, not on MPI3D" in page.text
    head = table(page, "metric")[0]
    assert "stand-in, NOT MPI3D" in head[1]
    assert "QUICK" in page.text


def test_the_scores_are_those_of_scores_json(page: Page, world: Path) -> None:
    written = json.loads((world / "runs/known/scores.json").read_text())
    rows = {row[0]: row[1:] for row in table(page, "metric")[1:]}
    names = {"factor_vae": "FactorVAE", "dci": "DCI", "sap": "SAP", "mig": "MIG"}
    assert set(rows) == set(names.values())
    for metric, name in names.items():
        columns = (written["scores"], written["ideal_code"], written["paper"])
        assert rows[name] == [f"{column['headline'][metric]:.3f}" for column in columns]


def test_a_latent_per_factor_gives_the_diagonal(page: Page, world: Path) -> None:
    information, importance = heat(page, 8)
    np.testing.assert_allclose(information, np.eye(8)[:, :7], atol=0.03)
    np.testing.assert_allclose(importance, np.eye(8)[:, :7], atol=0.01)
    # The gaps below the map are MIG's summands.
    gaps = next(t for t in page.tables if "object color" in t[0])[-1]
    score = json.loads((world / "runs/known/scores.json").read_text())["scores"]["headline"]["mig"]
    assert np.mean([float(gap) for gap in gaps[1:]]) == pytest.approx(score, abs=1e-3)
    assert [row[0] for row in table(page, "object color")[7:9]] == ["latent 6", "latent 7 inactive"]
    assert "7 of 8 are active" in page.text


def test_a_strip_changes_its_factor_alone(page: Page) -> None:
    strips = [value for name, value in page.attributes if name == "src"]
    assert len(strips) == 1 + 7, "the anchor and the active latents"
    images = [
        np.array(Image.open(io.BytesIO(base64.b64decode(s.partition(",")[2]))).convert("RGB"))
        for s in strips
    ]
    anchor = images[0][0, :7, 0]
    assert anchor.tolist() == [size // 2 for size in SIZES]
    for j, strip in enumerate(images[1:]):
        shown = strip.reshape(64, 9, 64, 3)[0, :, :7, 0]
        assert set(shown[:, j].tolist()) == set(range(SIZES[j]))
        assert sorted(shown[:, j].tolist()) == shown[:, j].tolist()
        others = np.delete(np.arange(7), j)
        assert (shown[:, others] == anchor[others]).all()
        name = FACTOR_NAMES[j].replace("_", " ")
        assert f"latent {j} changes {name} ({SIZES[j]} values); the nearest" in page.text


def copies(world: Path, folder: Path, name: str, *scores: float, config: str = "") -> list[str]:
    """Folders of other seeds of a run, which differ in MIG, and in DCI not at all."""
    written = json.loads((world / "runs/known/scores.json").read_text())
    made = []
    for seed, score in enumerate(scores):
        written["scores"]["headline"] |= {"dci": 0.25, "mig": score}
        written["model_sha256"] = f"{name} {seed}"
        other = folder / f"{name}-seed{seed}"
        other.mkdir(parents=True)
        (other / "scores.json").write_text(json.dumps(written))
        lines = f"train_vae.seed = {seed}\nEncoder.widths = \\\n    (8, 8)\n{config}"
        (other / "config.gin").write_text(lines)
        made.append(str(other))
    return made


def compared(world: Path, tmp_path: Path, these: list[str], others: list[str]) -> Page:
    out = tmp_path / "compared.html"
    done = call(world, "report", "--run", *these, "--baseline", *others, "--out", str(out))
    assert done.returncode == 0, done.stderr
    return Page(out.read_text(encoding="utf-8"))


def test_one_run_against_one_is_not_judged(world: Path, tmp_path: Path) -> None:
    other = copies(world, tmp_path, "before", 0.5, config="VAE.latents = 3\n")
    page = compared(world, tmp_path, [str(world / "runs/known")], other)
    rows = {row[0]: row[1:] for row in table(page, "metric")[1:]}
    assert rows["DCI"][1:3] == ["0.250", f"{float(rows['DCI'][0]) - 0.25:+.3f}"]
    assert rows["SAP"][2] == "+0.000"
    assert "cannot be told from one run on a side" in page.text
    assert "▲" not in page.text
    assert "- VAE.latents = 3" in page.text
    assert "Encoder.widths = (8, 8)\n+" not in page.text


def test_models_stand_side_by_side(world: Path, tmp_path: Path) -> None:
    """Known, whose latent j is factor j, beside one whose latent j is factor 6 - j; and beside one
    that has left scores alone."""
    runs = tmp_path / "runs"
    (runs / "turned" / "representation").mkdir(parents=True)
    mean, sd = FACTORS.mean(axis=0)[::-1], FACTORS.std(axis=0)[::-1]
    model = Turned([*mean, 0.0], [*sd, 1.0])
    torch.jit.script(model).save(str(runs / "turned" / "representation" / "pytorch_model.pt"))
    out = environment(world) | {"AICROWD_OUTPUT_PATH": str(runs)}
    scored = processes.call(["score", "--quick", "--name", "turned", "--metrics", "mig,dci"], out)
    assert scored.returncode == 0, scored.stderr
    (before,) = copies(world, tmp_path, "before", 0.5)
    sides = ["--baseline", str(runs / "turned"), "--baseline", before]
    file = tmp_path / "beside.html"
    done = call(world, "report", "--run", str(world / "runs/known"), *sides, "--out", str(file))
    assert done.returncode == 0, done.stderr
    page = Page(file.read_text(encoding="utf-8"))
    assert len(page.ids) == len(set(page.ids))
    rows = table(page, "metric")
    assert [head[:10] for head in rows[0][1:6]] == [
        *("knownstand", "turnedstan", "difference", "before-see", "difference")
    ]
    assert rows[-1][0] == "MIG"
    assert rows[-1][4] == "0.500"
    diagonal = np.eye(8)[:, :7]
    turned = np.vstack([diagonal[6::-1], diagonal[7:]])
    for found, expected in zip(heat(page, 8), [diagonal, turned] * 2, strict=True):
        np.testing.assert_allclose(found, expected, atol=0.03)
    first, last = (FACTOR_NAMES[j].replace("_", " ") for j in (0, 6))
    for name in (first, last):
        assert f"latent 0 changes {name} (" in page.text
    assert "All that follows is of known and of turned alone" in page.text


def test_seeds_are_averaged_and_judged_by_welchs_interval(world: Path, tmp_path: Path) -> None:
    """MIG of .9, known's, .8 and .7 less .1, .2 and .3: by hand, with 1/3 of the variances each,
    their root .0816, and t of 4 degrees of freedom, 2.776."""
    known = world / "runs/known"
    own = json.loads((known / "scores.json").read_text())["scores"]["headline"]["mig"]
    others = copies(world, tmp_path, "before", own - 0.8, own - 0.7, own - 0.6, config="a.b = 1\n")
    more = copies(world, tmp_path, "after", own - 0.1, own + 0.1)
    shutil.copy(Path(more[0]) / "config.gin", known / "config.gin")
    page = compared(world, tmp_path, [str(known), *more], others)
    rows = {row[0]: row[1:] for row in table(page, "metric")[1:]}
    half = 2.776 * np.sqrt(2 * 0.1**2 / 3)
    assert rows["MIG"][0] == f"{own:.3f} ± 0.100"
    assert rows["MIG"][1] == f"{own - 0.7:.3f} ± 0.100"
    assert rows["MIG"][2] == f"▲ +0.700{0.7 - half:+.3f} to {0.7 + half:+.3f}"
    assert rows["SAP"][2] == "+0.000", "equal in every seed: no interval"
    assert rows["DCI"][2].startswith("+"), rows["DCI"]
    assert "a row without an interval is the same in all seeds" in page.text
    assert "3 seeds" in page.text
    assert "All that follows is of known alone" in page.text
    assert "- a.b = 1" in page.text
    assert "train_vae.seed =" not in page.text[: page.text.index("Learning curves")]


def test_a_seed_without_scores_hides_no_other(world: Path, tmp_path: Path) -> None:
    made = copies(world, tmp_path, "before", 0.5, 0.6, 0.7)
    (Path(made[1]) / "scores.json").unlink()
    page = compared(world, tmp_path, [str(world / "runs/known")], made)
    rows = {row[0]: row[1:] for row in table(page, "metric")[1:]}
    assert rows["MIG"][1] == f"{np.mean([0.5, 0.7]):.3f} ± {np.std([0.5, 0.7], ddof=1):.3f}"
    assert "no scores (yet): before-seed1." in page.text


def test_what_cannot_be_compared_is_said(world: Path, tmp_path: Path) -> None:
    runs = [read_run(Path(p)) for p in copies(world, tmp_path, "a", 0.5, 0.6)]
    assert obstacles(runs) == []
    mixed = copies(world, tmp_path, "b", 0.5, config="VAE.latents = 3\n")
    mixed_runs = [*runs, read_run(Path(mixed[0]))]
    said = ["a-seed0 and a-seed1 and b-seed0 differ in more than the seed"]
    assert obstacles(mixed_runs) == said
    twice = obstacles([runs[0], runs[0]])
    assert twice == ["a-seed0 and a-seed0 are not all of different seeds"]
    for part, key, value, words in (
        ("scores", "settings", {}, "their metric settings differ"),
        ("data", "md5", "another", "they were measured on different data"),
    ):
        scores = json.loads((Path(mixed[0]) / "scores.json").read_text())
        scores[part][key] = scores[part][key] | {"mig.num_train": 7} if value == {} else value
        (Path(mixed[0]) / "scores.json").write_text(json.dumps(scores))
        other = read_run(Path(mixed[0]))
        assert words in obstacles(runs, [other])
    # Weights and ranked seeds are in no binding.
    (Path(mixed[0]) / "config.gin").unlink()
    record = {"weights": "0123456789", "seeds": 8, "trained": 5}
    (Path(mixed[0]) / "exported.json").write_text(json.dumps(record))
    changes = comparison.changes([read_run(Path(mixed[0]))], runs)
    assert "+ --weights = SHA-256 01234567..." in changes
    assert "+ --seeds = 8 (5 trained), the first by UDR" in changes


def test_no_active_latent_is_no_mistake(world: Path, tmp_path: Path) -> None:
    """Everything collapsed: a page that says so, without strips."""
    run = tmp_path / "runs" / "flat"
    (run / "representation").mkdir(parents=True)
    model = ReadsPixels([*FACTORS.mean(axis=0), 0.0], [1e4] * 8)
    torch.jit.script(model).save(str(run / "representation" / "pytorch_model.pt"))
    out = {"AICROWD_OUTPUT_PATH": str(tmp_path / "runs")}
    for command in (
        ["score", "--quick", "--name", "flat", "--metrics", "mig"],
        ["report", "--run", str(run)],
    ):
        done = processes.call(command, environment(world) | out)
        assert done.returncode == 0, done.stderr
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert "0 of 8 are active" in page.text
    assert "The scores of flat hold none: score it again, with DCI" in page.text
    assert "No latent is active" in page.text


def test_the_curves_are_those_of_the_exported_seeds_groups(world: Path, tmp_path: Path) -> None:
    run = tmp_path / "grouped"
    shutil.copytree(world / "runs/known", run)
    (run / "config.gin").write_text("train_groups.groups = 3\n")
    (run / "udr.json").write_text('{"best_seed": 4}')
    (run / "seed_4").mkdir()
    (run / "seed_4" / "groups.csv").write_text(
        "group,components,start,clusters,explained_by_others,latent\n"
        "0,1,,1,0.1,0\n2,3,5,3,0.2,1\n10,2,0,1,0.7,left out\n11,4,1,1,,inactive\n"
    )
    head = "epoch,beta,loss,squared_error,kl,active_latents,seconds\n"
    # The last is left of an earlier run, whose first group had several components.
    for seed, group, error in ((3, 0, 9.0), (4, 10, 7.0), (4, 2, 5.0), (4, 0, 3.0)):
        below = run / f"seed_{seed}" / f"group_{group}" / f"start_{5 if group == 2 else 0}"
        below.mkdir(parents=True)
        (below / "losses.csv").write_text(f"{head}0,0.1,9.0,{error},3.0,1,1.0\n")
    losses = read_run(run).losses
    assert {name: rows[0]["squared_error"] for name, rows in losses.items()} == {
        "group 2": 5.0,
        "group 10": 7.0,
    }
    assert list(losses) == ["group 2", "group 10"]
    done = call(world, "report", "--run", str(run))
    assert done.returncode == 0, done.stderr
    text = (run / "report.html").read_text(encoding="utf-8")
    curves = text[text.index("Learning curves") : text.index("what MIG looks at")]
    assert "group 2<" in curves
    assert "group 10<" in curves
    assert table(Page(text), "explained by others")[1:] == [
        ["0", "1", "", "1", "0.1", "0"],
        ["2", "3", "5", "3", "0.2", "1"],
        ["10", "2", "0", "1", "0.7", "left out"],
        ["11", "4", "1", "1", "", "inactive"],
    ]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("no run", "no run"),
        ("no scores", "python -m submission score --name broken"),
        ("neither", "repeat the command that trains it"),
        ("cut scores", "scores.json cannot be read"),
        ("cut losses", "losses.csv cannot be read"),
        ("cut matrix", "a matrix is not of finite numbers, one for each factor"),
        ("no model", "no exported model"),
        ("trained anew", "curves are not; repeat the command"),
        ("other model", "are of another model"),
        ("no data", "place the data set there"),
        ("other data", "is not what"),
    ],
)
def test_a_mistake_gets_one_sentence(world: Path, tmp_path: Path, damage: str, said: str) -> None:
    run = tmp_path / "broken"
    extra: list[str] = []
    if damage != "no run":
        run.mkdir()
        scores = (world / "runs/known/scores.json").read_text()
        if damage == "other data":
            scores = re.sub('"md5": "..', '"md5": "zz', scores)
        if damage == "other model":
            scores = re.sub('"model_sha256": "..', '"model_sha256": "zz', scores)
            shutil.copytree(world / "runs/known/representation", run / "representation")
        if damage == "cut matrix":
            scores = re.sub(r'("importance": \[\s*\[)[^,]*,', r"\1", scores)
        if damage == "no scores":
            shutil.copytree(world / "runs/known/representation", run / "representation")
        elif damage != "neither":
            (run / "scores.json").write_text(scores[: 99 if damage == "cut scores" else None])
        if damage == "cut losses":
            (run / "losses.csv").write_text("epoch,beta\n1,0.\n2\n")
        if damage == "trained anew":
            (run / "exported.json").write_text('{"unfinished": "c0ffee"}')
        if damage == "no data":
            extra = ["--data", str(tmp_path / "nowhere")]
    done = call(world, "report", "--run", str(run), *extra)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1, "one sentence"
    assert not list(tmp_path.rglob("*.html*"))
