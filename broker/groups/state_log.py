"""One shard of keyed state: loaded from its internal topic, changed by appending to it.

Changes that are put in one turn of the event loop go into one batch, and while a batch is on its
way the next one fills: a thousand commits a second cost a few appends. Who puts a batch's worth at
once, and finds nothing before it, needs no task for it (`put_now`). A failed append leaves the
memory ahead of the log, so it ends this object, and whoever needs the shard loads it anew. The same
happens when leadership moves: a shard belongs to one partition object.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import anyio
import anyio.to_thread
import structlog

from broker import codecs
from broker.controller.controller import LocalController
from broker.controller.partition import LocalPartition
from broker.errors import NotLeader, OffsetOutOfRange, RequestError, StorageFailed
from broker.gate import Gate
from broker.groups.keyed import Change, apply_changes, decode_snapshot, encode_snapshot
from broker.ports import ACKS_ALL, Buffer, Clock, Wake
from engine.batch import CorruptBatchError, checked_batches
from engine.records import build_pairs, iter_records

_log = structlog.get_logger(__name__)

COMMIT_TIMEOUT_S: Final = 30.0
"""How long a change may take to become durable before its outcome is called unknown."""

PACK_SIZE_MAX: Final = 512 * 1024
"""Bytes of changes in one batch; a larger set of changes is a batch of its own."""

_READ_SIZE: Final = 1024 * 1024

Durable = Callable[[], Awaitable[None]]
"""Await its result to wait until something is durable. Raises NotLeader, OutcomeUnknown,
StorageFailed and what `Partition.append` raises."""


class _Pack:
    """Changes that share a batch."""

    __slots__ = ("changes", "end_offset", "failure", "size", "written")

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.size = 0
        self.written = Gate()
        self.end_offset = -1
        self.failure: RequestError | None = None


class StateLog:
    """See the module's text. Make one with `load`, and `run` it in a task."""

    def __init__(
        self, controller: LocalController, partition: LocalPartition, clock: Clock
    ) -> None:
        self.partition = partition
        self.live: dict[bytes, bytes] = {}
        """The state as of everything that was appended."""
        self.failure: RequestError | None = None
        """Why nothing can be put any more."""
        self._controller = controller
        self._clock = clock
        self._packs: deque[_Pack] = deque()
        """Not appended yet; the last one still fills."""
        self._last = _Pack()
        self._last.written.set()
        self._put = anyio.Event()
        self.ended = anyio.Event()
        """Nothing more of this object will reach the log."""

    @classmethod
    async def load(
        cls, controller: LocalController, partition: LocalPartition, clock: Clock
    ) -> "StateLog":
        """Read the whole shard back: the snapshot of its first segment, then every change after it.

        Raises NotLeader, StorageFailed for what is damaged and no other node has whole, and
        ValueError for what this broker cannot read.
        """
        shard = cls(controller, partition, clock)
        await partition.drained()
        while not await shard._read_back():
            pass
        partition.keyed_snapshot = lambda: encode_snapshot(shard.live)
        return shard

    async def _read_back(self) -> bool:
        """False when segments were given up meanwhile: their changes are in the header of the one
        that is now the first."""
        start, header = await self.partition.first_header()
        offset = start
        self.live = {} if header is None else decode_snapshot(header.keyed)
        try:
            while offset < self.partition.high_watermark:
                offset = await self._read_on(offset)
        except OffsetOutOfRange:
            if self.partition.log_start_offset == start:
                raise
            return False
        return True

    async def _read_on(self, offset: int) -> int:
        """Take in some of what follows, and say where that ends. What is damaged here is read from
        another node's copy: it is the consumers of many groups who would wait."""
        try:
            data = await self.partition.read(offset, size_max=_READ_SIZE)
            if not data:
                raise StorageFailed(f"this node's copy ends at {offset}")
            return await anyio.to_thread.run_sync(partial(self._replay, data))
        except (CorruptBatchError, StorageFailed) as error:
            name = self.partition.topic.name
            _log.error("a state log is read from another node", topic=name, error=str(error))
        # Once more from `offset`: what was taken in already is taken in again, in the same order.
        data = await self._controller.read_elsewhere(self.partition, offset, size_max=_READ_SIZE)
        return await anyio.to_thread.run_sync(partial(self._replay, data))

    def _replay(self, data: Buffer) -> int:
        next_offset = 0
        for header, batch in checked_batches(data):
            records = codecs.records_section(batch, header)
            changes = [
                (record.key, record.value)
                for record in iter_records(records, header.record_count)
                if record.key is not None
            ]
            apply_changes(self.live, changes)
            next_offset = header.next_offset
        return next_offset

    # ---- changing it -----------------------------------------------------------------------------

    def put(self, changes: Sequence[Change]) -> Durable:
        """Append the changes, all or none, in the order of the calls. Raises what ended the log."""
        if self.failure is not None:
            raise self.failure
        size = sum(len(key) + len(value or b"") for key, value in changes)
        if not self._packs or self._last.size + size > PACK_SIZE_MAX:
            self._last = _Pack()
            self._packs.append(self._last)
            self._put.set()
        self._last.changes += changes
        self._last.size += size
        return partial(self._durable, self._last)

    def put_now(self, changes: Sequence[Change], wake: Wake, *, is_alone: bool) -> bool:
        """`put` as a batch of its own, without a task. False, and nothing has happened, if
        something had to be waited for or is wrong. `is_alone` as for
        `QuickPartition.append_now`."""
        if self.failure is not None or self._packs or not self._last.written.is_set():
            return False
        try:
            batch = build_pairs(changes, base_timestamp=self._clock.now_ms())
            appended = self.partition.append_now(
                batch, acks=ACKS_ALL, is_alone=is_alone, is_ours=True
            )
        except RequestError:
            return False  # `put` meets it again, and knows what to do.
        if appended is None:
            return False
        apply_changes(self.live, changes)
        self._last = pack = _Pack()
        pack.end_offset = appended.end_offset
        pack.written.set()
        if self._can_trim():
            self._put.set()
        self.partition.when_committed(
            appended.end_offset, wake, acks=ACKS_ALL, timeout_s=COMMIT_TIMEOUT_S
        )
        return True

    def settled(self) -> Durable:
        """For who has seen the state and wants to speak of it: all that was put is durable."""
        return partial(self._durable, self._last)

    def newest(self) -> Durable:
        """For who wants to speak of the state as of now: all that was put is durable, and nobody
        else had taken over."""
        return partial(self._confirmed, self._last)

    async def _confirmed(self, pack: _Pack) -> None:
        await self._durable(pack)
        await self.partition.confirmed()

    async def _durable(self, pack: _Pack) -> None:
        await pack.written.wait()
        if pack.failure is not None:
            raise pack.failure
        if pack.end_offset > self.partition.high_watermark:
            await self.partition.committed(
                pack.end_offset, acks=ACKS_ALL, timeout_s=COMMIT_TIMEOUT_S
            )

    def fail(self, failure: RequestError) -> None:
        """Put nothing any more; whoever waits for an append waits in vain."""
        if self.failure is None:
            self.failure = failure
        while self._packs:
            pack = self._packs.popleft()
            pack.failure = self.failure
            pack.written.set()
        self._put.set()

    async def run(self) -> None:
        """Append what is put, until the log fails. Ends quietly."""
        try:
            while self.failure is None:
                if self._packs:
                    await self._append(self._packs.popleft())
                else:
                    self._put = anyio.Event()
                    await self._put.wait()
                if self._can_trim():
                    await self._trim()
        finally:
            self.ended.set()

    async def _append(self, pack: _Pack) -> None:
        batch = build_pairs(pack.changes, base_timestamp=self._clock.now_ms())
        try:
            appended = await self.partition.append(batch, acks=ACKS_ALL)
        except RequestError as error:
            _log.warning(
                "a state log could not be written",
                topic=self.partition.topic.name,
                error=str(error),
            )
            pack.failure = error
            self.fail(error)
        else:
            apply_changes(self.live, pack.changes)
            pack.end_offset = appended.end_offset
        finally:
            if pack.end_offset < 0 and pack.failure is None:
                pack.failure = NotLeader("the node stops")
            pack.written.set()

    def _can_trim(self) -> bool:
        """The open segment's header holds everything before it."""
        bucket, start = self.partition.bucket, self.partition.log_start_offset
        return (
            bucket is not None
            and start < bucket.segment.base_offset < self.partition.high_watermark
        )

    async def _trim(self) -> None:
        """Give the older segments up."""
        bucket = self.partition.bucket
        assert bucket is not None
        try:
            await self._controller.delete_prefix(
                self.partition.topic.topic_id, bucket.segment.base_offset
            )
        except RequestError as error:
            _log.warning(
                "old segments of a state log stay",
                topic=self.partition.topic.name,
                error=str(error),
            )
