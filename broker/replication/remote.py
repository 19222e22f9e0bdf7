"""Reads of segments that this node does not hold, from one that does."""

import structlog

from broker.errors import StorageFailed
from broker.replication import messages
from broker.replication.peers import Peers, PeerUnreachable
from engine.batch import Buffer, CorruptBatchError, checked_batches

_log = structlog.get_logger(__name__)

READ_TIMEOUT_S = 5.0


class RemoteReader:
    """One node's questions to other holders."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def read(
        self,
        holders: tuple[int, ...],
        topic_id: bytes,
        sid: int,
        offset: int,
        *,
        size_max: int,
        end_offset: int,
    ) -> bytes:
        """Whole batches as `Segment.read` gives them, from the first holder whose copy is good.

        Raises StorageFailed when none does.
        """
        ask = messages.ReadAsk(topic_id, sid, offset, size_max, end_offset)
        _, batches = await self._ask(holders, ask)
        return batches

    async def head(
        self, holders: tuple[int, ...], topic_id: bytes, sid: int, base_offset: int, end_offset: int
    ) -> bytes:
        """The header object of a segment that is not empty; b"" if it has none. Raises as `read`
        does."""
        ask = messages.ReadAsk(topic_id, sid, base_offset, 1, end_offset)
        head, _ = await self._ask(holders, ask)
        return head

    async def _ask(self, holders: tuple[int, ...], ask: messages.ReadAsk) -> tuple[bytes, bytes]:
        failure = "no holder is known"
        for node in holders:
            try:
                frame = await self._peers.call(node, messages.encode(ask), timeout_s=READ_TIMEOUT_S)
                reply, batches = messages.decode_reply(frame)
                _check(batches, ask.offset)
            except (PeerUnreachable, ValueError) as error:
                failure = str(error)
                continue
            except CorruptBatchError as error:
                failure = f"the copy of node {node} is damaged: {error}"
                _log.error("a copy is damaged", node=node, sid=ask.sid, error=str(error))
                continue
            if isinstance(reply, messages.ReadReply) and not reply.why and batches:
                return reply.head, bytes(batches)
            failure = f"node {node} answered {reply}"
        raise StorageFailed(f"segment {ask.sid} cannot be read at offset {ask.offset}: {failure}")


def _check(batches: Buffer, offset: int) -> None:
    """What a node trusts of its own disk it does not trust of another one: are these good batches,
    one after the other, the first with `offset` in it? Raises CorruptBatchError."""
    for header, _ in checked_batches(batches):
        if not header.base_offset <= offset < header.next_offset:
            raise CorruptBatchError(f"base offset {header.base_offset} where {offset} is wanted")
        offset = header.next_offset
