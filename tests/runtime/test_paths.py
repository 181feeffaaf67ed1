"""Folders that the environment names."""

from pathlib import Path

import pytest

from submission.runtime import paths
from submission.runtime.errors import UserError


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


def test_a_link_to_nowhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a disk that is not mounted: the system would speak of a file that exists."""
    link = tmp_path / "scratch"
    link.symlink_to("/mnt/not mounted")
    said = f"{link} is a link to /mnt/not mounted, which is not there"
    monkeypatch.setenv("SUBMISSION_HOME", str(link))
    with pytest.raises(UserError, match=f"^{said}: make that folder, or remove the link$"):
        paths.home()
    monkeypatch.setenv("AICROWD_OUTPUT_PATH", str(link / "runs"))
    with pytest.raises(UserError, match=f"cannot be written \\({said}\\)"):
        paths.run_folder("one")
    with pytest.raises(UserError, match=f"cannot be written \\({said}\\): name another"):
        paths.make_folder(link, "name another")
