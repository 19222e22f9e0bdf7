"""Which workloads are run: a selection in which every pair of settings meets (pure)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations, product
from math import prod
from typing import Any, Final

PRODUCER_FACTORS: Final[Mapping[str, Sequence[Any]]] = {
    "client": ("java", "confluent", "aiokafka"),
    "codec": ("none", "lz4", "zstd"),
    "record_size": (100, 1000),
    "linger_ms": (0, 5),
    "batch_size": (16_384, 262_144),
    "acks": ("1", "all"),
    "durability": ("cache", "sync"),
}
"""`cache`: acknowledged from the page cache, which is Kafka's default and our `--fsync none`.
`sync`: on the disk before it is acknowledged, Kafka's `flush.messages=1` and our `--fsync each`."""

ALL_COUNT: Final = prod(map(len, PRODUCER_FACTORS.values()))


@dataclass(frozen=True, slots=True)
class ProducerCell:
    """One way to produce."""

    client: str
    codec: str
    record_size: int
    linger_ms: int
    batch_size: int
    acks: str
    durability: str

    @property
    def name(self) -> str:
        return (
            f"{self.client} {self.record_size} B {self.codec} linger {self.linger_ms}"
            f" batch {self.batch_size // 1024}K acks {self.acks} {self.durability}"
        )


def producer_cells(count: int) -> list[ProducerCell]:
    """At least so many that every two settings meet, and `count` if that is more."""
    names = [field.name for field in fields(ProducerCell)]
    chosen = spread([PRODUCER_FACTORS[name] for name in names], count)
    return [ProducerCell(*values) for values in chosen]


def spread(factors: Sequence[Sequence[Any]], count: int) -> list[tuple[Any, ...]]:
    """Rows with one value of each factor, such that every pair of values stands in some row.

    Greedy: each row is the one that brings the most new pairs, and of those the most new triples.
    Rows beyond the last new pair are chosen by triples alone. The same input gives the same rows.
    """
    left = [tuple(enumerate(row)) for row in product(*factors)]
    missing = {subset for row in left for subset in _subsets(row)}
    chosen: list[tuple[Any, ...]] = []
    while left and (len(chosen) < count or any(len(subset) == 2 for subset in missing)):
        best = max(left, key=lambda row: _gain(row, missing))
        left.remove(best)
        missing.difference_update(_subsets(best))
        chosen.append(tuple(value for _, value in best))
    return chosen


def _subsets(row: Sequence[tuple[int, Any]]) -> Iterable[tuple[tuple[int, Any], ...]]:
    yield from combinations(row, 2)
    yield from combinations(row, 3)


def _gain(
    row: Sequence[tuple[int, Any]], missing: set[tuple[tuple[int, Any], ...]]
) -> tuple[int, int]:
    new = [len(subset) for subset in _subsets(row) if subset in missing]
    return new.count(2), new.count(3)
