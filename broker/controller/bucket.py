"""The fenced face of the engine: one open segment, its writer, and this node's copy of it.

Nothing reaches the disk except through `append`, and `append` asks, in this order and without a gap
between the questions and the write: does the lease still name this segment, does the writer admit
the batch, does the local replica accept it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import anyio

from broker.bell import Bell
from broker.controller.gathered import Gathered, tell
from broker.errors import BrokerError, NotLeader, OutOfTouch, StorageFailed
from broker.ports import Appended, Buffer, Wake
from broker.replication import header as segment_header
from broker.replication.barrier import ReadBarrier
from broker.replication.copies import LocalCopy
from broker.replication.writer import Writer, WriterPhase
from engine.batch import (
    HEADER_SIZE,
    BatchHeader,
    Offset,
    Placed,
    parse_header,
    patch,
    stamp_append_time,
)
from engine.errors import QueueFullError, SegmentClosedError
from raft.leases import Lease

FOLLOWERS_PATIENCE_S = 3.0
"""How long an append with acks=all waits for followers before it is refused: as long as a follower
needs to find a new writer."""


_appended = partial(tuple.__new__, Appended)
"""From all five fields, at every append."""


class WhenCommitted(Protocol):
    """`ports.QuickPartition.when_committed`."""

    def __call__(self, end_offset: int, wake: Wake, *, acks: int, timeout_s: float) -> None: ...


class DiskBusy(BrokerError):
    """Too many bytes wait for the disk; wait for room in the store and try again."""


class Bucket:
    """One open segment that this process may write. `on_committed(high_watermark)` and
    `on_local(end_offset)` are called, from the event loop, when those marks move; `on_failed` once,
    when the disk has refused while this was the segment to write."""

    def __init__(
        self,
        *,
        lease: Lease,
        writer: Writer,
        copy: LocalCopy,
        barrier: ReadBarrier,
        is_lease_good: Callable[[Writer], bool],
        keyed_snapshot: Callable[[], bytes],
        on_committed: Callable[[int], None],
        on_local: Callable[[int], None],
        on_failed: Callable[[OSError], None],
        when_committed: WhenCommitted,
    ) -> None:
        self.lease: Lease | None = lease
        self.sid = lease.sid
        self.writer = writer
        self.copy = copy
        self.barrier = barrier
        self.segment = copy.segment
        self._is_lease_good = is_lease_good
        self._keyed_snapshot = keyed_snapshot
        self._on_committed = on_committed
        self._on_local = on_local
        self._on_failed = on_failed
        self._when_committed = when_committed
        self.gathered: Gathered | None = None
        """What came in this turn and is appended before anything else is."""
        self._told = writer.high_watermark
        self._progressed = Bell()
        self.first_append_ms = -1
        self.last_append_ms = -1
        """Wall time of the first and the last append; -1 while there was none."""
        copy.make_head = self._make_head
        copy.on_durable = self._durable
        copy.on_failed = self._failed

    def _make_head(self) -> bytes:
        """The state as of the segment's base offset: asked before the first batch counts."""
        return segment_header.encode(
            producers=self.writer.window.snapshot(), keyed=self._keyed_snapshot()
        )

    @property
    def is_writable(self) -> bool:
        """Whether a batch that comes now is taken, as far as it is not for the batch to say."""
        lease, writer = self.lease, self.writer
        return (
            lease is not None
            and writer.phase is WriterPhase.OPEN
            and self._is_lease_good(writer)
            and self.copy.replica.accepts(epoch=lease.epoch, base_offset=writer.next_offset)
        )

    def append(
        self,
        header: BatchHeader,
        batch: Buffer,
        *,
        acks: int,
        now_ms: int,
        is_stamped: bool,
        log_start_offset: int,
    ) -> Appended:
        """Give a checked batch its offsets and queue it. `is_stamped`: its records get `now_ms` as
        their time (LogAppendTime).

        Raises NotLeader, OutOfTouch, StorageFailed, DiskBusy and what `Writer.admit` raises; then
        nothing was appended.
        """
        if self.gathered is not None and (error := self.append_gathered()) is not None:
            raise error  # It could overtake another one of the same producer.
        epoch, writer = self._epoch(), self.writer
        append_time_ms = now_ms if is_stamped else -1
        duplicate = writer.admit(header, acks=acks)
        if duplicate is not None:
            return Appended(
                duplicate.base_offset,
                duplicate.end_offset,
                append_time_ms,
                log_start_offset,
                is_duplicate=True,
            )
        base_offset = writer.next_offset
        placed, buffers = _place(header, batch, base_offset, epoch, append_time_ms)
        end_offset = self._append(((placed, buffers),), epoch, now_ms)
        return _appended((base_offset, end_offset, append_time_ms, log_start_offset, False))

    def append_gathered(self) -> Exception | None:
        """Append what was gathered, if anything. Whoever brought it hears what becomes of it; the
        error with which all of it was refused is returned as well."""
        gathered, self.gathered = self.gathered, None
        if gathered is None:
            return None
        try:
            end_offset = self._append_all(gathered)
        except Exception as error:  # noqa: BLE001  Whatever it is, it costs these requests alone.
            gathered.refuse(error)
            return error
        for (acks, timeout_s), produced in gathered.waiting.items():
            told = partial(tell, produced)
            self._when_committed(end_offset, told, acks=acks, timeout_s=timeout_s)
        return None

    def _append_all(self, gathered: Gathered) -> int:
        epoch, log_start_offset = self._epoch(), gathered.log_start_offset
        base_offset = self.writer.next_offset
        batches: list[Placed] = []
        for header, batch, produced in gathered.batches:
            patch(batch, base_offset=base_offset, leader_epoch=epoch)
            batches.append((header.placed(base_offset, epoch), (batch,)))
            end_offset = base_offset + header.last_offset_delta + 1
            produced.appended = _appended((base_offset, end_offset, -1, log_start_offset, False))
            base_offset = end_offset
        try:
            return self._append(batches, epoch, gathered.now_ms)
        except DiskBusy as error:
            raise StorageFailed(str(error)) from error  # Nobody is there to wait.

    def _epoch(self) -> int:
        """That of the lease, if it is good."""
        if self.lease is None:
            raise NotLeader("the lease on this segment is over")
        if not self._is_lease_good(self.writer):
            raise OutOfTouch("this node hears from no majority of the cluster")
        return self.lease.epoch

    def _append(self, batches: Sequence[Placed], epoch: int, now_ms: int) -> int:
        """The new end offset."""
        writer = self.writer
        base_offset = writer.next_offset
        if not self.copy.replica.accepts(epoch=epoch, base_offset=base_offset):
            raise NotLeader("this copy of the segment has promised not to accept more")
        try:
            end_offset = self.copy.append(batches)
        except SegmentClosedError as error:
            raise StorageFailed(f"segment {self.sid} takes no more: {error}") from error
        except QueueFullError as error:
            raise DiskBusy(str(error)) from error
        writer.accept(base_offset, end_offset)
        if now_ms > self.last_append_ms:
            self.last_append_ms = now_ms
        if self.first_append_ms < 0:
            self.first_append_ms = now_ms
        return end_offset

    def park(self) -> None:
        """A roll begins: what came before it goes into this segment."""
        self.append_gathered()
        self.writer.park()

    def revoke(self) -> None:
        """The lease is over: polite and quick; safety rests on the promise and the
        compare-and-set."""
        self.lease = None
        self.writer.close()
        self.barrier.end()
        self._progressed.ring()

    def _durable(self, end_offset: int) -> None:
        self.writer.on_durable(self.writer.node, end_offset)
        self._on_local(end_offset)
        self.progress()

    async def followers_come(self) -> bool:
        """Wait until enough replicas are live for acks=all, or this is no longer the segment to
        write. False if that takes too long.

        A segment that has just been opened has no live followers for a moment; clients should not
        see that.
        """
        if not self.writer.may_have_quorum:
            return False
        with anyio.move_on_after(FOLLOWERS_PATIENCE_S):
            while not self.writer.has_quorum and self.lease is not None:
                await self._progressed.wait()
            return True
        return False

    def progress(self) -> None:
        """A follower has come, gone, or acknowledged something: wake those who wait for it."""
        self._progressed.ring()
        high_watermark = self.writer.high_watermark
        if high_watermark > self._told:
            self._told = high_watermark
            self.segment.note_acked(high_watermark)
            self._on_committed(high_watermark)

    def _failed(self, error: OSError) -> None:
        if self.lease is None:
            return  # Its successor is written by now, and does not care whether this can be sealed.
        self.revoke()
        self._on_failed(error)


def _place(
    header: BatchHeader, batch: Buffer, base_offset: int, epoch: int, append_time_ms: int
) -> tuple[BatchHeader, Sequence[Buffer]]:
    """Write offsets and epoch into the header; both lie outside the CRC, so the records are not
    touched. Into a buffer that can be written, which is ours, they go where they are; of others the
    header is copied.

    LogAppendTime changes bytes under the CRC and therefore needs the batch in a buffer of its own.
    """
    if append_time_ms >= 0:
        whole = bytearray(batch)
        patch(whole, base_offset=Offset(base_offset), leader_epoch=epoch)
        stamp_append_time(whole, append_time_ms)
        return parse_header(whole), (whole,)
    placed = header.placed(base_offset, epoch)
    if not isinstance(batch, bytes) and not (isinstance(batch, memoryview) and batch.readonly):
        patch(batch, base_offset=base_offset, leader_epoch=epoch)
        return placed, (batch,)
    head = bytearray(memoryview(batch)[:HEADER_SIZE])
    patch(head, base_offset=Offset(base_offset), leader_epoch=epoch)
    return placed, (head, memoryview(batch)[HEADER_SIZE:])
