"""Results as pictures; needs matplotlib (`requirements.txt` beside this file).

python -m bench.plots RESULT.json FOLDER
"""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from bench.stats import spreads
from bench.table import PICTURES, advantage, picture_file, rows_of

_COLOURS = {"walrus": "#1b6ca8", "kafka": "#c8553d", "walrus-rust": "#c8553d"}
Row = Mapping[str, Any]


def draw(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Every picture for which the result has rows."""
    drawn = []
    for title, section in PICTURES:
        rows = rows_of(result["cells"], section)
        if not rows:
            continue
        plt.figure(figsize=(9, 0.28 * len(rows) + 1.5) if section is None else (8, 5))
        DRAWN_BY[title](rows)
        if section is not None:
            plt.title(title)
            plt.grid(alpha=0.3)
        plt.tight_layout()
        path = folder / picture_file(title)
        plt.savefig(path, metadata={"Date": None})
        plt.close()
        drawn.append(path)
    return drawn


def _ratios(rows: Sequence[Row]) -> None:
    known = sorted((times, row) for row in rows if (times := advantage(row)) is not None)
    names = [f"{row['section']}: {row['name']}" for _, row in known]
    values = [times for times, _ in known]
    plt.barh(names, values, color=["#c8553d" if value < 1 else "#1b6ca8" for value in values])
    plt.axvline(1, color="black", linewidth=1)
    plt.xscale("log")
    plt.xlabel("times better than the peer")
    plt.yticks(fontsize=7)
    plt.margins(y=0.01)
    plt.tight_layout()


def _throughput_against_latency(rows: Sequence[Row]) -> None:
    for name, points in _points(rows, "messages_per_s", "p99_ms").items():
        plt.scatter(*zip(*points, strict=True), label=name, color=_COLOURS[name])
    plt.xscale("log")
    plt.yscale("log")
    plt.xlabel("messages per second")
    plt.ylabel("p99, ms")
    plt.legend()


def _percentiles(rows: Sequence[Row]) -> None:
    for row in rows:
        for name, samples in row["samples"].items():
            found = spreads(samples)
            values = [found[key].median for key in ("p50_ms", "p99_ms", "p999_ms")]
            share = re.search(r"(cache|sync) at (\d+)%", row["name"])
            label = f"{name} {share.group(0)}" if share else name
            style = "-" if "cache" in row["name"] else "--"
            alpha = float(share.group(2)) / 100 + 0.2 if share else 1
            plt.plot(
                ["p50", "p99", "p999"], values, style,
                color=_COLOURS[name], alpha=alpha, label=label, marker="o",
            )  # fmt: skip
    plt.yscale("log")
    plt.ylabel("ms")
    plt.legend(fontsize=7)


_KINDS = {"cache": "o", "sync": "s", "produce": "o", "fetch": "^"}
"""How the points of a kind of row look: the first of these that its name has in it."""


def _cost_by(pattern: str, label: str) -> Callable[[Sequence[Row]], None]:
    def picture(rows: Sequence[Row]) -> None:
        series: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for row in rows:
            size = re.search(pattern, row["name"])
            kind = next(kind for kind in (*_KINDS, "") if kind in row["name"])
            for name, samples in row["samples"].items():
                found = spreads(samples)
                if size and "cpu_s_per_million" in found:
                    point = float(size.group(1)), found["cpu_s_per_million"].median
                    series.setdefault((name, kind), []).append(point)
        for (name, kind), points in series.items():
            look = {"color": _COLOURS[name], "marker": _KINDS.get(kind, "o")}
            plt.scatter(*zip(*points, strict=True), label=f"{name} {kind}", **look)
        plt.xscale("log")
        plt.yscale("log")
        plt.xlabel(label)
        plt.ylabel("CPU seconds of the server per million messages")
        plt.legend()

    return picture


def _points(rows: Sequence[Row], x: str, y: str) -> dict[str, list[tuple[float, float]]]:
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, samples in row["samples"].items():
            found = spreads(samples)
            points.setdefault(name, []).append((found[x].median, found[y].median))
    return points


DRAWN_BY: Mapping[str, Callable[[Sequence[Row]], None]] = {
    "ratios": _ratios,
    "throughput against latency": _throughput_against_latency,
    "latency percentiles": _percentiles,
    "cpu against record size": _cost_by(r"(\d+) B", "record size, bytes"),
    "cpu against topics": _cost_by(r"to (\d+) topics", "topics"),
    "cpu against connections": _cost_by(r"(\d+) connections", "connections"),
    "cpu against stored bytes": _cost_by(r"with ([\d.]+) GB stored", "GB stored in the topic"),
}

if __name__ == "__main__":
    for written in draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])):
        print(written)
