"""Reads of segments that this node does not hold, from one that does."""

from broker.errors import StorageFailed
from broker.replication import messages
from broker.replication.peers import Peers, PeerUnreachable

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
        """Whole batches as `Segment.read` gives them, from the first holder that answers.

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
            except (PeerUnreachable, ValueError) as error:
                failure = str(error)
                continue
            if isinstance(reply, messages.ReadReply) and not reply.why and batches:
                return reply.head, bytes(batches)
            failure = f"node {node} answered {reply}"
        raise StorageFailed(f"segment {ask.sid} cannot be read at offset {ask.offset}: {failure}")
