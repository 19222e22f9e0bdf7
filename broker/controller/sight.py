"""Who is alive, as far as this node can tell.

The metadata says so as long as a majority can change it. Without one it stands still, and would go
on calling everybody alive who was so at that moment; then a node goes by its own connections. That
is for people and for `isr`, not for decisions: where there is no majority, nothing is decided.
"""

import msgspec

from broker.controller.metadata import Metadata
from raft.state import ClusterState

_replace = msgspec.structs.replace


class Sight:
    """Of one node."""

    def __init__(self, *, node: int, metadata: Metadata) -> None:
        self._node = node
        self._metadata = metadata
        self._alone: tuple[ClusterState, tuple[int, ...]] = (metadata.state, ())
        self._seen_alone = metadata.state

    @property
    def state(self) -> ClusterState:
        """The metadata; without a majority, with everybody fenced whom this node does not reach."""
        state = self._metadata.state
        if self._metadata.reaches_majority:
            return state
        connected = self._metadata.connected
        unreached = tuple(
            node
            for node, broker in sorted(state.brokers.items())
            if node != self._node and broker.disk.hex() not in connected
        )
        if self._alone[0] is not state or self._alone[1] != unreached:
            self._alone = state, unreached
            self._seen_alone = _without(state, unreached)
        return self._seen_alone


def _without(state: ClusterState, unreached: tuple[int, ...]) -> ClusterState:
    brokers = state.brokers
    for node in unreached:
        brokers = brokers.set(node, _replace(brokers[node], fenced=True))
    return _replace(state, brokers=brokers)
