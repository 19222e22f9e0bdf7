"""The network of a node that has no other."""

from collections.abc import Sequence

from broker.ports import Buffer
from broker.replication.peers import Conversation, PeerUnreachable


class NoPeers:
    """`Peers` that reach nobody."""

    async def call(self, node: int, frame: Sequence[Buffer], *, timeout_s: float) -> memoryview:
        raise PeerUnreachable(f"there is no node {node}")

    async def converse(self, node: int) -> Conversation:
        raise PeerUnreachable(f"there is no node {node}")
