"""Nodes that leave the cluster for good.

An operator marks a node as leaving; from then on `placement` gives it nothing more, its open
segments roll onto others, and what only it holds is copied. This is the end of it: whoever leads
Raft takes a node out when nothing needs it any more, its vote first. A node that was taken out
hears of it from any other one, and stops.
"""

from collections.abc import Callable

import anyio
import structlog

from broker.controller.metadata import Metadata
from broker.errors import InvalidRequest, MetadataUnavailable, RequestError
from broker.replication import messages
from broker.replication.peers import Peers, PeerUnreachable
from raft.commands import Barrier, MarkLeaving, RemoveBroker
from raft.leaving import remaining
from raft.state import Broker, ClusterState, Refusal

_log = structlog.get_logger(__name__)

CHECK_S = 1.0
"""How often is looked whether somebody can be taken out."""

ASK_TIMEOUT_S = 1.0

_WORDS = {
    Refusal.UNKNOWN_BROKER: "the cluster has no such node",
    Refusal.LAST_BROKER: "no other node would stay",
}


class Departures:
    """One node's part in it. `leader` is the broker id of whoever leads Raft now."""

    def __init__(
        self,
        *,
        node: int,
        metadata: Metadata,
        peers: Peers,
        leader: Callable[[], int | None],
        on_removed: Callable[[], None],
    ) -> None:
        self._node = node
        self._metadata = metadata
        self._peers = peers
        self._leader = leader
        self._on_removed = on_removed

    async def mark(self, node: int, *, leaving: bool) -> None:
        """Begin to take `node` out, or let it stay after all. Raises InvalidRequest,
        MetadataUnavailable."""
        broker = self._metadata.state.brokers.get(node)
        is_member = broker is not None and broker.disk.hex() in self._metadata.members
        if not leaving and broker is not None and broker.leaving and not is_member:
            raise InvalidRequest(
                f"node {node}: it is out of the metadata already, and hears of nothing any more; it"
                " can only come back as a new one, with an empty --data-dir and --join"
            )
        applied = await self._metadata.propose(MarkLeaving(node, leaving))
        if applied.refusal:
            why = _WORDS.get(Refusal(applied.refusal), applied.refusal)
            raise InvalidRequest(f"node {node}: {why}")
        _log.warning("a node is to leave for good" if leaving else "a node stays", node=node)

    async def forget(self, voter: str) -> None:
        """Take a member off Raft's list that was let in and never registered as a node. Raises
        InvalidRequest, MetadataUnavailable."""
        for node, broker in self._metadata.state.brokers.items():
            if broker.disk.hex() == voter:
                raise InvalidRequest(
                    f"{voter} is node {node}: `walrus cluster decommission {node}` takes it out"
                )
        if voter not in self._metadata.members:
            raise InvalidRequest(f"the metadata has no member {voter}")
        await self._metadata.expel(voter)
        if voter in self._metadata.members:
            raise MetadataUnavailable(f"{voter} is not off the list yet; ask again")
        _log.warning("a member that never registered was taken off the list", voter=voter)

    async def run(self) -> None:
        """Until cancelled. Begins before this node has taken part: it may have been taken out while
        it was away."""
        while True:
            leader = self._leader()
            if leader == self._node:
                await self._remove_who_is_done()
                await self._admit_who_stays()
            elif leader is None and await self._is_removed(self._metadata.state):
                self._on_removed()
                return
            await anyio.sleep(CHECK_S)

    async def _remove_who_is_done(self) -> None:
        for node in sorted(self._metadata.state.brokers):
            # As of now: it may have been told to stay while another one was taken out.
            state = self._metadata.state
            broker = state.brokers.get(node)
            if broker is None or not broker.leaving or remaining(state, node):
                continue
            voter = broker.disk.hex()
            try:
                if voter in self._metadata.members:
                    await self._metadata.expel(voter)
                    return
                applied = await self._metadata.propose(RemoveBroker(node, broker.disk))
            except RequestError as error:
                _log.warning("a node is not taken out yet", node=node, why=str(error))
                continue
            if not applied.refusal:
                _log.warning("a node was taken out of the cluster", node=node)

    async def _admit_who_stays(self) -> None:
        """Who was told to stay by a node that had not heard yet that it was out of the metadata, as
        it has not itself, is let in again.

        What this node believes may be of the past: whoever is out may have been forgotten since.
        """
        if self._out_and_to_stay() is None:
            return
        try:
            await self._metadata.propose(Barrier())
        except RequestError:
            return
        broker = self._out_and_to_stay()
        if broker is not None:
            _log.warning("a node that is to stay is let in again", node=broker.node)
            await self._metadata.admit(broker.disk.hex())

    def _out_and_to_stay(self) -> Broker | None:
        """Of those that are there: a lost disk is let in by nobody.

        None while a member is no broker: it may be about to take the place of one, and then who is
        out is to stay out."""
        brokers, members = self._metadata.state.brokers, self._metadata.members
        disks = {broker.disk.hex(): broker for broker in brokers.values()}
        if not disks.keys() >= {*members.voters, *members.learners}:
            return None
        out = disks.keys() - {*members.voters, *members.learners}
        there = sorted(out & self._metadata.connected)
        return next((disks[voter] for voter in there if not disks[voter].leaving), None)

    async def _is_removed(self, state: ClusterState) -> bool:
        """Does any node that we knew know better than we do?"""
        own = state.brokers.get(self._node)
        if own is None:
            return False
        ask = messages.encode(messages.Heartbeat(self._node, own.incarnation))
        for node in sorted(state.brokers):
            if node == self._node:
                continue
            try:
                reply, _ = messages.decode_reply(
                    await self._peers.call(node, ask, timeout_s=ASK_TIMEOUT_S)
                )
            except (PeerUnreachable, ValueError):
                continue
            if isinstance(reply, messages.HeartbeatReply) and reply.is_removed:
                return True
        return False
