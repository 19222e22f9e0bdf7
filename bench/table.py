"""Results as a page (pure)."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, Final

from bench.stats import Sample, Spread, ratio, spreads

OURS: Final = "walrus"
NOBODIES: Final = {"nothing", "file", "memory"}
"""Servers that do nothing, or next to it, are no peers: nobody can be ahead of them."""

LESS_IS_BETTER: Final = {"seconds", "cpu_percent", "p99_ms"}

MARGIN: Final = 0.03
"""Ratios so near to 1 are called even."""

PICTURES: Final = (
    ("ratios", None),
    ("throughput against latency", "producer"),
    ("latency percentiles", "end to end"),
    ("cpu against record size", "producer"),
    ("cpu against topics", "topics"),
    ("cpu against connections", "connections"),
    ("cpu against stored bytes", "stored"),
)
"""Title of a picture, and the section whose rows it shows; None for all."""

_UNITS: Final = {
    "messages_per_s": "messages/s",
    "p99_ms": "p99, ms",
    "seconds": "seconds",
    "cpu_percent": "% of a core",
}

_COSTS: Final = (
    ("p50_ms", "p50 ms"),
    ("p99_ms", "p99 ms"),
    ("p999_ms", "p999 ms"),
    ("cpu_s_per_million", "CPU s per million"),
    ("memory_peak_mb", "peak MB"),
    ("memory_mb", "MB"),
    ("written_mb", "MB written"),
    ("client_cores", "client's cores"),
)
_COUNTS: Final = (("system_calls", "calls per 1000"), ("syncs", "syncs per 1000"))


def page(result: Mapping[str, Any]) -> str:
    """The whole, in Markdown: first what a peer does better."""
    parts = [_head(result), _behind(result["cells"]), _pictures(result["cells"])]
    for section in dict.fromkeys(row["section"] for row in result["cells"]):
        rows = [row for row in result["cells"] if row["section"] == section]
        parts.append(f"## {section.capitalize()}\n\n" + _section(rows))
    if result["left_out"]:
        parts.append("## Left out\n\n- " + "\n- ".join(result["left_out"]))
    return "\n\n".join(parts) + "\n"


def picture_file(title: str) -> str:
    """Beside the page."""
    return title.replace(" ", "-") + ".svg"


def rows_of(cells: Sequence[Mapping[str, Any]], section: str | None) -> list[Mapping[str, Any]]:
    """What a picture shows."""
    good = [row for row in _against_peers(cells) if "failure" not in row]
    return [row for row in good if section in (None, row["section"])]


def _against_peers(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if NOBODIES.isdisjoint(row.get("samples", ()))]


def _pictures(cells: Sequence[Mapping[str, Any]]) -> str:
    shown = [title for title, section in PICTURES if rows_of(cells, section)]
    return "Pictures: " + ", ".join(f"[{title}]({picture_file(title)})" for title in shown) + "."


def advantage(row: Mapping[str, Any]) -> float | None:
    """How many times better than the peer the headline is; below 1, the peer is ahead."""
    if "failure" in row:
        return None
    ours, theirs = ([one[row["headline"]] for one in row["samples"][name]] for name in _names(row))
    if row["headline"] in LESS_IS_BETTER:
        ours, theirs = theirs, ours
    return ratio(ours, theirs)


def _names(row: Mapping[str, Any]) -> tuple[str, str]:
    (peer,) = (name for name in row["samples"] if name != OURS)
    return OURS, peer


def _head(result: Mapping[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    listed = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    before, after = result["load_average"]
    return (
        f"# Side by side, {result['date'][:10]}\n\n"
        f"`{result['command']}` at commit {result['commit']}, {result['date']}.\n"
        f"{machine['cpu']}, {machine['memory_gb']} GB, Linux {machine['kernel']},"
        f" {machine['file_system']}. {listed}. Kafka's heap: {result['kafka_heap']}.\n"
        f"Client and servers share the machine. {_bystanders(result['cells'])} Load average before"
        f" {before:.1f}, after {after:.1f}. {result['note']}\n\n"
        f"Medians of {result['repeats']} runs of about {result['seconds']:g} s with the lowest and"
        " the highest in brackets, the two systems in turns: A B, B A. *Times* is the median of the"
        " ratios of neighbours in time: how many times better than the peer, so that below 1 the"
        " peer is ahead. Costs are those of the servers, ours / theirs. System calls and syncs were"
        " counted in one more run. *Client's cores* is how many processors the client kept busy,"
        " where it could be measured: one of a single thread that stands at 1 can do no more,"
        " whatever the server."
    )


def _bystanders(cells: Sequence[Mapping[str, Any]]) -> str:
    shares = [row["bystanders_percent"] for row in cells]
    if not shares:
        return ""
    return (
        f"Whatever else ran on it took {median(shares):.0f} % of its CPU time in the median cell,"
        f" {max(shares):.0f} % in the worst."
    )


def _behind(rows: Sequence[Mapping[str, Any]]) -> str:
    known = [(advantage(row), row) for row in _against_peers(rows)]
    behind = [(times, row) for times, row in known if times is not None and times < 1 - MARGIN]
    lines = ["## What a peer does better", ""]
    for times, row in sorted(behind, key=lambda pair: pair[0]):
        lines.append(f"- **{times:.2f}** {row['section']}: {row['name']} ({_names(row)[1]})")
    lines += [
        f"- failed: {row['name']}: {row['failure'][:200]}" for row in rows if "failure" in row
    ]
    return "\n".join(lines if len(lines) > 2 else [*lines, "Nothing in this run."])


def _section(rows: Sequence[Mapping[str, Any]]) -> str:
    """One table per headline and peer, the worst row first."""
    tables: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if "failure" not in row:
            tables.setdefault((row["headline"], _names(row)[1]), []).append(row)
    return "\n\n".join(
        "\n".join(_table(headline, peer, sorted(found, key=lambda row: advantage(row) or 0)))
        for (headline, peer), found in tables.items()
    )


def _table(headline: str, peer: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    costs = [
        (name, title)
        for name, title in _COSTS
        if name != headline and any(name in row["samples"][OURS][0] for row in rows)
    ]
    counts = _COUNTS if any(row["counts"] for row in rows) else ()
    unit = _UNITS[headline]
    titles = ["", f"{OURS}, {unit}", f"{peer}, {unit}", "times"]
    titles += [title for _, title in (*costs, *counts)]
    yield "| " + " | ".join(titles) + " |"
    yield "|---" + "|--:" * (len(titles) - 1) + "|"
    for row in rows:
        ours, theirs = (spreads(row["samples"][name]) for name in (OURS, peer))
        times = advantage(row)
        cells = [row["name"], _spread(ours[headline]), _spread(theirs[headline])]
        cells.append("–" if times is None else f"{times:.2f}")
        cells += [_pair(ours.get(name), theirs.get(name)) for name, _ in costs]
        cells += [_counted(row["counts"], peer, name) for name, _ in counts]
        yield "| " + " | ".join(cells) + " |"


def _spread(found: Spread) -> str:
    return f"{_number(found.median)} ({_number(found.low)}–{_number(found.high)})"


def _pair(ours: Spread | None, theirs: Spread | None) -> str:
    if ours is None or theirs is None:
        return "–"
    return f"{_number(ours.median)} / {_number(theirs.median)}"


def _counted(counts: Mapping[str, Sample], peer: str, name: str) -> str:
    if not counts:
        return "–"
    return f"{_number(counts[OURS][name])} / {_number(counts[peer][name])}"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
