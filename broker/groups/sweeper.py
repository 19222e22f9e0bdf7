"""What is too old goes: positions that nobody may want any more, and groups that have nothing
left."""

from typing import Final
from uuid import UUID

import anyio
import anyio.lowlevel
import structlog

from broker.controller.clocks import WallTime
from broker.controller.controller import LocalController
from broker.errors import RequestError, UnknownTopicId
from broker.groups.expiry import expired
from broker.groups.shard import Entry, Shard
from broker.groups.shards import Shards
from broker.ports import Clock

_log = structlog.get_logger(__name__)

SWEEP_INTERVAL_S: Final = 600.0
"""How often what is too old is looked for; Kafka's `offsets.retention.check.interval.ms`."""

PAUSE_EVERY: Final = 200
"""Groups that are looked at before others may run."""


class Sweeper:
    """Of one node's groups."""

    def __init__(
        self, controller: LocalController, clock: Clock, shards: Shards, *, retention_ms: int
    ) -> None:
        self._controller = controller
        self._time = WallTime(clock, controller.other_clocks)
        self._shards = shards
        self._retention_ms = retention_ms

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await anyio.sleep(SWEEP_INTERVAL_S)
            await self.sweep()

    async def sweep(self) -> None:
        """Forget positions in deleted topics, positions that are too old, and groups that have
        neither members nor positions."""
        looked_at, now_ms = 0, await self._time.now_ms()
        for shard in self._shards:
            for entry in shard:
                try:
                    self._sweep_entry(shard, entry, -1 if now_ms is None else now_ms)
                except RequestError as error:
                    _log.warning("old offsets stay for now", error=str(error))
                    break
                looked_at += 1
                if looked_at % PAUSE_EVERY == 0:
                    await anyio.lowlevel.checkpoint()

    def _sweep_entry(self, shard: Shard, entry: Entry, now_ms: int) -> None:
        group = entry.group
        if shard.entries.get(group.group_id) is not entry:
            return
        gone = expired(
            group.group_id,
            entry.offsets,
            state=group.state,
            has_had_members=bool(group.protocol_type),
            empty_since_ms=entry.since_ms,
            now_ms=now_ms,
            retention_ms=self._retention_ms,
            exists=self._has_topic,
        )
        if gone:
            shard.forget(entry, gone)
            self._shards.counts.expired_offsets += len(gone)
        if group.is_idle and not entry.offsets:
            shard.delete(entry)

    def _has_topic(self, topic_id: UUID) -> bool:
        """Whoever leads a shard has seen every topic that was there when it was last written."""
        try:
            self._controller.topic_by_id(topic_id)
        except UnknownTopicId:
            return False
        return True
