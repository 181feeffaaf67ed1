"""What the README and the pages of docs/ tell a newcomer to type works as printed, in a copy of the
checkout; what they name is there."""

import argparse
import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
CARD = PROJECT / "submission" / "weights" / "README.md"
PAGES = {
    str(path.relative_to(PROJECT)): path.read_text(encoding="utf-8")
    for path in (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")), CARD)
}
README = PAGES["README.md"]
_FENCES = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    return [text for name, text in _FENCES.findall(PAGES[page]) if name == language]


def block(page: str, language: str, part: str) -> str:
    """The one block of the page that has this part."""
    (found,) = [text for text in blocks(page, language) if part in text]
    return found


def spans(page: str) -> list[str]:
    """The code inside the page's sentences, each in one line."""
    return [
        " ".join(span.split()) for span in re.findall(r"`([^`]+)`", _FENCES.sub("", PAGES[page]))
    ]


def commands() -> list[tuple[str, str, list[str]]]:
    """Page, module and arguments of every command of the project that a page prints."""
    found = []
    for page in PAGES:
        lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
        inside = [span for span in spans(page) if span.startswith(("./run.sh", "python -m"))]
        for line in (*lines, *inside):
            words = shlex.split(line, comments=True)
            if words and words[0] == "./run.sh":
                found.append((page, "submission", ["run", *words[1:]]))
            elif words[:2] == ["python", "-m"]:
                found.append((page, words[2], words[3:]))
    return found


def parsed(arguments: list[str]) -> argparse.Namespace:
    """What `python -m submission` makes of them; the command's module is imported."""

    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(f"submission.commands.{arguments[0]}").add_arguments(parser)
    return parser.parse_args(arguments[1:])


def test_the_pages_print_commands() -> None:
    modules = [module for _, module, _ in commands()]
    assert modules.count("submission") > 40
    assert {"benchmarks", "experiments.results", "experiments.finetuning"} < set(modules)
    # Code that is indented in place of fenced would be left out.
    for page, text in PAGES.items():
        rest = _FENCES.sub("", text)
        assert not re.search(r"^ {4}(\./run|python -m|git |docker )", rest, re.MULTILINE), page


@pytest.mark.parametrize(
    ("page", "module", "arguments"),
    commands(),
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_every_printed_command_line_is_understood(
    page: str, module: str, arguments: list[str]
) -> None:
    if module != "submission":
        name = f"{module}.__main__" if module == "benchmarks" else module
        importlib.import_module(name).arguments().parse_args(arguments)
        return
    from submission.finetuning.configuration import load_finetuning
    from submission.pipeline.configuration import load_training

    args = parsed(arguments)
    load = load_finetuning if arguments[0] == "finetune" else load_training
    named = getattr(args, "configs", None) or [getattr(args, "config", None)]
    for config in named:
        if config and config.parts[0] != "scratch":  # a file that another line makes
            load(config, args.bindings)


def test_the_recipes_configuration_is_the_dry_runs_with_one_change(tmp_path: Path) -> None:
    import gin

    from submission.pipeline.configuration import load_training

    line = next(line for line in README.splitlines() if line.startswith("printf"))
    (tmp_path / "scratch").mkdir()
    subprocess.run(["bash", "-euc", line], cwd=tmp_path, check=True)
    load_training(Path("dry_run.gin"), ["beta_at_epoch.beta_end=1.0"])
    expected = gin.config_str()
    load_training(tmp_path / "scratch" / "mine.gin")
    assert gin.config_str() == expected


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https://)(.*?)\)", PAGES[page]):
        assert (PROJECT / page).parent.joinpath(target).is_file(), target


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/\w+\.md)\)", README))
    assert linked == {page for page in PAGES if page.startswith("docs/")}


def test_every_named_file_is_there() -> None:
    folders = ("submission", "docs", "experiments", "benchmarks", "tests", ".ci")
    below = [path for folder in folders for path in (PROJECT / folder).rglob("*")]
    names = {path.name for path in (*below, *PROJECT.iterdir())}
    found, missing = set(), []
    for page in PAGES:
        for span in spans(page):
            if span.startswith(("scratch/", "$", "mpi3d_")):
                continue  # what a run makes, and data sets
            if re.fullmatch(rf"({'|'.join(folders)})/[\w./]*", span):
                found.add(span)
                missing += [] if (PROJECT / span).exists() else [f"{page}: {span}"]
            elif re.fullmatch(r"[\w.]+\.(py|sh|gin|md|cff|json|safetensors|lock)", span):
                found.add(span)
                missing += [] if span in names else [f"{page}: {span}"]
    assert not missing
    assert len(found) > 60


