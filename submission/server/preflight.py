"""`check`: all that can be known of a submission before its tag is pushed, as a list."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from submission.features.weights import SHIPPED_WEIGHTS, check_sha256
from submission.runtime import paths
from submission.runtime.errors import UserError, first_line
from submission.runtime.git import GitError, git
from submission.runtime.limits import MIB, mib

CHALLENGE = "aicrowd-neurips-2019-disentanglement-challenge"
HOST = "gitlab.aicrowd.com"
HOST_LIMIT = 5 * MIB  # per file, without LFS
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


def repository_checks(tag: str | None, remote: str | None) -> Iterator[Check]:
    """Checks the commit of a tag, or of HEAD, as it would be pushed to a remote.

    Raises:
        UserError: no git, no repository, no such tag or remote.
    """
    _git("rev-parse", "--git-dir")  # no git, no repository, somebody else's: said as git says it
    revision = f"refs/tags/{tag}" if tag else "HEAD"
    try:
        commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
    except UserError as error:
        problem = "nothing is committed here: commit the submission first"
        if tag:
            problem = f"no tag {tag!r}: make it with `git tag {tag}`"
        raise UserError(f"{paths.PROJECT}: {problem}") from error
    url = _remote_url(remote)
    tree = _tree(commit)
    if tag:
        good = tag.startswith("submission-")
        remedy = "" if good else "name it submission-..., or the push triggers nothing"
        yield Check("tag", good, f"{tag} is commit {commit[:10]}", remedy)
    yield from (
        _aicrowd_json(commit, tree),
        _run_sh(tree),
        _weights(tree),
        _nothing_unwanted(tree),
        _clean(commit),
        _not_evaluated(commit, url),
        _pins(commit),
        _sizes(commit, url),
    )


def _aicrowd_json(commit: str, tree: dict[str, str]) -> Check:
    name = "aicrowd.json"
    if name not in tree:
        return Check(name, False, "not in the commit", "git add aicrowd.json, commit, tag again")
    try:
        fields = json.loads(_git("show", f"{commit}:{name}"))
    except ValueError as error:
        return Check(name, False, f"no JSON ({error})", "mend it, commit, tag again")
    if not isinstance(fields, dict):
        return Check(name, False, "no JSON object", "mend it, commit, tag again")
    wrong = [
        f'{key} must be "{CHALLENGE}"'
        for key in ("challenge_id", "grader_id")
        if fields.get(key) != CHALLENGE
    ]
    authors = fields.get("authors") or []
    if not (isinstance(authors, list) and authors and all(_is_text(name) for name in authors)):
        wrong.append("authors must be a list of names")
    elif PLACEHOLDER in authors:
        wrong.append(f'authors still says "{PLACEHOLDER}"')
    for key in ("description", "license"):
        if not _is_text(fields.get(key)):
            wrong.append(f"{key} must be text")
    if not isinstance(fields.get("gpu"), bool):
        wrong.append("gpu must be true or false")
    if wrong:
        return Check(name, False, "; ".join(wrong), "fill it in, commit, tag again")
    return Check(name, True, f"complete; authors: {', '.join(authors)}")


def _run_sh(tree: dict[str, str]) -> Check:
    mode = tree.get("run.sh")
    if mode is None:
        return Check("run.sh", False, "not in the commit", "git add run.sh, commit, tag again")
    if mode != "100755":
        remedy = "git update-index --chmod=+x run.sh, commit, tag again"
        return Check("run.sh", False, "not executable in the commit", remedy)
    return Check("run.sh", True, "there and executable")


def _weights(tree: dict[str, str]) -> Check:
    name = SHIPPED_WEIGHTS.relative_to(paths.PROJECT).as_posix()
    if name not in tree:
        return Check("weights", False, f"{name} is not in the commit", f"git add {name}, commit")
    if not SHIPPED_WEIGHTS.is_file():
        return Check("weights", False, f"no file {name}", f"git checkout -- {name}")
    try:
        digest = check_sha256(SHIPPED_WEIGHTS)
    except UserError as error:
        problem, _, remedy = str(error).rpartition(": ")
        return Check("weights", False, problem, remedy)
    sums = SHIPPED_WEIGHTS.parent / "SHA256SUMS"
    if not sums.is_file() or SHIPPED_WEIGHTS.name not in sums.read_text():
        remedy = f"cd {sums.parent} && sha256sum *.safetensors >SHA256SUMS"
        return Check("weights", False, "their SHA-256 is recorded nowhere", remedy)
    return Check("weights", True, f"{name}, SHA-256 {digest[:12]}... as recorded")


def _nothing_unwanted(tree: dict[str, str]) -> Check:
    name = "no data or scratch committed"
    if unwanted := [file for file in tree if UNWANTED.search(file)]:
        more = f" and {len(unwanted) - 1} more" if len(unwanted) > 1 else ""
        remedy = f"git rm --cached {unwanted[0]}{more}, commit, tag again"
        return Check(name, False, f"{unwanted[0]}{more}", remedy)
    return Check(name, True, f"{len(tree)} files, none of them")


def _clean(commit: str) -> Check:
    name = "work tree"
    changed = _git("status", "--porcelain").splitlines()
    if changed:
        detail = f"{len(changed)} changes that are not in the commit, the first: {changed[0][3:]}"
        return Check(name, False, detail, "commit them (or git stash), then tag")
    head = _git("rev-parse", "HEAD").strip()
    if head != commit:
        detail = f"checked out is {head[:10]}, the tag is {commit[:10]}"
        return Check(name, False, detail, "check the tag out, or tag what is checked out")
    return Check(name, True, "clean, and what is checked out is what would be pushed")


def _not_evaluated(commit: str, url: str | None) -> Check:
    name = "not evaluated before"
    folders = [paths.home()]
    # A relative one is meant from the repository, wherever the check is called.
    if url and (remote := paths.PROJECT / url.removeprefix("file://")).is_dir():
        folders.append(remote)
    for board in (folder / "leaderboard.json" for folder in folders):
        if not board.is_file():
            continue
        try:
            commits = [row["commit"] for row in json.loads(board.read_text())]
        except (ValueError, KeyError, TypeError):
            return Check(name, False, f"{board} is damaged", "move it away")
        if commit in commits:
            remedy = "change something and commit, then tag: a second tag triggers nothing"
            return Check(name, False, f"{commit[:10]} is in {board}", remedy)
    return Check(name, True, f"{commit[:10]} is in no leaderboard here")


def _pins(commit: str) -> Check:
    name = "pins agree"
    texts = {}
    for file in ("requirements.lock", "environment.yml", "Dockerfile"):
        try:
            texts[file] = _git("show", f"{commit}:{file}")
        except UserError:
            return Check(name, False, f"{file} is not in the commit", f"git add {file}, commit")
    lock, conda = lock_pins(texts["requirements.lock"]), conda_pins(texts["environment.yml"])
    if lock != conda:
        first = sorted(set(lock) ^ set(conda))[0] if set(lock) ^ set(conda) else "their order"
        detail = f"requirements.lock and environment.yml differ, first in {first}"
        return Check(name, False, detail, "copy the lock's lines into the pip section")
    if not re.search(r"pip3? install[^&]*--no-deps[^&]*requirements\.lock", texts["Dockerfile"]):
        remedy = "let it say `pip install --no-deps -r requirements.lock`"
        return Check(name, False, "the Dockerfile does not install requirements.lock", remedy)
    return Check(name, True, f"{len(lock)} packages in lock file, environment.yml and Dockerfile")


def lock_pins(text: str) -> list[str]:
    """The lines of a lock file that name a package."""
    return [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]


def conda_pins(text: str) -> list[str]:
    """The entries of an environment.yml's pip section, which is its last."""
    _, _, section = text.partition("- pip:\n")
    return [line.strip().removeprefix("- ") for line in section.splitlines() if line.strip()]


