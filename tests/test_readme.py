"""What the README tells a newcomer to type works as printed, in a copy of the checkout."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for name, text in fences if name == language]


def commands() -> list[list[str]]:
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [
        ["run", *w[1:]] if w[0] == "./run.sh" else w[3:]
        for w in words
        if w and (w[0] == "./run.sh" or w[:3] == ["python", "-m", "submission"])
    ]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_printed_command_line_is_understood(command: list[str]) -> None:
    import argparse
    import importlib

    from submission.__main__ import COMMANDS

    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(COMMANDS[command[0]][0]).add_arguments(parser)
    args = parser.parse_args(command[1:])
    if getattr(args, "config", None):
        from submission.runtime.config import load_config

        load_config(args.config, args.bindings)


def test_every_named_file_is_there() -> None:
    layout = next(block for block in blocks("") if block.startswith("run.sh"))
    shown = layout + " ".join(re.findall(r"`([\w/.]+\.(?:gin|md|cff|json|safetensors))`", README))
    names = set(re.findall(r"[\w/]+\.(?:py|sh|gin|md|cff|safetensors)", shown))
    assert len(names) > 25
    for name in names:
        assert any(PROJECT.glob(f"**/{name}")), name
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (PROJECT / picture).is_file(), picture


@pytest.mark.slow
def test_the_readme_from_top_to_bottom(tmp_path: Path) -> None:
    """The two commands (the dry run at two axis steps), the steps one by one, the ten lines."""
    copy = tmp_path / "copy"
    shutil.copytree(
        PROJECT, copy,
        ignore=shutil.ignore_patterns(".git", ".venv", "scratch", "__pycache__", ".*_cache"),
    )  # fmt: skip
    (copy / ".venv").symlink_to(sys.prefix)
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("AICROWD", "DISENT", "SUBMISSION"))
    }

    def shell(script: str) -> str:
        result = subprocess.run(
            ["bash", "-euc", script], cwd=copy, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout[-3000:]
        return result.stdout

    first, _, options, _, steps = blocks("bash")[:5]
    assert first.splitlines()[0].split()[0] == "./run.sh"
    small = next(line for line in options.splitlines() if "--axis-steps 2" in line)
    printed = shell(small)
    assert "STAND-IN" in printed
    assert "2,592 images, grid 6 x 6 x 2 x 3 x 3 x 2 x 2" in " ".join(printed.split())
    # The plan counts what the renderer leaves in the process.
    plan = next(line for line in printed.splitlines() if "measured of planned" in line)
    for stage, had, planned in re.findall(r"(\w+) ([\d,]+) of ([\d,]+)", plan):
        assert int(had.replace(",", "")) <= int(planned.replace(",", "")), stage
    # Rendering is deterministic, so the thin set's features come from the dry run's cache.
    printed = shell(steps)
    assert "NOT MPI3D" in printed
    assert (copy / "scratch" / "codes.npz").is_file()
    assert "torch.Size([16, 16])" in shell(
        f"source .venv/bin/activate; python - <<'EOF'\n{blocks('python')[0]}\nEOF"
    )
    # A change judged over seeds: fewer of them, on the small set, at the quick counts.
    recipe = next(block for block in blocks("bash") if "sweeps/mine" in block)
    assert "beta_end = 1.0" in recipe
    for printed, here in (
        ("pip install", ": pip install"), ("--seeds 5", "--seeds 2 --quick train_vae.epochs=2"),
        ("real_axis_steps_4", "real_axis_steps_2"),
    ):  # fmt: skip
        assert printed in recipe
        recipe = recipe.replace(printed, here)
    if importlib.util.find_spec("ray"):
        shell(recipe)
        report = (copy / "scratch" / "sweeps" / "mine" / "report.html").read_text(encoding="utf-8")
        assert "+ beta_at_epoch.beta_end = 1.0" in report
        assert "Do not compare" not in report
    # Called again, nothing is computed twice: no progress bar of features appears.
    assert "images/s" not in re.sub(r"^codes.*$", "", shell(small.replace("small", "again")))
