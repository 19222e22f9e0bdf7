"""One shard of keyed state: loaded from its internal topic, changed by appending to it.

The state in memory is that of everything *appended*; an answer that must survive is given only when
the append is committed. A shard belongs to one partition object: when leadership moves, a new one
is loaded from the log.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

import anyio
import structlog

from broker import codecs
from broker.controller.controller import LocalController
from broker.controller.partition import LocalPartition
from broker.errors import RequestError
from broker.groups.keyed import Change, apply_changes, decode_snapshot, encode_snapshot
from broker.ports import ACKS_ALL, Clock, Finish, Reply
from engine.batch import Record, build, iter_headers, iter_records

_log = structlog.get_logger(__name__)

COMMIT_TIMEOUT_S: Final = 30.0
"""How long a change may take to become durable before its outcome is called unknown."""

_READ_SIZE: Final = 1024 * 1024


class StateLog:
    """See the module's text. Make one with `load`."""

    def __init__(
        self, controller: LocalController, partition: LocalPartition, clock: Clock
    ) -> None:
        self.partition = partition
        self.live: dict[bytes, bytes] = {}
        self._controller = controller
        self._clock = clock
        self._is_trimming = False

    @classmethod
    async def load(
        cls, controller: LocalController, partition: LocalPartition, clock: Clock
    ) -> "StateLog":
        """Read the whole shard back: the snapshot of its first segment, then every change after
        it."""
        shard = cls(controller, partition, clock)
        header = await partition.first_header()
        if header is not None:
            shard.live = decode_snapshot(header.keyed)
        offset = partition.log_start_offset
        while data := await partition.read(offset, size_max=_READ_SIZE):
            offset = await anyio.to_thread.run_sync(partial(shard._replay, data))
        partition.keyed_snapshot = lambda: encode_snapshot(shard.live)
        return shard

    def _replay(self, data: bytes) -> int:
        next_offset = 0
        for position, header in iter_headers(data):
            batch = memoryview(data)[position : position + header.size]
            records = codecs.records_section(batch, header)
            changes = [
                (record.key, record.value)
                for record in iter_records(records, header.record_count)
                if record.key is not None
            ]
            apply_changes(self.live, changes)
            next_offset = header.next_offset
        return next_offset

    async def append(self, changes: Sequence[Change]) -> Finish:
        """Make the changes, in one batch; awaiting the result waits until they are durable.

        Raises NotLeader, StorageFailed; the result raises OutcomeUnknown, StorageFailed.
        """
        batch = build(
            [
                Record(offset_delta=index, timestamp_delta=0, key=key, value=value, headers=())
                for index, (key, value) in enumerate(changes)
            ],
            base_timestamp=self._clock.now_ms(),
        )
        appended = await self.partition.append(batch, acks=ACKS_ALL)
        apply_changes(self.live, changes)

        async def finish() -> Reply:
            await self.partition.committed(
                appended.end_offset, acks=ACKS_ALL, timeout_s=COMMIT_TIMEOUT_S
            )
            await self._trim()
            return ()

        return finish

    async def _trim(self) -> None:
        """The open segment's header holds everything before it: give the older segments up."""
        bucket = self.partition.bucket
        if bucket is None or self._is_trimming:
            return
        base_offset = bucket.segment.base_offset
        if not self.partition.log_start_offset < base_offset < self.partition.high_watermark:
            return
        self._is_trimming = True
        try:
            await self._controller.delete_prefix(self.partition.topic.topic_id, base_offset)
        except RequestError as error:
            _log.warning(
                "old segments of a state log stay",
                topic=self.partition.topic.name,
                error=str(error),
            )
        finally:
            self._is_trimming = False
