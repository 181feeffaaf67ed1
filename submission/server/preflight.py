"""`check`: all that can be known of a submission before its tag is pushed, as a list."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submission.features.weights import SHIPPED_WEIGHTS, check_sha256
from submission.runtime import paths
from submission.runtime.errors import UserError, first_line
from submission.runtime.git import GitError, git
from submission.runtime.limits import MIB, mib
from submission.server import leaderboard
from submission.server.runners import clean_environment

CHALLENGE = "aicrowd-neurips-2019-disentanglement-challenge"
HOST = "gitlab.aicrowd.com"
HOST_LIMIT = 5 * MIB  # per file, without LFS
_START_SECONDS = 600  # a torch import takes minutes on a busy machine
WHOLE_LOCK = "requirements-tensorflow.lock"
PLACEHOLDER = "your-aicrowd-user-name"
# What no submission holds: data, features, checkpoints, working folders.
UNWANTED = re.compile(r"^(scratch|\.venv)/|\.(npz|npy|part)$|(^|/)(checkpoint|pytorch_model)\.pt$")


@dataclass(frozen=True)
class Check:
    """One line of the list; `remedy` is empty where `passed`."""

    name: str
    passed: bool
    detail: str
    remedy: str = ""


class _Fault(Exception):
    """What is wrong, and what to do; a check that finds nothing returns a sentence instead."""


@dataclass(frozen=True)
class _Commit:
    """The commit to be pushed, the mode of each of its files, and the remote's address."""

    id: str
    files: dict[str, str]
    url: str | None

    def refuse_without(self, file: str) -> None:
        if file not in self.files:
            raise _Fault(f"{file} is not in the commit", f"git add {file}, commit, tag again")


def repository_checks(tag: str | None, remote: str | None) -> Iterator[Check]:
    """Checks the commit of a tag, or of HEAD, as it would be pushed to a remote. UserError for no
    git, no repository, no such tag or remote."""
    _git("rev-parse", "--git-dir")  # says in git's words what is wrong
    revision = f"refs/tags/{tag}" if tag else "HEAD"
    try:
        found = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
    except UserError as error:
        problem = "nothing is committed here: commit the submission first"
        no_tag = f"no tag {tag!r}: make it with `git tag {tag}`"
        raise UserError(f"{paths.PROJECT}: {no_tag if tag else problem}") from error
    entries = _git("ls-tree", "-r", "-z", found).split("\0")[:-1]
    files = {entry.partition("\t")[2]: entry[:6] for entry in entries}
    commit = _Commit(found, files, _remote_url(remote))
    if tag:
        good = tag.startswith("submission-")
        remedy = "" if good else "name it submission-..., or the push triggers nothing"
        yield Check("tag", good, f"{tag} is commit {found[:10]}", remedy)
    for name, check in _CHECKS.items():
        try:
            yield Check(name, True, check(commit))
        except _Fault as fault:
            yield Check(name, False, *fault.args)


def _aicrowd_json(commit: _Commit) -> str:
    commit.refuse_without("aicrowd.json")
    try:
        fields = dict(json.loads(_git("show", f"{commit.id}:aicrowd.json")))
    except (TypeError, ValueError) as error:
        raise _Fault(f"no JSON object ({error})", "mend it, commit, tag again") from error
    ids, texts = ("challenge_id", "grader_id"), ("description", "license")
    wrong = [f'{key} must be "{CHALLENGE}"' for key in ids if fields.get(key) != CHALLENGE]
    authors = fields.get("authors") or []
    if not (isinstance(authors, list) and authors and all(map(_is_text, authors))):
        wrong.append("authors must be a list of names")
    elif PLACEHOLDER in authors:
        wrong.append(f'authors still says "{PLACEHOLDER}"')
    wrong += [f"{key} must be text" for key in texts if not _is_text(fields.get(key))]
    if not isinstance(fields.get("gpu"), bool):
        wrong.append("gpu must be true or false")
    if wrong:
        raise _Fault("; ".join(wrong), "fill it in, commit, tag again")
    return f"complete; authors: {', '.join(authors)}"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _run_sh(commit: _Commit) -> str:
    commit.refuse_without("run.sh")
    if commit.files["run.sh"] != "100755":
        remedy = "git update-index --chmod=+x run.sh, commit, tag again"
        raise _Fault("not executable in the commit", remedy)
    # What one sees in one's own folder need not be what is committed: line ends, files left out.
    with tempfile.TemporaryDirectory(prefix="submission-check-") as folder:
        clone = Path(folder) / "clone"
        _git("clone", "--quiet", "--shared", "--no-checkout", str(paths.PROJECT), str(clone))
        git("-C", str(clone), "checkout", "--quiet", "--detach", commit.id)
        _start(clone)
    return "executable, and `run.sh --help` starts in a clean clone"


