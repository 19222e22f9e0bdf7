"""What the clients were told against what is there: nothing lost, doubled, moved or reordered."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tests.chaos.clients import History

READ_S_MAX = 120.0

_NEIGHBOURS = 3
"""Offsets on either side of a roll whose latency may show it."""


@dataclass
class Verdict:
    """Of one topic. Lists hold examples in words."""

    topic: str
    client: str
    sent: int = 0
    acked: int = 0
    unknown: int = 0
    """Failed for the application, and stored after all: allowed."""
    placeless: int = 0
    """Acknowledged without an offset: allowed, and rare."""
    lost: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (
            self.lost
            or self.moved
            or self.duplicated
            or self.reordered
            or self.invented
            or self.changed
        )


_MOVING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError._UNKNOWN_PARTITION,  # librdkafka's own: its metadata names no leader yet
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
)


def _end_of(consumer: Consumer, topic: str, deadline: float) -> int:
    """The high watermark; asked again while the leadership moves, which librdkafka leaves to us."""
    while True:
        try:
            return int(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)[1])
        except KafkaException as error:
            if error.args[0].code() not in _MOVING or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def read_all(bootstrap: str, topic: str, *, first: int = 0) -> list[tuple[int, bytes]]:
    """(offset, value) of everything from offset `first` to the high watermark.

    Raises AssertionError when it cannot be read to its end in time.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"verdict-{time.time_ns()}",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "log_level": 0,
        }
    )
    found: list[tuple[int, bytes]] = []
    deadline = time.monotonic() + READ_S_MAX
    try:
        end = _end_of(consumer, topic, deadline)
        consumer.assign([TopicPartition(topic, 0, first)])
        while not found or found[-1][0] < end - 1:
            if end <= first:
                break
            assert time.monotonic() < deadline, f"{topic}: read {len(found)}, and the end is {end}"
            for message in consumer.consume(1000, timeout=1):
                if message.error() is None:
                    value, offset = message.value(), message.offset()
                    assert value is not None and offset is not None
                    found.append((offset, value))
    finally:
        consumer.close()
    return found


def judge(history: History, stored: Sequence[tuple[int, bytes]]) -> Verdict:
    """Every promise of the log, checked."""
    verdict = Verdict(history.topic, history.client, len(history.sent), len(history.acked))
    offsets: dict[bytes, int] = {}
    for offset, value in stored:
        if value in offsets:
            verdict.duplicated.append(f"{value!r} at {offsets[value]} and {offset}")
        else:
            offsets[value] = offset
    for sent in history.acked:
        verdict.placeless += sent.offset < 0 and history.client != "native PUT"
        found = offsets.get(sent.value)
        if found is None:
            when = f"{sent.acked_at - history.sent[0].sent_at:.1f} s after the first"
            verdict.lost.append(f"{sent.value!r}, acknowledged at {sent.offset}, {when}")
        elif sent.offset >= 0 and sent.offset != found:
            verdict.moved.append(f"{sent.value!r}, acknowledged at {sent.offset}, is at {found}")
    verdict.unknown = sum(not sent.acked_at and sent.value in offsets for sent in history.sent)
    verdict.invented = [repr(value) for value in offsets.keys() - {s.value for s in history.sent}]
    values = list(offsets)
    verdict.reordered = [
        f"{after!r} at {offsets[after]} follows {before!r}"
        for before, after in pairwise(values)
        if after < before
    ]
    verdict.changed = list(history.changed)
    at = dict(stored)
    verdict.changed += [
        f"offset {offset} was read as {value!r} and is {at.get(offset)!r}"
        for offset, value in history.read.items()
        if at.get(offset) != value
    ]
    return verdict


def first_ack_after(history: History, moment: float) -> float:
    """Seconds from `moment` to the first acknowledgement of something sent after it; inf if
    none."""
    times = [sent.acked_at for sent in history.acked if sent.sent_at >= moment]
    return min(times) - moment if times else float("inf")


def longest_gaps(history: History, count: int) -> list[tuple[float, float]]:
    """(seconds, monotonic time at which it began) of the longest times without an
    acknowledgement, the longest first."""
    times = sorted(sent.acked_at for sent in history.acked)
    return sorted(((b - a, a) for a, b in pairwise(times)), reverse=True)[:count]


def delays_ms(
    history: History,
    stored: Iterable[tuple[int, bytes]],
    offsets: Iterable[int],
    disturbed: Sequence[tuple[float, float]],
) -> list[float]:
    """For each of `offsets`, by how much the slowest message beside it is slower than the median
    one: what a planned roll at that offset has cost.

    Those in `disturbed` stretches of time belong to faults and are left out.
    """
    by_value = {sent.value: sent for sent in history.acked}
    by_offset = {offset: by_value[value] for offset, value in stored if value in by_value}
    quiet = [
        sent
        for sent in by_offset.values()
        if not any(start <= sent.sent_at <= end for start, end in disturbed)
    ]
    if not quiet:
        return []
    usual = percentile([sent.acked_at - sent.sent_at for sent in quiet], 50)
    is_quiet = {id(sent) for sent in quiet}
    delays = []
    for middle in offsets:
        near = [
            by_offset[offset]
            for offset in range(middle - _NEIGHBOURS, middle + _NEIGHBOURS)
            if offset in by_offset
        ]
        if near and all(id(sent) in is_quiet for sent in near):
            delays.append(max(sent.acked_at - sent.sent_at for sent in near) - usual)
    return [1000 * delay for delay in delays]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of them do not exceed; 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * percent // 100) - 1).__int__())]
