"""Which silent nodes are gone: their own machines say so, by refusing connections to the peer port.

Silence may mean anything and is waited for. A refusal is the kernel's word that nothing listens
there, within a millisecond of a process's end. It is not quite a farewell: a firewall may refuse
for a node that lives. So it takes two, one look after the other, of a node that says nothing.
"""

from collections.abc import Collection

import anyio

from broker.replication import messages
from broker.replication.peers import PeerGone, Peers, PeerUnreachable

_QUESTION = messages.encode(messages.SeenAsk(0))
"""Any would do. On the connection that there is: a live node is not troubled with new ones."""


class Absence:
    """Of those that one node asks after."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._refusing: frozenset[int] = frozenset()

    async def look(self, silent: Collection[int], *, patience_s: float) -> frozenset[int]:
        """Those of the `silent` that refuse, and did at the last look. An answer is waited for no
        longer than `patience_s`."""
        refusing: set[int] = set()

        async def ask(node: int) -> None:
            try:
                await self._peers.call(node, _QUESTION, timeout_s=patience_s)
            except PeerGone:
                refusing.add(node)
            except PeerUnreachable:
                pass

        async with anyio.create_task_group() as tasks:
            for node in silent:
                tasks.start_soon(ask, node)
        before, self._refusing = self._refusing, frozenset(refusing)
        return self._refusing & before
