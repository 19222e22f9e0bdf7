"""Bring a local copy up to a fixed end with bytes of another one.

Used for two ends that are fixed: the one a recoverer has chosen (under its promise), and the one
the metadata has committed (a follower that was slow, a node that was away, a lost copy). The bytes
are checked batch by batch on arrival and by the digest of the whole at the end.
"""

from collections.abc import Callable

from broker.errors import StorageFailed
from broker.replication import messages
from broker.replication.copies import LocalCopy
from broker.replication.peers import Peers, PeerUnreachable
from broker.replication.replica import Refused
from broker.replication.store import Store
from engine.batch import CorruptBatchError, checked_batches
from engine.errors import EngineError, QueueFullError
from engine.format import SegmentEnd

CHUNK_SIZE = 1024 * 1024
"""Bytes asked for at once."""

READ_TIMEOUT_S = 10.0


Ensure = Callable[[bytes, int], LocalCopy | None]


class CatchUp:
    """One node's copies, completed."""

    def __init__(self, *, ensure: Ensure, store: Store, peers: Peers) -> None:
        """`ensure` opens a copy of a segment that the metadata knows, if there is none yet."""
        self._ensure = ensure
        self._store = store
        self._peers = peers

    async def copy(self, ask: messages.CopyAsk) -> int:
        """What a recoverer asks for; the end offset that is durable here afterwards.

        Raises PeerUnreachable when it cannot be done now, StorageFailed when our disk refuses.
        """
        copy = self._ensure(ask.topic_id, ask.sid)
        if copy is None:
            raise PeerUnreachable("this node does not know the segment yet")
        answer = await copy.answer_seal(ask.seal_epoch)
        if isinstance(answer, Refused):
            raise PeerUnreachable(f"promised to epoch {answer.promised_epoch} already")
        end = SegmentEnd(ask.end_offset, ask.size, ask.digest, ask.max_timestamp)
        await self.pull(copy, ask.topic_id, source=ask.source, end=end, seal_epoch=ask.seal_epoch)
        answer = await copy.answer_seal(ask.seal_epoch)
        if isinstance(answer, Refused):
            raise PeerUnreachable(f"promised to epoch {answer.promised_epoch} meanwhile")
        return copy.segment.durable_offset

    async def pull(
        self,
        copy: LocalCopy,
        topic_id: bytes,
        *,
        source: int,
        end: SegmentEnd,
        seal_epoch: int | None = None,
    ) -> None:
        """Append what is missing below `end`. Raises as `copy` does.

        An `end` that is only chosen holds for its attempt, `seal_epoch`: when the copy promises to
        a later one, nothing more is appended, for what it then answers must not grow.
        """
        segment = copy.segment
        while segment.end_offset < end.end_offset:
            ask = messages.ReadAsk(
                topic_id, segment.sid, segment.end_offset, CHUNK_SIZE, end.end_offset
            )
            reply, batches = await self._ask(source, ask)
            if not isinstance(reply, messages.ReadReply) or reply.why or not batches:
                raise PeerUnreachable(f"node {source} sent no batches: {reply}")
            if seal_epoch not in (None, copy.replica.promised_epoch):
                raise PeerUnreachable(f"promised to epoch {copy.replica.promised_epoch} meanwhile")
            if segment.end_offset == segment.base_offset:
                copy.received_head(reply.head)
            try:
                self._append(copy, bytes(batches))
            except QueueFullError:
                await copy.room()  # and ask for the rest again

    async def _ask(
        self, source: int, ask: messages.ReadAsk
    ) -> tuple[messages.CallReply, memoryview]:
        frame = await self._peers.call(source, messages.encode(ask), timeout_s=READ_TIMEOUT_S)
        try:
            return messages.decode_reply(frame)
        except ValueError as error:
            raise PeerUnreachable(f"node {source} speaks another language: {error}") from error

    def _append(self, copy: LocalCopy, batches: bytes) -> None:
        try:
            for header, batch in checked_batches(batches):
                if header.leader_epoch != copy.segment.epoch:
                    raise CorruptBatchError(f"leader epoch {header.leader_epoch}")
                if header.base_offset == copy.segment.end_offset:
                    copy.repair(header, batch)
                elif header.next_offset > copy.segment.end_offset:
                    raise CorruptBatchError(f"base offset {header.base_offset} leaves a gap")
        except CorruptBatchError as error:
            raise PeerUnreachable(f"what was sent is no part of this segment: {error}") from error
        except QueueFullError:
            raise
        except EngineError as error:
            raise StorageFailed(
                f"segment {copy.segment.sid} cannot be repaired: {error}"
            ) from error
