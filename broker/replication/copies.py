"""This node's copies of segments that are not sealed yet: the bytes, the promise, the window, the
tail.

Everybody who touches such a copy (the writer's bucket, a follower, a recoverer's question) goes
through the one `LocalCopy` there is of it, so a promise made to one shuts out the others in the
same step.
"""

from collections.abc import Callable, Sequence
from functools import partial

from broker.bell import Bell
from broker.ports import Buffer
from broker.replication import header as segment_header
from broker.replication.peers import PeerUnreachable
from broker.replication.replica import Definite, Refused, Replica, SealAnswer, Unknown
from broker.replication.store import Store
from broker.replication.tail import Tail, Tails
from engine.batch import BatchHeader, Offset, Placed
from engine.errors import PromiseRefused, SnapshotError
from engine.log import TopicLog
from engine.producer_state import ProducerState
from engine.segment import Segment

Key = tuple[bytes, int]
"""Topic id and segment id."""


class LocalCopy:
    """One copy. Made by `Copies`."""

    def __init__(
        self,
        log: TopicLog,
        segment: Segment,
        replica: Replica,
        window: ProducerState | None,
        store: Store,
        tails: Tails,
        report_failure: Callable[[OSError], None],
    ) -> None:
        self.log = log
        self.segment = segment
        self.replica = replica
        self.window = window
        """The idempotence window as of the copy's end; None while it is not known here."""
        self.tail = Tail(segment.end_offset, tails)
        self.head = b""
        """The segment's header object, once a first batch has come; see `replication/header.py`."""
        self.make_head: Callable[[], bytes] = lambda: self.head
        """The writer's: asked when the first batch comes. Followers receive theirs."""
        self.on_durable: Callable[[int], None] = _ignore
        self.on_failed: Callable[[OSError], None] = _ignore
        """The writer's: the disk has refused, and this copy takes nothing more."""
        self._report_failure = report_failure
        self._appended, self._became_durable = Bell(), Bell()
        self._store = store
        segment.on_durable = self._durable
        segment.on_failed = self._failed

    def first_head(self) -> bytes:
        """For the engine, when the first batch (or a promise) makes the segment's files."""
        self.head = self.make_head()
        return self.head

    def received_head(self, head: bytes) -> None:
        """The writer's header object, before the first batch. Later ones change nothing. Raises
        PeerUnreachable for one that cannot be read here: a damaged one, or of a newer version."""
        if self.segment.end_offset == self.segment.base_offset and head:
            try:
                window = ProducerState.restore(segment_header.decode(head).producers)
            except (ValueError, SnapshotError) as error:
                raise PeerUnreachable(f"a segment header that is none: {error}") from error
            self.head, self.window = head, window

    def append(self, batches: Sequence[Placed]) -> Offset:
        """Take batches, of which the replica accepts the first, and so all; the new end offset.
        Raises what `Segment.append` raises."""
        end_offset = self.segment.append(batches)
        self.replica.appended(end_offset)
        self.tail.push(batches, end_offset)
        if self.window is not None:
            for placed, _ in batches:
                if placed.producer_id >= 0:
                    self.window.update(placed)
        self._appended.ring()
        return end_offset

    def repair(self, placed: BatchHeader, batch: Buffer) -> None:
        """Take a batch that belongs below a fixed end. The writer hears no more of this copy.

        Raises what `Segment.repair` raises.
        """
        self.on_durable = _ignore
        self.segment.repair([(placed, [batch])])
        self.replica.end_offset = placed.next_offset
        if self.window is not None:
            self.window.update(placed)

    async def room(self) -> None:
        """Wait until the disk has caught up, after a QueueFullError."""
        await self._store.room()

    async def appended(self) -> None:
        """Wait for the next append, or for the end of appending."""
        await self._appended.wait()

    async def became_durable(self) -> None:
        """Wait until more of it can be read from its file, or for the end of appending."""
        await self._became_durable.wait()

    def wake(self) -> None:
        """Those who wait in `appended` or `became_durable` look again."""
        self._appended.ring()
        self._became_durable.ring()

    async def answer_seal(self, seal_epoch: int) -> SealAnswer:
        """Promise, make it durable, say where this copy ends. Raises StorageFailed."""
        refused = self.replica.ask_promise(seal_epoch)
        self.wake()
        if refused is not None:
            return refused
        try:
            end = await self._store.promise(self.segment, seal_epoch)
        except PromiseRefused as refusal:
            return Refused(refusal.promised_epoch)
        return self.replica.promised(end)

    def sealed(self, end_offset: int) -> None:
        """The segment's end is fixed and this copy matches it."""
        self.replica.sealed(end_offset)
        self.wake()

    def _durable(self, end_offset: int) -> None:
        self._became_durable.ring()
        self.on_durable(end_offset)

    def _failed(self, error: OSError) -> None:
        self.wake()
        self.on_failed(error)
        self._report_failure(error)


class Copies:
    """The table of them. `on_failed` hears of a disk that has refused, whoever wrote the copy: a
    copy that has failed takes nothing more; it can only be read back."""

    def __init__(self, store: Store, *, on_failed: Callable[[Key, OSError], None]) -> None:
        self._store = store
        self._on_failed = on_failed
        self._copies: dict[Key, LocalCopy] = {}
        self._tails = Tails()

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
        window: ProducerState | None,
    ) -> LocalCopy:
        """A copy of a segment that holds nothing here yet; its files come with its first batch."""
        copy: LocalCopy
        segment = log.open(sid, base_offset, epoch, lambda: copy.first_head())
        replica = Replica(epoch=epoch, end_offset=base_offset)
        copy = self.add(log, topic_id, segment, window, replica)
        return copy

    def add(
        self,
        log: TopicLog,
        topic_id: bytes,
        segment: Segment,
        window: ProducerState | None,
        replica: Replica,
    ) -> LocalCopy:
        """A copy that was read back."""
        key = (topic_id, segment.sid)
        failed = partial(self._on_failed, key)
        copy = LocalCopy(log, segment, replica, window, self._store, self._tails, failed)
        self._copies[key] = copy
        return copy

    def forget(self, topic_id: bytes, sid: int) -> None:
        """The segment is sealed here, or its files are gone."""
        copy = self._copies.pop((topic_id, sid), None)
        if copy is not None:
            copy.wake()

    def forget_topic(self, topic_id: bytes) -> None:
        """The topic was deleted."""
        for key in [key for key in self._copies if key[0] == topic_id]:
            self.forget(*key)


def _ignore(_: object) -> None:
    return


def describe(answer: SealAnswer) -> str:
    """For logs."""
    match answer:
        case Definite(end):
            return f"ends at {end.end_offset}"
        case Unknown(why=why):
            return f"cannot vouch: {why}"
        case Refused(promised_epoch):
            return f"promised epoch {promised_epoch} already"
