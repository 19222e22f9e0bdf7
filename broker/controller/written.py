"""How far each topic's followers are: only its writer knows, so every writer is asked."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import anyio

from broker.controller.metadata import Metadata
from broker.controller.partition import LocalPartition
from broker.controller.placement import live_nodes
from broker.ports import Buffer
from broker.replication import messages
from broker.replication.messages import Written
from broker.replication.peers import Peers, PeerUnreachable
from broker.replication.writer import Writer

PATIENCE_S = 0.5
"""For a node that does not answer: what it writes is then not known."""


class WrittenEverywhere:
    """Both sides of the question."""

    def __init__(
        self,
        *,
        node: int,
        metadata: Metadata,
        peers: Peers,
        led_partitions: Callable[[], Iterable[LocalPartition]],
    ) -> None:
        self._node = node
        self._metadata = metadata
        self._peers = peers
        self._led_partitions = led_partitions

    async def of_all(self) -> Mapping[bytes, Written]:
        """By topic id, of all topics whose writer answers before PATIENCE_S is over."""
        found = {written.topic_id: written for written in self._own()}

        async def ask(node: int) -> None:
            question = messages.encode(messages.WrittenAsk())
            try:
                frame = await self._peers.call(node, question, timeout_s=PATIENCE_S)
                reply, _ = messages.decode_reply(frame)
            except (PeerUnreachable, ValueError):
                return
            if isinstance(reply, messages.WrittenReply):
                found.update((written.topic_id, written) for written in reply.topics)

        async with anyio.create_task_group() as tasks:
            for node in live_nodes(self._metadata.state):
                if node != self._node:
                    tasks.start_soon(ask, node)
        return found

    def answer(self) -> Sequence[Buffer]:
        """What this node writes."""
        return messages.encode(messages.WrittenReply(self._own()))

    def _own(self) -> list[Written]:
        return [
            written_by(partition.bucket.writer, partition.metadata.topic_id)
            for partition in self._led_partitions()
            if partition.bucket is not None
        ]


def written_by(writer: Writer, topic_id: bytes) -> Written:
    """What a writer knows of its segment's copies."""
    lag = {
        node: writer.next_offset - end
        for node, end in sorted(writer.durable.items())
        if node != writer.node
    }
    return Written(topic_id, writer.high_watermark, lag)