def test_the_layout_names_every_module() -> None:
    """Each row of the table in development.md: the folder, what it is for, its files."""
    rows = re.findall(
        r"^\| `(submission/[\w/]*)` \|.*\| (`.*`) \|$", PAGES["docs/development.md"], re.MULTILINE
    )
    assert len(rows) > 10
    named = {f"{folder}{name}" for folder, files in rows for name in re.findall(r"`(.*?)`", files)}
    there = {
        str(path.relative_to(PROJECT))
        for path in (PROJECT / "submission").rglob("*")
        if path.suffix in (".py", ".j2", ".toml") and path.name != "__init__.py"
    }
    assert not sorted(named - there), "named, and not there"
    assert not sorted(there - named), "there, and not named"


@pytest.mark.slow
def test_the_pages_from_top_to_bottom(tmp_path: Path) -> None:
    """The two commands (the dry run at two axis steps), the steps one by one, the exported model in
    Python, and the judging of a change."""
    copy = tmp_path / "copy"
    shutil.copytree(
        PROJECT,
        copy,
        ignore=shutil.ignore_patterns(".git", ".venv", "scratch", "__pycache__", ".*_cache"),
    )
    (copy / ".venv").symlink_to(sys.prefix)
    for name in ("dry_run", "dry_run_refined"):  # a tenth of the training, for CI's time
        config = copy / "submission" / "configs" / f"{name}.gin"
        brief, count = re.subn(
            r"(?<=^train_vae\.epochs = )\d+$", "4", config.read_text(), flags=re.M
        )
        assert count == 1
        config.write_text(brief)
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("AICROWD", "DISENT", "SUBMISSION"))
    }

    def shell(script: str) -> str:
        result = subprocess.run(
            ["bash", "-euc", script],
            cwd=copy,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-3000:]
        return result.stdout

    assert blocks("README.md", "bash")[0].split()[0] == "./run.sh"
    options = block("docs/runs.md", "bash", "--axis-steps 2")
    small = next(line for line in options.splitlines() if "--axis-steps 2" in line)
    printed = shell(small)
    assert "STAND-IN" in printed
    assert "2,592 images, grid 6 x 6 x 2 x 3 x 3 x 2 x 2" in " ".join(printed.split())
    # The plans count what the renderer, and the run before, leave in the process.
    plans = [line for line in printed.splitlines() if "measured of planned" in line]
    assert len(plans) == 3, "the paper's method, the heads, and ours"
    for stage, had, planned in re.findall(r"(\w+) ([\d,]+) of ([\d,]+)", " ".join(plans)):
        assert int(had.replace(",", "")) <= int(planned.replace(",", "")), stage
    small_run = copy / "scratch" / "runs" / "small"
    assert (small_run / "comparison.txt").read_text().partition("\n\n")[0] in printed
    assert f"the report, for a browser: {small_run / 'report.html'}" in printed
    # Rendering is deterministic, so the thin set's features come from the dry run's cache.
    printed = shell(block("docs/data.md", "bash", "--name steps"))
    assert "NOT MPI3D" in printed
    assert (copy / "scratch" / "codes.npz").is_file()
    lines = block("docs/runs.md", "python", "torch.jit")
    assert "torch.Size([16, 16])" in shell(
        f"source .venv/bin/activate; python - <<'EOF'\n{lines}\nEOF"
    )
    # A change judged over seeds: fewer of them, on the small set, at the quick counts.
    recipe = block("README.md", "bash", "sweeps/mine")
    assert "beta_end = 1.0" in recipe
    for printed, here in (
        ("pip install", ": pip install"),
        ("--seeds 5", "--seeds 2 --quick train_vae.epochs=2"),
        ("real_axis_steps_4", "real_axis_steps_2"),
    ):
        assert printed in recipe
        recipe = recipe.replace(printed, here)
    if importlib.util.find_spec("ray"):
        shell(recipe)
        report = (copy / "scratch" / "sweeps" / "mine" / "report.html").read_text(encoding="utf-8")
        assert "+ beta_at_epoch.beta_end = 1.0" in report
        assert "Do not compare" not in report
    # Called again, nothing is computed twice: no progress bar of features appears.
    again = small.replace("small", "again train_vae.epochs=1")
    assert "images/s" not in re.sub(r"^codes.*$", "", shell(again))