def _start(clone: Path) -> None:
    """Runs `run.sh --help` as the server runs run.sh, with the packages of this interpreter. Raises
    _Fault unless it ends well."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # On the grader it installs no packages.
    environment = clean_environment() | {"PATH": path, "AICROWD_IS_GRADING": "True"}
    script, log = clone / "run.sh", clone.parent / "said"
    remedy = "mend it until `./run.sh --help` works in a new clone, commit, tag again"
    if b"\r\n" in script.read_bytes():
        remedy = "its lines end as on Windows: sed -i 's/\\r$//' run.sh, commit, tag again"
    with open(log, "wb") as said:
        at: dict[str, Any] = {"cwd": clone, "env": environment, "stdin": subprocess.DEVNULL}
        at |= {"stdout": said, "stderr": said, "start_new_session": True}
        try:
            process = subprocess.Popen([script, "--help"], **at)
        except OSError as error:
            raise _Fault(f"it cannot be started ({error.strerror})", remedy) from error
        try:
            code = process.wait(_START_SECONDS)
        except subprocess.TimeoutExpired as error:
            late = f"`run.sh --help` has not ended after {_START_SECONDS} s"
            raise _Fault(late, "let it pass its arguments on, commit, tag again") from error
        finally:
            with suppress(ProcessLookupError):  # what it may have left behind, too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code != 0:
        lines = log.read_text(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "it says nothing")
        if "packages of requirements.lock are missing" in last:
            remedy = "install the tag's packages here: pip install --no-deps -r requirements.lock"
        raise _Fault(f"`run.sh --help` ends with exit code {code} in a clone: {last!r}", remedy)


def _weights(commit: _Commit) -> str:
    name = SHIPPED_WEIGHTS.relative_to(paths.PACKAGE.parent).as_posix()
    commit.refuse_without(name)
    weights = paths.PROJECT / name
    if not weights.is_file():
        raise _Fault(f"no file {name}", f"git checkout -- {name}")
    try:
        digest = check_sha256(weights)
    except UserError as error:
        raise _Fault(*str(error).rsplit(": ", 1)) from error
    sums = weights.parent / "SHA256SUMS"
    if not sums.is_file() or weights.name not in sums.read_text():
        remedy = f"cd {sums.parent} && sha256sum *.safetensors >SHA256SUMS"
        raise _Fault("their SHA-256 is recorded nowhere", remedy)
    return f"{name}, SHA-256 {digest[:12]}... as recorded"


def _nothing_unwanted(commit: _Commit) -> str:
    if unwanted := [file for file in commit.files if UNWANTED.search(file)]:
        more = f" and {len(unwanted) - 1} more" if len(unwanted) > 1 else ""
        remedy = f"git rm --cached {unwanted[0]}{more}, commit, tag again"
        raise _Fault(f"{unwanted[0]}{more}", remedy)
    return f"{len(commit.files)} files, none of them"


def _clean(commit: _Commit) -> str:
    if changed := _git("status", "--porcelain").splitlines():
        detail = f"{len(changed)} changes that are not in the commit, the first: {changed[0][3:]}"
        raise _Fault(detail, "commit them (or git stash), then tag")
    if (head := _git("rev-parse", "HEAD").strip()) != commit.id:
        detail = f"checked out is {head[:10]}, the tag is {commit.id[:10]}"
        raise _Fault(detail, "check the tag out, or tag what is checked out")
    return "clean, and what is checked out is what would be pushed"


def _not_evaluated(commit: _Commit) -> str:
    folders = [paths.home()]
    # A relative one is meant from the repository, wherever the check is called.
    if commit.url and (remote := paths.PROJECT / commit.url.removeprefix("file://")).is_dir():
        folders.append(remote)
    for board in (folder / "leaderboard.json" for folder in folders):
        try:
            commits = [row["commit"] for row in leaderboard.read(board)]
        except UserError as error:
            raise _Fault(f"{board} is damaged", "move it away") from error
        if commit.id in commits:
            remedy = "change something and commit, then tag: a second tag triggers nothing"
            raise _Fault(f"{commit.id[:10]} is in {board}", remedy)
    return f"{commit.id[:10]} is in no leaderboard here"


def _pins(commit: _Commit) -> str:
    files = ("requirements.lock", WHOLE_LOCK, "environment.yml", "Dockerfile")
    for file in files:
        commit.refuse_without(file)
    texts = [_git("show", f"{commit.id}:{file}") for file in files]
    lock, whole, conda, dockerfile = lock_pins(texts[0]), lock_pins(texts[1]), texts[2], texts[3]
    for file, differing in (
        ("requirements.lock", set(lock) - set(whole)),
        ("environment.yml", set(whole) ^ set(conda_pins(conda))),
    ):
        if differing:
            what = f"{WHOLE_LOCK} and {file} differ, first in {min(differing)}"
            raise _Fault(what, "run .ci/lock, which writes them, and commit")
    if not re.search(r"pip3? install[^&]*--no-deps[^&]*requirements\.lock", dockerfile):
        remedy = "let it say `pip install --no-deps -r requirements.lock`"
        raise _Fault("the Dockerfile does not install requirements.lock", remedy)
    return f"{len(lock)} packages in lock files, environment.yml and Dockerfile"


def lock_pins(text: str) -> list[str]:
    """The pins of a lock file, each with its platform and without its hashes."""
    return [line.strip(" \\") for line in text.splitlines() if line.strip() and line[0] not in "# "]


def conda_pins(text: str) -> list[str]:
    """The entries of an environment.yml's pip section, which is its last."""
    _, _, section = text.partition("- pip:\n")
    return [line.strip().removeprefix("- ") for line in section.splitlines() if line.strip()]


