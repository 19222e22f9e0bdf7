"""Many measurements in few numbers (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

Sample = dict[str, float]
"""What one run of one cell measured, by the name of the measure."""

PERCENTILES: Final = (("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999))


@dataclass(frozen=True, slots=True)
class Spread:
    """Repeats of one measure."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Raises ValueError if there are none."""
        if not values:
            raise ValueError("no values")
        return cls(median(values), min(values), max(values))


def spreads(samples: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Each measure that every repeat has."""
    if not samples:
        return {}
    names = [name for name in samples[0] if all(name in sample for sample in samples)]
    return {name: Spread.of([sample[name] for sample in samples]) for name in names}


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed. Raises ValueError."""
    if not ordered or not 0 < share <= 1:
        raise ValueError(f"no percentile {share} of {len(ordered)} values")
    rank = -(-len(ordered) * round(share * 10_000) // 10_000)
    return ordered[max(rank, 1) - 1]


def latencies(values_ms: Sequence[float]) -> Sample:
    """The three percentiles that are reported."""
    ordered = sorted(values_ms)
    return {name: percentile(ordered, share) for name, share in PERCENTILES}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """The median of the ratios of neighbours in time; None where nothing can be divided.

    Runs that stood side by side shared what else the machine did, so their ratio is steadier than
    the ratio of the medians.
    """
    pairs = [ours / theirs for ours, theirs in zip(ours, theirs, strict=False) if theirs > 0]
    return median(pairs) if pairs else None
