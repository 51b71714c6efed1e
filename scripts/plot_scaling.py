"""Draw the plots of docs/explanation/scaling.md: what `benchmarks/table1.py --json FILE` measured.

Usage: python scripts/plot_scaling.py FILE ...
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "benchmarks"))
from replay import TABLE_1  # noqa: E402

TARGET = REPOSITORY / "docs" / "images"
BLOCKS = (1, 2, 4)
COLOURS = {"1Lbb": "#0072B2", "stau": "#D55E00", "SS3L": "#009E73"}
#: What a wall time is made of, as bars show it: keys of `replay.PARTS`, label and colour.
STACK = (
    (("fit",), "fits, in equal shares", "#0072B2"),
    (("longest",), "the longest fit", "#56B4E9"),
    (("quantum",), "fits cannot be divided", "#CC79A7"),
    (("blocks",), "blocks start", "#E69F00"),
    (("transport", "other"), "all else", "0.2"),
)


def main() -> None:
    trials = defaultdict(list)
    for name in sys.argv[1:]:
        for line in Path(name).read_text(encoding="utf-8").splitlines():
            trial = json.loads(line)
            trials[trial["analysis"], trial["blocks"], trial["start"]].append(trial)
    for name, draw in (("table1", table1), ("blocks", efficiency), ("parts", parts)):
        figure = draw(trials)
        figure.savefig(TARGET / f"scaling_{name}.png", dpi=130)


def walls(trials: list[dict]) -> tuple[float, float]:
    """Return mean and sample standard deviation of the wall times."""
    seconds = [trial["wall_s"] for trial in trials]
    return fmean(seconds), stdev(seconds) if len(seconds) > 1 else 0.0


def table1(trials):
    """The published wall times and the acted ones, on four blocks."""
    figure, axes = plt.subplots(figsize=(6.6, 3.6), layout="constrained")
    for place, analysis in enumerate(TABLE_1):
        cold, warm = (trials[analysis.name, BLOCKS[-1], start] for start in ("cold", "warm"))
        shown = (
            ("published", (analysis.wall_s, analysis.stdev_s), "s", "0.35"),
            ("acted, blocks start", walls(cold), "o", "#E69F00"),
            ("acted, blocks are up", walls(warm), "o", "#0072B2"),
        )
        for offset, (label, (mean_s, spread_s), marker, colour) in enumerate(shown):
            axes.errorbar(
                place + 0.16 * (offset - 1),
                mean_s,
                spread_s,
                fmt=marker,
                color=colour,
                capsize=3,
                label=label if place == 0 else None,
            )
            axes.annotate(
                f"{mean_s:.0f}" if mean_s >= 10 else f"{mean_s:.1f}",
                (place + 0.16 * (offset - 1), mean_s),
                xytext=(7, 0),
                textcoords="offset points",
                fontsize=8,
                va="center",
            )
        least_s = warm[0]["shortest_s"]
        axes.hlines(
            least_s,
            place - 0.32,
            place + 0.32,
            color="0.6",
            linestyles="dashed",
            label="fits alone, longest first" if place == 0 else None,
        )
    axes.set_yscale("log")
    axes.set_ylim(1.5, 400)
    axes.set_xticks(range(len(TABLE_1)), [f"{each.name}\n{each.patches} fits" for each in TABLE_1])
    axes.set_ylabel("wall time [s]")
    axes.set_title("Table 1 on four blocks", fontsize=10)
    axes.legend(fontsize=8)
    return figure


def efficiency(trials):
    """How much of the workers' time goes into fits, and how much could."""
    figure, axes = plt.subplots(figsize=(6.6, 3.6), layout="constrained")
    for analysis in TABLE_1:
        kinds = [trials[analysis.name, blocks, "warm"] for blocks in BLOCKS]
        shares = [
            100 * fmean(each["fits_s"] / each["workers"] / each["wall_s"] for each in kind)
            for kind in kinds
        ]
        allowed = [
            100 * fmean(each["shortest_s"] / each["wall_s"] for each in kind) for kind in kinds
        ]
        colour = COLOURS[analysis.name]
        axes.plot(BLOCKS, shares, "o-", color=colour, label=f"{analysis.name}: of an equal share")
        axes.plot(
            BLOCKS,
            allowed,
            "s--",
            color=colour,
            mfc="none",
            label=f"{analysis.name}: of what the fits allow",
        )
    axes.axhline(90, color="0.7", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(BLOCKS, [f"{blocks}\n{24 * blocks} workers" for blocks in BLOCKS])
    axes.set_xlabel("blocks")
    axes.set_ylabel("efficiency [%]")
    axes.set_ylim(0, 104)
    axes.set_title("Efficiency with the blocks up", fontsize=10)
    axes.legend(fontsize=7, ncols=2, loc="lower left")
    return figure


def parts(trials):
    """Where the time of a run goes that starts its blocks."""
    figure, axes = plt.subplots(figsize=(6.6, 3.8), layout="constrained")
    bars = [(analysis, blocks) for analysis in TABLE_1 for blocks in BLOCKS]
    places = [place + 0.6 * (place // len(BLOCKS)) for place in range(len(bars))]
    below = [0.0] * len(bars)
    for names, label, colour in STACK:
        heights = []
        for analysis, blocks in bars:
            kind = trials[analysis.name, blocks, "cold"]
            heights.append(
                100 * fmean(sum(t["parts"][n] for n in names) / t["wall_s"] for t in kind)
            )
        axes.bar(places, heights, bottom=below, color=colour, label=label)
        below = [under + height for under, height in zip(below, heights, strict=True)]
    for place, (analysis, blocks) in zip(places, bars, strict=True):
        mean_s = walls(trials[analysis.name, blocks, "cold"])[0]
        axes.annotate(f"{mean_s:.0f} s", (place, 101), ha="center", fontsize=8)
    axes.set_xticks(
        places,
        [
            f"{blocks}\n{analysis.name}" if blocks == BLOCKS[1] else str(blocks)
            for analysis, blocks in bars
        ],
    )
    axes.set_xlabel("blocks")
    axes.set_ylabel("share of the wall time [%]")
    axes.set_ylim(0, 108)
    figure.legend(fontsize=8, ncols=3, loc="outside upper center")
    return figure


if __name__ == "__main__":
    main()