def _sizes(commit: _Commit) -> str:
    if commit.url is None or HOST not in commit.url:
        return f"no limit but on {HOST}; the remote is {commit.url or 'not named'}"
    # A push takes the history along, so a large file of an earlier commit counts, too.
    objects = _git("rev-list", "--objects", commit.id)
    shown = "--batch-check=%(objecttype) %(objectsize) %(rest)"
    lines = [line.split(" ", 2) for line in _git("cat-file", shown, stdin=objects).splitlines()]
    blobs = [(int(size), file) for kind, size, file in lines if kind == "blob"]
    size, file = max(blobs)
    if size > HOST_LIMIT:
        detail = f"{HOST} takes 5 MB a file without LFS; {file} has {mib(size)}"
        remedy = "git lfs install && git lfs migrate import --everything --above=5MB, tag again"
        raise _Fault(detail, remedy)
    return f"none over 5 MB without LFS, {HOST}'s limit"


_CHECKS = {
    "aicrowd.json": _aicrowd_json,
    "run.sh": _run_sh,
    "weights": _weights,
    "no data or scratch committed": _nothing_unwanted,
    "work tree": _clean,
    "not evaluated before": _not_evaluated,
    "pins agree": _pins,
    "file sizes": _sizes,
}


def _remote_url(name: str | None) -> str | None:
    try:
        return _git("remote", "get-url", name or "origin").strip()
    except UserError as error:
        if name:
            raise UserError(f"no remote {name!r}: `git remote -v` lists them") from error
        return None


def _git(*command: str, stdin: str | None = None) -> str:
    try:
        return git("-C", str(paths.PROJECT), *command, stdin=stdin)
    except GitError as error:
        what = f"git {command[0]} in {paths.PROJECT}: {first_line(error)}"
        raise UserError(f"{what}; check that it is the submission's repository") from error
