"""Fetches that begin and end without a task of their own: the usual ones, of records that are in
memory and go out at once.

A second way beside the handler, for what a consumer that has catching up to do asks by the
thousand. Whatever is unusual about a request, or would have to wait for records, for the disk or
for room, is left to the general way.
"""

from broker import ports
from broker.kafka_api import fetch_wire
from broker.kafka_api.context import Context
from broker.kafka_api.fetch_wire import Asked
from broker.kafka_api.outcome import NONE
from broker.ports import QuickPartition, Reply
from broker.telemetry.metrics import RequestStats


class _Answered(ports.Pending):
    """A Fetch that has its reply."""

    __slots__ = ("_reply",)

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self._reply = reply
        self.is_ready = True

    def take(self) -> Reply:
        return self._reply


class QuickFetch:
    """The quick way of one connection."""

    def __init__(self, ctx: Context, stats: RequestStats) -> None:
        self._controller = ctx.controller
        self._memory = ctx.memory
        self._monotonic = ctx.clock.monotonic
        self._size_max = ctx.config.fetch_size_max
        self._stats = stats

    def begin(
        self, frame: memoryview, position: int, version: int, correlation_id: int
    ) -> ports.Pending | None:
        """Answer the Fetch whose body starts at `position`, which has to leave at once; None, and
        nothing has happened, if it is not a usual one."""
        asked = fetch_wire.read(frame, position, version)
        if asked is None:
            return None
        began_at = self._monotonic()
        try:
            reply = self._reply(asked, correlation_id)
        except Exception:  # noqa: BLE001 - the general way meets it again, and has the words for it
            return None
        if reply is None:
            return None
        self._stats.record(NONE, self._monotonic() - began_at)
        return _Answered(reply)

    def _reply(self, asked: Asked, correlation_id: int) -> Reply | None:
        partition = self._led(asked)
        if partition is None:
            return None
        partition.check_epoch(asked.leader_epoch)
        size_max = min(asked.size_max, self._size_max)
        if not self._memory.has_room(size_max):
            return None
        records = partition.read_now(asked.offset, size_max=size_max)
        if records is None:
            return None
        return fetch_wire.answer(
            asked,
            correlation_id,
            high_watermark=partition.high_watermark,
            log_start_offset=partition.log_start_offset,
            records=records,
        )

    def _led(self, asked: Asked) -> QuickPartition | None:
        topic_id = asked.topic_id
        if topic_id is None:
            return self._controller.led(asked.topic.decode())
        partition = self._controller.led(self._controller.topic_by_id(topic_id).name)
        if partition is None or partition.topic.topic_id != topic_id:
            return None
        return partition
