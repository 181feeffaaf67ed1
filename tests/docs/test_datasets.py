"""The page on other data sets works as printed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_readme import blocks


@pytest.mark.slow
def test_a_pca_of_a_folder_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two of the factors are a grid's; the table says so, and names what the sample lowers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUBMISSION_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "scratch" / "pictures"
    folder.mkdir(parents=True)
    places = np.stack(np.unravel_index(np.arange(120), (6, 20)), axis=1)
    for i, (y, x) in enumerate(places):
        image = np.zeros((24, 40, 3), np.uint8)
        image[3 * y : 3 * y + 6, 2 * (x % 5) * 4 : 2 * (x % 5) * 4 + 6] = 255
        Image.fromarray(image).save(folder / f"{i:03}.png")
    lines = [f"{i:03}.png,{y},{x % 5}" for i, (y, x) in enumerate(places)]
    (folder / "factors.csv").write_text("\n".join(["file,up,right", *lines]) + "\n")
    (snippet,) = blocks("docs/datasets.md", "python")
    space: dict[str, Any] = {}
    exec(snippet, space)
    printed = capfd.readouterr().out
    assert "6 latents of 120 images, sample of 120, not a grid" in printed
    assert "FactorVAE" in printed
