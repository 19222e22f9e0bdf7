"""When segments roll: looked at every so often, and at once for those far beyond their limits.

The monitor decides at its interval; an append decides by itself only when the segment holds twice
what it may. Idle and empty segments never roll.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import anyio

from broker.controller.partition import LocalPartition


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
        end_offset, size, _, _ = bucket.segment.end
        count = end_offset - bucket.segment.base_offset
        if count == 0:
            return ""
        if count >= self.entries_max * factor:
            return f"{count} entries, limit {self.entries_max}"
        size_max = min(self.size_max, partition.config.segment_bytes)
        if size >= size_max * factor:
            return f"{size} bytes, limit {size_max}"
        return ""


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
        self._urgent: set[LocalPartition] = set()
        self._wake = anyio.Event()

    def after_append(self, partition: LocalPartition) -> None:
        """Called for every append, so it must stay cheap."""
        if partition not in self._urgent and self._limits.reason(partition, factor=2):
            self._urgent.add(partition)
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        next_check = anyio.current_time() + self._interval_s
        while True:
            self._wake = anyio.Event()
            if not self._urgent:
                with anyio.move_on_at(next_check):
                    await self._wake.wait()
            for partition in tuple(self._urgent):
                await self._roll_if_due(partition)
                self._urgent.discard(partition)
            if anyio.current_time() >= next_check:
                next_check = anyio.current_time() + self._interval_s
                for partition in tuple(self._partitions()):
                    await self._roll_if_due(partition)

    async def _roll_if_due(self, partition: LocalPartition) -> None:
        reason = (
            self._limits.reason(partition)
            or too_old(partition, self._now_ms())
            or self._misplaced(partition)
        )
        if reason:
            await self._roll(partition, reason)
