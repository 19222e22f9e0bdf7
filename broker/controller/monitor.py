"""When segments roll: looked at every so often, and at once for those far beyond their limits.

The monitor decides at its interval; a write decides by itself only when the segment holds twice
what it may. Idle and empty segments never roll.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import anyio

from broker.controller.partition import LocalPartition

ROLLS_MAX = 8
"""Rollovers at the same time: one whose followers are slow, or whose outcome nobody tells, holds up
no other."""


@dataclass(frozen=True, slots=True)
class RollLimits:
    """The node's limits; a topic's own `segment.bytes` may be lower."""

    entries_max: int
    size_max: int

    def reason(self, partition: LocalPartition, *, factor: int = 1) -> str:
        """Why this partition's segment should roll, in words; "" if it should not."""
        bucket = partition.bucket
        if bucket is None:
            return ""
        segment = bucket.segment
        end_offset, size, _, _ = segment.end
        count = end_offset - segment.base_offset
        if count >= self.entries_max * factor:
            return f"{count} entries, limit {self.entries_max}"
        size_max = partition.config.segment_bytes
        if self.size_max < size_max:
            size_max = self.size_max
        return f"{size} bytes, limit {size_max}" if size >= size_max * factor and count else ""


def too_old(partition: LocalPartition, now_ms: int) -> str:
    """Why the age of this partition's segment is beyond `segment.ms`; "" if it is not, or if the
    segment is empty."""
    bucket = partition.bucket
    if bucket is None or bucket.first_append_ms < 0:
        return ""
    age_ms = now_ms - bucket.first_append_ms
    limit_ms = partition.config.segment_ms
    return f"{age_ms} ms old, limit {limit_ms}" if age_ms >= limit_ms else ""


class Monitor:
    """Calls `roll(partition, reason)` for what is due. `interval_ms` is WALRUS_MONITOR_CHECK_MS;
    `misplaced` says why a segment should be on other nodes, "" if it should not."""

    def __init__(
        self,
        limits: RollLimits,
        *,
        misplaced: Callable[[LocalPartition], str],
        now_ms: Callable[[], int],
        interval_ms: int,
        partitions: Callable[[], Iterable[LocalPartition]],
        roll: Callable[[LocalPartition, str], Awaitable[object]],
    ) -> None:
        self._limits = limits
        self._misplaced = misplaced
        self._now_ms = now_ms
        self._interval_s = interval_ms / 1000
        self._partitions = partitions
        self._roll = roll
        self._urgent: list[LocalPartition] = []
        """Far beyond their limits, and not begun yet."""
        self._begun: set[LocalPartition] = set()
        """These, and all that roll just now."""
        self._limiter = anyio.CapacityLimiter(ROLLS_MAX)
        self._wake = anyio.Event()

    def after_write(self, partition: LocalPartition) -> None:
        """Called when this node's disk has more of it, so it must stay cheap."""
        if partition not in self._begun and self._limits.reason(partition, factor=2):
            self._begun.add(partition)
            self._urgent.append(partition)
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        next_check = anyio.current_time() + self._interval_s
        async with anyio.create_task_group() as tasks:
            while True:
                self._wake = anyio.Event()
                if not self._urgent:
                    with anyio.move_on_at(next_check):
                        await self._wake.wait()
                urgent, self._urgent = self._urgent, []
                for partition in urgent:
                    tasks.start_soon(self._roll_now, partition)
                if anyio.current_time() >= next_check:
                    next_check = anyio.current_time() + self._interval_s
                    for partition in tuple(self._partitions()):
                        if partition not in self._begun and self._reason(partition):
                            self._begun.add(partition)
                            tasks.start_soon(self._roll_now, partition)

    async def _roll_now(self, partition: LocalPartition) -> None:
        try:
            async with self._limiter:
                if reason := self._reason(partition):
                    await self._roll(partition, reason)
        finally:
            self._begun.discard(partition)

    def _reason(self, partition: LocalPartition) -> str:
        """Why it is to roll; "" if it is not."""
        return (
            self._limits.reason(partition)
            or too_old(partition, self._now_ms())
            or self._misplaced(partition)
        )
