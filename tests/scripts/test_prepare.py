"""prepare.sh, which run.sh and test.sh share: a real venv, a real pip, packages of a few bytes."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from submission.runtime.paths import PROJECT

pytestmark = pytest.mark.slow


def wheel(folder: Path, name: str, version: str) -> None:
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"version = '{version}'\n")
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        archive.writestr(f"{info}/METADATA", about)
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in a folder with a space, whose run.sh prints a package's version."""
    folder = tmp_path / "a project"
    folder.mkdir()
    for name in ("prepare.sh", "run.sh"):
        shutil.copy(PROJECT / name, folder / name)
    script = (folder / "run.sh").read_text()
    start = script.index("# Not by PYTHONPATH")
    (folder / "run.sh").write_text(
        f'{script[:start]}exec "$PYTHON" -c "import tiny; print(tiny.version)"\n'
    )
    for version in ("1.0", "2.0"):
        wheel(tmp_path / "wheels", "tiny", version)
    return folder


def call(project: Path, *command: str, **extra: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SUBMISSION", "AICROWD"))}
    own = {
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": str(project.parent / "wheels"),
    }
    return subprocess.run(
        command or [str(project / "run.sh")],
        cwd=project.parent,
        env=kept | own | extra,
        capture_output=True,
        text=True,
        check=False,
    )


def lock(project: Path, version: str) -> None:
    """As the project's: the hashes of a version's files below it."""
    found = project.parent / "wheels" / f"tiny-{version}-py3-none-any.whl"
    digest = hashlib.sha256(found.read_bytes()).hexdigest() if found.exists() else "0" * 64
    text = f"# made by a test\ntiny=={version} \\\n    --hash=sha256:{digest}\n"
    (project / "requirements.lock").write_text(text)


def test_a_lock_that_goes_back_is_installed_again(project: Path) -> None:
    """As by `git checkout` of an older tag, and back."""
    for version in ("1.0", "2.0", "1.0"):
        lock(project, version)
        result = call(project)
        assert result.stdout == f"{version}\n", result.stderr
        assert "installing" in result.stderr
    assert "installing" not in call(project).stderr


def test_what_was_interrupted_is_made_whole(project: Path) -> None:
    """Stopped before it had pip, which is what `venv` does last."""
    lock(project, "1.0")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(project / ".venv")], check=True
    )
    result = call(project)
    assert result.stdout == "1.0\n", result.stderr


def test_it_is_found_through_a_link_and_with_cdpath(project: Path) -> None:
    lock(project, "1.0")
    (project.parent / "link").symlink_to(project / "run.sh")
    assert call(project, str(project.parent / "link")).stdout == "1.0\n"
    result = call(project, "bash", "a project/run.sh", CDPATH=f".:{project.parent}")
    assert result.stdout == "1.0\n", result.stderr


def test_closed_streams_are_silence(project: Path) -> None:
    """`>&-` and the like: the environment is made, and what prints prints nothing."""
    lock(project, "1.0")
    closed = 'exec "$0" >&- 2>&- <&-'
    assert call(project, "bash", "-c", closed, str(project / "run.sh")).returncode == 0
    assert (project / ".venv" / "installed-locks").exists()
    result = call(project, "bash", "-c", 'exec "$0" 2>&-', str(project / "run.sh"))
    assert (result.returncode, result.stdout) == (0, "1.0\n")


def test_a_path_with_a_colon(project: Path) -> None:
    """Python makes no environment in one, and in PYTHONPATH it would be two."""
    folder = project.parent / "a:b"
    shutil.copytree(project, folder)
    shutil.copy(PROJECT / "run.sh", folder / "run.sh")
    (folder / "submission").mkdir()
    (folder / "submission" / "__main__.py").write_text(
        "import sys, tiny\ndef main():\n    print(sys.argv, tiny.version, __file__)\n"
    )
    lock(folder, "1.0")
    temporary = project.parent / "tmp"
    temporary.mkdir()
    for _ in range(2):
        result = call(folder, str(folder / "run.sh"), "--name", "a b", TMPDIR=str(temporary))
        module = folder / "submission" / "__main__.py"
        assert result.stdout == f"['-c', 'run', '--name', 'a b'] 1.0 {module}\n", result.stderr
    assert "installing" not in result.stderr
    assert not (folder / ".venv").exists()


def test_a_link_to_nowhere_sends_results_nowhere_else(project: Path) -> None:
    """As of a disk that is not mounted."""
    lock(project, "1.0")
    (project / "scratch").symlink_to("/mnt/not mounted/results")
    result = call(project)
    assert result.returncode == 2
    said = f"error: {project}/scratch is a link to /mnt/not mounted/results, which is not there"
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1


def test_sh_runs_it_too(project: Path) -> None:
    lock(project, "1.0")
    assert call(project, "sh", "a project/run.sh").stdout == "1.0\n"


@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None, reason="becomes another user by setpriv"
)
def test_where_results_go_is_said_if_it_is_not_the_checkout() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(PROJECT / "prepare.sh", folder / "prepare.sh")
        (folder / "requirements.lock").write_text("# none\n")
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        result = subprocess.run(
            [*nobody, "bash", "-c", "source ./prepare.sh; prepare requirements.lock"],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
    there = "/tmp/disentanglement-submission-65534"
    said = f"{folder}/scratch cannot be written by this user: working files and results go to"
    assert f"{said} {there}\n" in result.stderr


def test_another_file_than_the_locked_one_is_refused(project: Path) -> None:
    lock(project, "1.0")
    with zipfile.ZipFile(project.parent / "wheels" / "tiny-1.0-py3-none-any.whl", "a") as archive:
        archive.writestr("more.py", "what nobody has looked at\n")
    result = call(project)
    assert result.returncode == 2
    assert "DO NOT MATCH THE HASHES" in result.stderr


def test_a_python_that_has_the_packages_is_used(project: Path) -> None:
    """As in a container."""
    lock(project, "1.0")
    assert call(project).returncode == 0
    (project / ".venv").rename(project.parent / "container")
    path = f"{project.parent / 'container' / 'bin'}:{os.environ['PATH']}"
    result = call(project, PATH=path)
    assert result.stdout == "1.0\n", result.stderr
    assert "installing" not in result.stderr


def test_a_package_that_cannot_be_had_is_said(project: Path) -> None:
    lock(project, "3.0")
    for _ in range(2):
        result = call(project)
        assert result.returncode == 2
        *_, said = result.stderr.splitlines()
        assert said.startswith("error: the packages could not be installed into ")
    lock(project, "1.0")
    assert call(project).stdout == "1.0\n"