def _sizes(commit: str, url: str | None) -> Check:
    name = "file sizes"
    if url is None or HOST not in url:
        return Check(name, True, f"no limit but on {HOST}; the remote is {url or 'not named'}")
    # A push takes the history along, so a large file of an earlier commit counts, too.
    objects = _git("rev-list", "--objects", commit)
    listed = _git(
        "cat-file", "--batch-check=%(objecttype) %(objectsize) %(rest)", stdin=objects
    ).splitlines()
    large = {
        rest: int(size)
        for kind, size, rest in (line.split(" ", 2) for line in listed)
        if kind == "blob" and int(size) > HOST_LIMIT
    }
    if large:
        worst = max(large, key=lambda file: large[file])
        detail = f"{HOST} takes 5 MB a file without LFS; {worst} has {mib(large[worst])}"
        remedy = "git lfs install && git lfs migrate import --everything --above=5MB, tag again"
        return Check(name, False, detail, remedy)
    return Check(name, True, f"none over 5 MB without LFS, {HOST}'s limit")


def _remote_url(name: str | None) -> str | None:
    try:
        return _git("remote", "get-url", name or "origin").strip()
    except UserError as error:
        if name is None:
            return None
        raise UserError(f"no remote {name!r}: `git remote -v` lists them") from error


def _tree(commit: str) -> dict[str, str]:
    """Every file of a commit and its mode."""
    entries = _git("ls-tree", "-r", "-z", commit).split("\0")[:-1]
    return {entry.partition("\t")[2]: entry[:6] for entry in entries}


def _git(*command: str, stdin: str | None = None) -> str:
    try:
        return git("-C", str(paths.PROJECT), *command, stdin=stdin)
    except GitError as error:
        raise UserError(
            f"git {command[0]} in {paths.PROJECT}: {first_line(error)}; check that it is the "
            "submission's repository"
        ) from error


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
