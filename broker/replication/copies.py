"""This node's copies of segments that are not sealed yet: the bytes, the promise, the window, the
tail.

Everybody who touches such a copy (the writer's bucket, a follower, a recoverer's question) goes
through the one `LocalCopy` there is of it, so a promise made to one shuts out the others in the
same step.
"""

from collections.abc import Callable, Sequence

import anyio

from broker.ports import Buffer
from broker.replication.replica import Definite, Refused, Replica, SealAnswer, Unknown
from broker.replication.store import Store
from broker.replication.tail import Tail
from engine.batch import BatchHeader
from engine.errors import PromiseRefused
from engine.format import SegmentEnd
from engine.log import TopicLog
from engine.producer_state import ProducerState
from engine.segment import Segment

Key = tuple[bytes, int]
"""Topic id and segment id."""


class LocalCopy:
    """One copy. `window` is the idempotence window as of the copy's end."""

    def __init__(
        self, log: TopicLog, segment: Segment, replica: Replica, window: ProducerState, store: Store
    ) -> None:
        self.log = log
        self.segment = segment
        self.replica = replica
        self.window = window
        self.tail = Tail(segment.end_offset)
        self.head: bytes | None = None
        """The segment's header object once it is known; the writer makes it, followers get it."""
        self.on_durable: Callable[[int], None] = _ignore
        self.on_failed: Callable[[OSError], None] = _ignore
        self._appended = anyio.Event()
        self._store = store
        segment.on_durable = self._durable
        segment.on_failed = self._failed

    def append(self, placed: BatchHeader, buffers: Sequence[Buffer]) -> None:
        """Take a batch that the replica accepts. Raises what `Segment.append` raises."""
        self.segment.append(placed, buffers)
        self.replica.appended(placed.next_offset)
        self.tail.push(placed.base_offset, placed.next_offset, buffers)
        self.window.update(placed)
        self._wake()

    def repair(self, header: BatchHeader, batch: Buffer) -> None:
        """Take a batch that belongs below a fixed end, whatever was promised meanwhile.

        Raises what `Segment.repair` raises.
        """
        self.segment.repair(header, [batch])
        self.replica.end_offset = header.next_offset
        self.window.update(header)

    async def appended(self) -> None:
        """Wait for the next append, or for the end of appending."""
        await self._appended.wait()

    def _wake(self) -> None:
        event, self._appended = self._appended, anyio.Event()
        event.set()

    async def answer_seal(self, seal_epoch: int) -> SealAnswer:
        """Promise, make it durable, say where this copy ends. Raises StorageFailed."""
        refused = self.replica.ask_promise(seal_epoch)
        self._wake()
        if refused is not None:
            return refused
        try:
            end = await self._store.promise(self.segment, seal_epoch)
        except PromiseRefused as refusal:
            return Refused(refusal.promised_epoch)
        return self.replica.promised(end)

    def sealed(self, end: SegmentEnd) -> None:
        """The segment's end is fixed and this copy matches it."""
        self.replica.sealed(end.end_offset)
        self._wake()

    def _durable(self, end_offset: int) -> None:
        self.on_durable(end_offset)

    def _failed(self, error: OSError) -> None:
        self._wake()
        self.on_failed(error)


class Copies:
    """The table of them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._copies: dict[Key, LocalCopy] = {}

    def get(self, topic_id: bytes, sid: int) -> LocalCopy | None:
        return self._copies.get((topic_id, sid))

    def open(
        self,
        log: TopicLog,
        topic_id: bytes,
        *,
        sid: int,
        base_offset: int,
        epoch: int,
        window: ProducerState,
        head: Callable[[], bytes],
    ) -> LocalCopy:
        """A copy of a segment that has just been opened; its files come with its first batch."""
        segment = log.open(sid, base_offset, epoch, head)
        return self.add(log, topic_id, segment, window, Replica(epoch=epoch, end_offset=base_offset))

    def add(
        self,
        log: TopicLog,
        topic_id: bytes,
        segment: Segment,
        window: ProducerState,
        replica: Replica,
    ) -> LocalCopy:
        copy = LocalCopy(log, segment, replica, window, self._store)
        self._copies[topic_id, segment.sid] = copy
        return copy

    def forget(self, topic_id: bytes, sid: int) -> None:
        """The segment is sealed, or gone."""
        self._copies.pop((topic_id, sid), None)

    def forget_topic(self, topic_id: bytes) -> None:
        for key in [key for key in self._copies if key[0] == topic_id]:
            del self._copies[key]


def _ignore(_: object) -> None:
    return


def describe(answer: SealAnswer) -> str:
    """For logs."""
    match answer:
        case Definite(end):
            return f"ends at {end.end_offset}"
        case Unknown(why):
            return f"cannot vouch: {why}"
        case Refused(promised_epoch):
            return f"promised epoch {promised_epoch} already"
