"""Folders that the environment names."""

from pathlib import Path

import pytest

from submission.runtime import paths


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("SUBMISSION_HOME", paths.home),
        ("SUBMISSION_CACHE", paths.cache_folder),
        ("DISENTANGLEMENT_LIB_DATA", paths.data_folder),
        ("AICROWD_OUTPUT_PATH", lambda: paths.run_folder("x").parent),
    ],
)
def test_a_tilde_that_no_shell_has_replaced_is_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, folder: object
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv(variable, "~/here")
    assert callable(folder)
    assert folder() == tmp_path / "me" / "here"
    assert not (tmp_path / "~").exists()
