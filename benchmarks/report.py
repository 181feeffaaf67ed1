"""The bench's JSON as the tables of docs/benchmarks.md, and as a figure."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from submission.runtime.files import replacing

Report = dict[str, Any]

# The aims: the least share of the floor, or the largest ratio of the times.
SHARE_AIMS = {"features": 0.85, "vae": 0.80}
RATIO_AIMS = {"metrics": 1 / 20, "dci": 0.2}


def table(report: Report) -> str:
    """Markdown: what was measured on, a row for each stage, and how cost grows."""
    data, machine = report["data"], report["machine"]
    kind = data["name"]
    if data["stand_in"]:
        kind = f"a rendered stand-in for {kind}, NOT MPI3D"
    lines = [
        f"Measured on {report['date']} on {machine['cores']} cores ({machine['cpu']}), PyTorch "
        f"{report['versions']['torch']}, on {kind} ({data['num_images']:,} images). Each value is "
        f"the median of {len(report['rates'])} runs (smallest to largest in brackets), each in a "
        "fresh process.",
        "",
        "| stage | ours | the usual way | time, ours : usual | memory, ours : usual "
        "| share of the floor, ours / usual | aim |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in report["stages"].items():
        ours, stock = row["ours"], row["stock"]
        shares = [_percent(share(report, name, side)) for side in ("ours", "stock")]
        lines.append(
            f"| {_title(report, name)} | {_cell(ours)} | {_cell(stock)} "
            f"| {_number(ratio(row, 'seconds'))} | {_number(ratio(row, 'peak_mib'))} "
            f"| {shares[0]} / {shares[1]} | {_aim(report, name)} |"
        )
    lines += ["", _floor_text(report)]
    if "metrics" in report["stages"]:
        lines.append(
            f"The two metric routes' scores differ by at most {score_difference(report):.1g}."
        )
    if report["growth"]:
        lines += [
            "",
            "| how cost grows (one run each) | along | seconds | memory, MiB | time grows as |",
            "|---|---|---|---|---|",
        ]
        for line in report["growth"]:
            at = ", ".join(f"{x:,}".replace(",", " ") for x in line["at"])
            seconds = ", ".join(map(_number, line["seconds"]))
            memory = ", ".join(f"{mib:.0f}" for mib in line["peak_mib"])
            cells = [line["what"], f"{line['along']}: {at}", seconds, memory, _power(line)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def floor_seconds(report: Report, stage: str, side: str) -> float | None:
    """The least time that the stage's work takes at the machine's measured rates; None where no
    such bound is known."""
    rates, work, sizes = _rates(report), report["work"], report["sizes"]
    row = report["stages"][stage]
    float32 = ("convolution", "matmul", "matmul_onednn")
    network = work["image_flop"] / _fastest(rates, *float32)
    if stage == "load":  # read once, written once
        return float(2 * row[side][0]["images"] * work["image_bytes"] / rates["copy"])
    if stage == "features":
        if side == "ours":
            network = work["image_flop"] / _fastest(rates, *float32, "convolution_bfloat16")
        return float(sizes["images"] * network)
    if stage == "vae":
        step = (
            work["step_flop"] / _fastest(rates, "vae", "vae_onednn")
            + work["step_bytes"] / rates["copy"]
        )
        return float(sizes["steps"] * step)
    if stage == "metrics" and side == "stock":
        return float(row[side][0]["images"] * network)
    return None


def share(report: Report, stage: str, side: str) -> float | None:
    """The floor's part of the time that was measured: 1 is the limit."""
    least = floor_seconds(report, stage, side)
    return least and least / _median(report["stages"][stage][side], "seconds")


def ratio(row: Report, what: str) -> float:
    """Ours over the usual way, of the medians; below 1 ours is faster, or smaller."""
    return _median(row["ours"], what) / _median(row["stock"], what)


def score_difference(report: Report) -> float:
    """The largest difference between the two routes' scores, over metrics and repeats."""
    pairs = zip(*(report["stages"]["metrics"][side] for side in ("ours", "stock")), strict=True)
    return max(
        abs(ours["scores"][name] - stock["scores"][name])
        for ours, stock in pairs
        for name in ours["scores"]
    )


def draw(report: Report, path: Path) -> None:
    """A figure of the same: time and memory as ratios, shares of the floor, and growth."""
    names = list(report["stages"])
    figure = Figure(figsize=(14, 4))
    axes = figure.subplots(1, 3)
    places = np.arange(len(names))
    for i, (what, label) in enumerate((("seconds", "time"), ("peak_mib", "peak memory"))):
        middle = [ratio(report["stages"][name], what) for name in names]
        spread = np.array([_ratio_spread(report["stages"][name], what) for name in names])
        whiskers = np.abs(spread.T - middle) if names else None
        axes[0].bar(places + 0.4 * i - 0.2, middle, 0.38, yerr=whiskers, capsize=2, label=label)
    axes[0].axhline(1, color="#555555", linewidth=0.8)
    axes[0].set_yscale("log")
    axes[0].set_xticks(places, names)
    axes[0].set_title("ours : the usual way (below 1: ours takes less)", fontsize=9)
    axes[0].legend(fontsize=7, frameon=False)

    for i, side in enumerate(("ours", "stock")):
        shares = [100 * (share(report, name, side) or 0) for name in names]
        label = "ours" if side == "ours" else "the usual way"
        bars = axes[1].bar(places + 0.4 * i - 0.2, shares, 0.38, label=label)
        texts = [f"{value:.0f}" if value else "-" for value in shares]
        axes[1].bar_label(bars, texts, fontsize=7)
    for name in set(names) & set(SHARE_AIMS):
        aim, place = 100 * SHARE_AIMS[name], places[names.index(name)]
        axes[1].plot([place - 0.4, place + 0.4], [aim, aim], color="black", linewidth=1)
    axes[1].set_xticks(places, names)
    axes[1].set_title("share of the physical floor, % (line: the aim)", fontsize=9)
    axes[1].legend(fontsize=7, frameon=False)

    for line in report["growth"]:
        relative = np.array(line["at"]) / line["at"][0]
        label = f"{line['what']}, along {line['along']}"
        axes[2].plot(relative, np.array(line["seconds"]), marker="o", label=label)
    if report["growth"]:
        axes[2].set_xscale("log")
        axes[2].set_yscale("log")
        axes[2].set_xlabel("times the smallest", fontsize=8)
        axes[2].legend(fontsize=6, frameon=False)
    axes[2].set_title("how cost grows, seconds", fontsize=9)
    data = report["data"]
    kind = f"STAND-IN for {data['name']}, not MPI3D" if data["stand_in"] else data["name"]
    figure.suptitle(
        f"{kind}: {data['num_images']:,} images, {report['machine']['cores']} cores", fontsize=10
    )
    figure.tight_layout()
    with replacing(path) as file:
        figure.savefig(file, dpi=110, format="png")


