"""How batches get into the open segment of a topic: with a task, at once, or at the turn's end.

The second and the third are ways beside the first, for the batches that come by the thousand: what
would have to wait, or is unusual, is left to it.
"""

from math import inf

import anyio

from broker.controller.bucket import Bucket, DiskBusy
from broker.controller.checks import accepted, checked, checked_own
from broker.controller.gathered import Gathered
from broker.controller.topic_config import TopicConfig
from broker.errors import LeaderMoved, NotEnoughReplicas, NotLeader, OutOfTouch, StorageFailed
from broker.ports import ACKS_ALL, Appended, Buffer, Clock, Produced, TopicView
from broker.replication.store import Store
from broker.replication.writer import WriterPhase

PARKED_S = 8.0
"""How long an append waits for a rollover to be over: longer than one takes whose followers are
slow. Beyond that there is no majority to decide it, and its client is to know."""


class Appends:
    """The part of a `LocalPartition` that writes. See `ports.QuickPartition` for what the methods
    promise."""

    _view: TopicView
    config: TopicConfig
    """As the metadata has them."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.bucket: Bucket | None = None
        self._store = store
        self._clock = clock
        self._unparked = anyio.Event()
        self._failure: StorageFailed | None = None
        """The disk has refused while this was the segment to write."""

    def unpark(self) -> None:
        """Wake the appends that a roll has parked."""
        event, self._unparked = self._unparked, anyio.Event()
        event.set()

    async def append(self, batch: Buffer, *, acks: int) -> Appended:
        if self._store.space.is_short:
            raise StorageFailed("the disk is nearly full: no more records until there is room")
        config = self.config
        now_ms = self._clock.now_ms()
        header = checked(batch, config, now_ms=now_ms, is_internal_append=self._view.is_internal)
        has_waited = False
        while True:
            bucket = await self._open_bucket(has_waited=has_waited)
            try:
                return bucket.append(
                    header,
                    batch,
                    acks=acks,
                    now_ms=now_ms,
                    is_stamped=config.is_log_append_time,
                    log_start_offset=self._view.log_start_offset,
                )
            except DiskBusy:
                await self._store.room()
            except NotEnoughReplicas:
                if not await bucket.followers_come():
                    raise
                has_waited = True

    async def _open_bucket(self, *, has_waited: bool = False) -> Bucket:
        until = inf
        while True:
            if self._failure is not None:
                raise self._failure
            bucket = self.bucket
            if bucket is None:
                refusal = LeaderMoved if has_waited else NotLeader
                raise refusal(f"this node does not lead {self._view.name}")
            if bucket.writer.phase is not WriterPhase.PARKED:
                return bucket
            until = min(until, anyio.current_time() + PARKED_S)
            with anyio.move_on_at(until) as patience:
                await self._unparked.wait()
            if patience.cancelled_caught:
                raise OutOfTouch(f"a rollover of {self._view.name} waits for a majority")
            has_waited = True

    def append_now(
        self,
        batch: bytearray | memoryview,
        *,
        acks: int,
        is_alone: bool = False,
        is_ours: bool = False,
    ) -> Appended | None:
        bucket, store = self.bucket, self._store
        if (
            bucket is None
            or bucket.writer.phase is not WriterPhase.OPEN
            or self._failure is not None
            or store.space.is_short
        ):
            return None
        config, view = self.config, self._view
        now_ms = self._clock.now_ms()
        header = None
        if is_ours:
            header = checked_own(batch, config, is_internal_append=view.is_internal)
        elif not view.is_internal:
            header = accepted(batch, config, now_ms=now_ms)
        if header is None:
            header = checked(batch, config, now_ms=now_ms, is_internal_append=view.is_internal)
        store.flushes_soon = not is_alone
        try:
            return bucket.append(
                header,
                batch,
                acks=acks,
                now_ms=now_ms,
                is_stamped=config.is_log_append_time,
                log_start_offset=view.log_start_offset,
            )
        except (DiskBusy, NotEnoughReplicas):
            return None
        finally:
            if is_alone:
                store.flush()

    def append_soon(
        self,
        batch: bytearray | memoryview,
        produced: Produced,
        *,
        acks: int,
        timeout_s: float,
    ) -> bool:
        bucket, store, config = self.bucket, self._store, self.config
        if bucket is None or config.is_log_append_time or self._view.is_internal:
            return False
        gathered = bucket.gathered
        if gathered is None:
            if self._failure is not None or store.space.is_short or not bucket.is_writable:
                return False
            gathered = self._gather()
        header = accepted(batch, config, now_ms=gathered.now_ms)
        if header is None or (acks == ACKS_ALL and not bucket.writer.has_quorum):
            return False
        if header.producer_id >= 0:
            if header.producer_id in gathered.producer_ids:
                if bucket.append_gathered() is not None:
                    return False
                gathered = self._gather()
            if not bucket.writer.is_next(header):
                return False
        if not store.gathers(len(batch)):
            return False
        gathered.add(header, batch, produced, (acks, timeout_s))
        if bucket.gathered is None:
            bucket.gathered = gathered
            store.before_flush(bucket.append_gathered)
        return True

    def _gather(self) -> Gathered:
        return Gathered(now_ms=self._clock.now_ms(), log_start_offset=self._view.log_start_offset)
