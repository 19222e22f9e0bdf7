"""What clients and tools print, as samples (pure)."""

import re

from bench.stats import Sample

_PRODUCED = re.compile(
    r"(\d+) (?:steady state )?records sent, ([\d.]+) records/sec .*?"
    r"(\d+) ms 50th, \d+ ms 95th, (\d+) ms 99th, (\d+) ms 99\.9th"
)


def producer_performance(text: str) -> Sample:
    """The last summary of Kafka's ProducerPerformance: that of the steady state, if it has a
    warm-up. Raises ValueError."""
    found = _PRODUCED.findall(text)
    if not found:
        raise ValueError(f"no summary in the output of ProducerPerformance: {text[-500:]!r}")
    _, rate, p50, p99, p999 = found[-1]
    return {
        "messages_per_s": float(rate),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "p999_ms": float(p999),
    }


def consumer_performance(text: str) -> Sample:
    """The line of Kafka's ConsumerPerformance; the time of joining the group is not counted.
    Raises ValueError."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    rows = [row for row in rows if len(row) == 10 and row[4].isdigit()]
    if not rows or int(rows[-1][4]) == 0:
        raise ValueError(f"no messages in the output of ConsumerPerformance: {text[-500:]!r}")
    return {"messages_per_s": float(rows[-1][9]), "messages": float(rows[-1][4])}


def perf_stat(text: str) -> Sample:
    """The counts of `perf stat -x,`, summed by event. Raises ValueError for what was not
    counted."""
    counts: Sample = {}
    for line in text.splitlines():
        cells = line.split(",")
        if len(cells) < 3 or line.startswith("#"):
            continue
        if not cells[0].isdigit():
            raise ValueError(f"perf did not count: {line}")
        counts[cells[2]] = counts.get(cells[2], 0) + int(cells[0])
    if not counts:
        raise ValueError(f"no counts in the output of perf: {text[-500:]!r}")
    return counts
