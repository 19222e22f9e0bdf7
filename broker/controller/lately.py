"""Which nodes lived until a moment ago.

They stay in the list of brokers for that moment. A librdkafka (2.16) that learns from one answer
that a partition has another leader and that there is no such broker any more as the old one takes
both in at the same time, forgets the new leader over it, and looks again a second later.
"""

from collections.abc import Callable

from raft.state import ClusterState

LATELY_S = 5.0
"""Until then clients that look for a new leader have found it. A client that is sent to a broker
that is gone is refused there, and asks another one."""


class Lately:
    """As one node knows. `on_change` is a metadata listener."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._fenced_at: dict[int, float] = {}

    def on_change(self, before: ClusterState, after: ClusterState) -> None:
        """Note who was fenced."""
        if before.brokers is after.brokers:
            return
        for node, broker in before.brokers.items():
            now = after.brokers.get(node)
            if now is not None and now.fenced and not broker.fenced:
                self._fenced_at[node] = self._monotonic()

    def nodes(self) -> frozenset[int]:
        """Those that were fenced, and may live again."""
        until = self._monotonic() - LATELY_S
        return frozenset(node for node, at in self._fenced_at.items() if at > until)
