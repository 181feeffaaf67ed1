"""The page on own codes works as printed, from top to bottom."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_readme import PROJECT, blocks

from submission.metrics.settings import FURTHER

PAGE = "docs/codes.md"


@pytest.mark.slow
def test_the_pages_snippets_and_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch" / "images").mkdir(parents=True)
    space: dict[str, Any] = {}
    data, pca, model, saved, folder = blocks(PAGE, "python")
    exec(data, space)
    assert len(np.unique(space["images"].reshape(75, -1), axis=0)) == 75
    exec(pca, space)
    printed = capfd.readouterr().out
    assert "6 latents of 75 images, grid 5 x 5 x 3" in printed
    assert space["scores"].left_out == {}
    assert set(space["scores"].headline) == {"factor_vae", "dci", "sap", "irs", "mig"}
    exec(model, space)
    assert "FactorVAE" in capfd.readouterr().out
    exec(saved, space)
    assert "sample of 60, not a grid" in capfd.readouterr().out
    # A folder of images and their factors: the first command, then the third.
    for i, image in enumerate(space["images"]):
        Image.fromarray(image).save(f"scratch/images/{i:03}.png")
    np.savetxt(
        "scratch/factors.csv", space["factors"], fmt="%d", delimiter=",", header="x,y,shade",
        comments="",
    )  # fmt: skip
    expected = space["scores"].headline["mig"]
    exec(folder, space)
    files, more = blocks(PAGE, "bash")
    command = files.splitlines()[2]
    assert command.endswith("--factors scratch/factors.csv")
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "SUBMISSION_HOME": str(tmp_path)}
    for line in (command, more.strip() + " --factors scratch/factors.csv"):
        line = line.replace("python", sys.executable, 1)
        done = subprocess.run(
            [*line.split(), "--quick", "--metrics", "mig"],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"MIG            {expected:.3f}" in done.stdout
        assert "grid 5 x 5 x 3" in done.stdout
    assert "InfoC" in done.stdout


def test_the_page_names_every_further_number() -> None:
    text = (PROJECT / PAGE).read_text()
    rows = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert [name for name in rows if name in FURTHER] == list(FURTHER)