def _floor_text(report: Report) -> str:
    rates, work = _rates(report), report["work"]
    shown = {name: _rate_cell(report, name) for name in rates}
    in_bfloat16 = shown.get("convolution_bfloat16")
    bfloat16 = f" (in bfloat16, as ours are here, {in_bfloat16})" if in_bfloat16 else ""
    return (
        f"The machine's rates in float32, measured in the same call: large matrix products "
        f"{shown['matmul']} GFLOP/s, products in the shapes of the VAE {shown['vae']}, by oneDNN "
        f"{shown['matmul_onednn']} and {shown['vae_onednn']}, 3x3 convolutions "
        f"{shown['convolution']}{bfloat16}; copying {shown['copy']} GB/s (read plus written). "
        "The floor is the least time that a stage's work takes at these rates:\n\n"
        f"- features: {work['image_flop'] / 1e9:.2f} GFLOP an image, at the fastest rate of the "
        "large products and the convolutions;\n"
        f"- a VAE step: {work['step_flop'] / 1e9:.1f} GFLOP at the faster rate in its shapes, plus "
        f"{work['step_bytes'] / 1e6:.0f} MB at the rate of copying;\n"
        "- loading: one copy of the images;\n"
        "- metrics called on images: the features' floor for the images that pass through the "
        "network. For metrics computed from codes no floor is known.\n"
    )


def _fastest(rates: dict[str, float], *names: str) -> float:
    return max(rates.get(name, 0.0) for name in names)  # not every machine has each


def _title(report: Report, stage: str) -> str:
    sizes, row = report["sizes"], report["stages"][stage]
    return {
        "load": lambda: f"the file checked and read ({row['ours'][0]['images']:,} images)",
        "features": lambda: f"features ({sizes['images']:,} images)",
        "vae": lambda: f"VAE, `public.gin` ({sizes['steps']} steps)",
        "metrics": lambda: (
            f"five metrics, small counts ({row['stock'][0]['images']:,} images through the "
            "network, or their codes)"
        ),
        "dci": lambda: (
            f"DCI at {sizes['dci_counts']['dci.num_train']:,} points, all cores: our trees, or "
            "scikit-learn's"
        ),
    }[stage]()


def _aim(report: Report, stage: str) -> str:
    if stage in SHARE_AIMS:
        reached = (share(report, stage, "ours") or 0) >= SHARE_AIMS[stage]
        aim = f"{_percent(SHARE_AIMS[stage])} of the floor"
    elif stage in RATIO_AIMS:
        reached = ratio(report["stages"][stage], "seconds") <= RATIO_AIMS[stage]
        aim = f"time {_number(RATIO_AIMS[stage])}"
    else:
        return "-"
    return f"{aim}: {'reached' if reached else 'missed'}"


def _rates(report: Report) -> dict[str, float]:
    return {name: _median(report["rates"], name) for name in report["rates"][0]}


def _median(runs: list[Report], what: str) -> float:
    return float(np.median([run[what] for run in runs]))


def _ratio_spread(row: Report, what: str) -> tuple[float, float]:
    """Least and most of the repeats' own ratios and of the medians' (which may lie outside)."""
    each = [a[what] / b[what] for a, b in zip(row["ours"], row["stock"], strict=True)]
    each.append(ratio(row, what))
    return min(each), max(each)


def _cell(runs: list[Report]) -> str:
    seconds = [run["seconds"] for run in runs]
    spread = f"{_number(min(seconds))} to {_number(max(seconds))}"
    return f"{_number(_median(runs, 'seconds'))} s ({spread}), {_median(runs, 'peak_mib'):,.0f} MiB"


def _rate_cell(report: Report, rate: str) -> str:
    values = [run[rate] / 1e9 for run in report["rates"]]
    middle = f"{float(np.median(values)):.0f}"
    return f"{middle} ({min(values):.0f} to {max(values):.0f})"


def _power(line: Report) -> str:
    """The exponent of a straight line through the logarithms."""
    if len(line["at"]) < 2:
        return "-"
    exponent = np.polyfit(np.log(line["at"]), np.log(line["seconds"]), 1)[0]
    return f"{line['along']}^{exponent:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _number(value: float) -> str:
    """Three figures, two below 0.1."""
    digits = max(0, 2 - math.floor(math.log10(value))) if value >= 0.1 else 3
    return f"{value:.{digits}f}"
