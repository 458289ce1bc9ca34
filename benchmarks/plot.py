"""Draw results.json: `plot.py results.json performance.svg`. Needs matplotlib, so it runs in benchmarks/.venv."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "gatehouse", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})

import matplotlib.pyplot as plt  # noqa: E402 (the backend must be chosen first)

OURS, OTHERS = "#2463a6", "#b8bec6"


def main(source: str, target: str) -> None:
    results = json.loads(Path(source).read_text())
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4))
    draw_servers(left, results["over-http"]["servers"]["64"])
    draw_parts(right, results["in-process"]["by_call"]["medians"])
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


def draw_servers(axes: Any, servers: dict[str, Any]) -> None:
    names = sorted(servers, key=lambda name: float(servers[name]["rate"]))
    bars = axes.barh(names, [servers[name]["rate"] for name in names])
    for bar, name in zip(bars, names, strict=True):
        bar.set_color(OURS if name == "Gatehouse" else OTHERS)
    axes.bar_label(bars, fmt="{:,.0f}", padding=3)
    axes.set_title("Reads a second, 64 connections, two workers", loc="left")


def draw_parts(axes: Any, times: dict[str, float]) -> None:
    rows = {
        "the tutorial's read (f)": [times["f"]],
        "refresh (e)": [times["e"]],
        "read (d)": [times["d"]],
        "bare route (a) + Redis (b)": [times["a"], times["b"]],
    }
    for row, (name, parts) in enumerate(rows.items()):
        left = 0.0
        for number, part in enumerate(parts):
            color = OURS if name.startswith(("read", "refresh")) else OTHERS
            axes.barh(row, part, left=left, color=color, alpha=1 - 0.3 * number)
            left += part
        axes.text(left, row, f" {left:.0f}", va="center")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_title("Microseconds in one process", loc="left")


if __name__ == "__main__":
    main(*sys.argv[1:])
