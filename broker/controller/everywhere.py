"""A change of topics is answered when every live node has seen it.

A client that creates a topic through one node and asks another one about it must find it there:
admin clients take UNKNOWN_TOPIC_OR_PARTITION for an answer and do not ask again.
"""

from collections.abc import Sequence

import anyio

from broker.controller.metadata import Metadata
from broker.controller.placement import live_nodes
from broker.ports import Buffer
from broker.replication import messages
from broker.replication.peers import Peers, PeerUnreachable

PATIENCE_S = 1.0
"""How long a change waits for a node that does not answer: about as long as that one counts as
alive."""


class Everywhere:
    """Both sides of the question."""

    def __init__(self, *, node: int, metadata: Metadata, peers: Peers) -> None:
        self._node = node
        self._metadata = metadata
        self._peers = peers

    async def seen(self) -> None:
        """Wait until all live nodes see at least what this one sees now, or PATIENCE_S is over."""
        state = self._metadata.state
        frame = messages.encode(messages.SeenAsk(state.revision))
        with anyio.move_on_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                for node in live_nodes(state):
                    if node != self._node:
                        tasks.start_soon(self._ask, node, frame)

    async def answers(self, node: int) -> bool:
        """Whether `node` can be reached, and sees at least what this one sees now, before
        PATIENCE_S is over."""
        frame = messages.encode(messages.SeenAsk(self._metadata.state.revision))
        return node == self._node or await self._ask(node, frame)

    async def _ask(self, node: int, frame: Sequence[Buffer]) -> bool:
        try:
            await self._peers.call(node, frame, timeout_s=PATIENCE_S)
        except PeerUnreachable:
            return False
        return True

    async def answer(self, ask: messages.SeenAsk) -> Sequence[Buffer]:
        """Once this node sees what was asked for. Raises PeerUnreachable if that takes too long."""
        with anyio.move_on_after(PATIENCE_S):
            while self._metadata.state.revision < ask.revision:
                await self._metadata.changed()
            return messages.encode(messages.SeenReply(self._metadata.state.revision))
        raise PeerUnreachable(f"revision {ask.revision} has not come here yet")
