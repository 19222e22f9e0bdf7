"""Who is alive: heartbeats to the Raft leader, and the leases that its answers grant.

A node sends a heartbeat every 250 ms. An answer is a lease of one second, counted from when the
heartbeat was *sent*, on the node's own clock: only rates of clocks matter, never their settings. A
writer whose followers still acknowledge needs no lease, so losing the Raft leader stops no
producer; an isolated one has neither, and says NOT_LEADER at once instead of letting clients wait.

No safety depends on any of this: that is what promises are for.
"""

from collections.abc import Callable

import anyio
import structlog

from broker.controller.metadata import Metadata
from broker.ports import Clock
from broker.replication import messages
from broker.replication.peers import Peers, PeerUnreachable
from broker.replication.quorum import ack_quorum
from broker.replication.writer import Writer

_log = structlog.get_logger(__name__)

HEARTBEAT_S = 0.25
TIME_TO_LIVE_S = 1.0

LATE_S = 1.2 * HEARTBEAT_S
"""A node that has said nothing for so long is asked whether it is there at all."""


class Liveness:
    """One node's heartbeat. `leader` says which broker leads Raft now, None if that is unknown."""

    def __init__(
        self,
        *,
        node: int,
        metadata: Metadata,
        peers: Peers,
        clock: Clock,
        leader: Callable[[], int | None],
        on_fenced: Callable[[], None],
        on_removed: Callable[[], None],
    ) -> None:
        """`on_fenced` is called when the cluster has given this incarnation up, `on_removed` when
        it has taken the node out."""
        self._node = node
        self._metadata = metadata
        self._peers = peers
        self._clock = clock
        self._leader = leader
        self._on_fenced = on_fenced
        self._on_removed = on_removed
        self._incarnation = 0
        self._good_until = 0.0
        self.seen: dict[int, float] = {}
        """As Raft leader: when each node was last heard of, by its broker id."""

    def begin(self, incarnation: int) -> None:
        """This process is registered as `incarnation`."""
        self._incarnation = incarnation
        self._good_until = self._clock.monotonic() + TIME_TO_LIVE_S

    def is_in_touch(self) -> bool:
        """Has the Raft leader answered lately?"""
        return self._clock.monotonic() < self._good_until

    def is_lease_good(self, writer: Writer) -> bool:
        """May this writer still answer as the leader?"""
        if self.is_in_touch():
            return True
        now = self._clock.monotonic()
        recent = sum(now - heard < TIME_TO_LIVE_S for heard in writer.heard.values())
        return 1 + recent >= ack_quorum(len(writer.durable))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if self._incarnation:
                await self._beat()
            await anyio.sleep(HEARTBEAT_S)

    async def _beat(self) -> None:
        leader = self._leader()
        sent_at = self._clock.monotonic()
        if leader is None:
            return
        beat = messages.Heartbeat(self._node, self._incarnation)
        if leader == self._node:
            reply = self.answer(beat, is_leader=True)
        else:
            try:
                frame = await self._peers.call(
                    leader, messages.encode(beat), timeout_s=TIME_TO_LIVE_S
                )
                answer, _ = messages.decode_reply(frame)
            except (PeerUnreachable, ValueError) as error:
                _log.debug("no answer to a heartbeat", leader=leader, why=str(error))
                return
            if not isinstance(answer, messages.HeartbeatReply):
                return
            reply = answer
        if reply.granted:
            self._good_until = max(self._good_until, sent_at + TIME_TO_LIVE_S)
        elif reply.is_fenced:
            self._on_fenced()
        elif reply.is_removed:
            self._on_removed()

    def answer(self, beat: messages.Heartbeat, *, is_leader: bool) -> messages.HeartbeatReply:
        """To a node's heartbeat: as Raft leader, and as any other if it was taken out."""
        state = self._metadata.state
        broker = state.brokers.get(beat.node)
        if broker is None and 0 < beat.incarnation <= state.revision:
            return messages.HeartbeatReply(granted=False, is_fenced=False, is_removed=True)
        if not is_leader:
            return messages.HeartbeatReply(granted=False, is_fenced=False)
        if broker is None or broker.incarnation != beat.incarnation:
            return messages.HeartbeatReply(granted=False, is_fenced=False)
        if broker.fenced:
            return messages.HeartbeatReply(granted=False, is_fenced=True)
        self.seen[beat.node] = self._clock.monotonic()
        return messages.HeartbeatReply(granted=True, is_fenced=False)
