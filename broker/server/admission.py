"""How a node comes into a cluster that is there: it asks to be let in, waits until nobody else has
its id, and has the disk that it replaces leave.

Whatever it asks for, it asks until it is so: nodes may be started in any order.
"""

from collections.abc import Callable

import anyio
import structlog

from broker.controller.metadata import Metadata
from broker.errors import BrokerError
from raft.commands import Barrier
from raft.errors import RaftError
from raft.node import RaftNode

_log = structlog.get_logger(__name__)

ID_PATIENCE_S = 10.0
"""How long whoever has our id may still count as alive under one leader of Raft: longer than that
takes to find somebody dead."""

LOOK_S = 0.1

ASK_TIMEOUT_S = 5.0
"""How long one attempt to be let in may take; then the next one."""

SAY_EVERY = 12
"""Attempts, of ten seconds at most, between two warnings that a node is not let in yet."""


class MembershipError(BrokerError):
    """This node cannot be part of that cluster; the text says why and what to do."""


class Admission:
    """Of one node; the disk of `raft` is its voter id."""

    def __init__(
        self,
        *,
        node: int,
        raft: RaftNode,
        metadata: Metadata,
        call_soon: Callable[[Callable[[], object]], object],
    ) -> None:
        """`call_soon` runs a function on the event loop, from any thread."""
        self._node = node
        self._raft = raft
        self._metadata = metadata
        self._call_soon = call_soon

    async def take_part(self, *, joins: bool) -> None:
        """Return when this node is a member and no other live node has its id. `joins`: its disk
        began as one that others let in.

        Raises MembershipError.
        """
        if joins and not self._metadata.state.cluster_id:
            await self._ask_to_join()
            # Who has our id must be in our view before we look.
            await self._metadata.insist(Barrier())
        await self._check_id()
        await self._replace()

    async def _ask_to_join(self) -> None:
        _log.info("asking to be let in")
        failed_count = 0
        while not self._metadata.state.cluster_id:
            if await self._change(joins=self._raft.voter_id) is not None:
                if failed_count % SAY_EVERY == 0:
                    _log.warning(
                        "not let in yet: can a node of the cluster be reached at --join,"
                        " and has the cluster a majority?"
                    )
                failed_count += 1
            with anyio.move_on_after(ASK_TIMEOUT_S):
                while not self._metadata.state.cluster_id:
                    await self._metadata.changed()
        _log.info("let in", cluster_id=self._metadata.state.cluster_id)

    async def _check_id(self) -> None:
        """A machine with a new disk may be back before its loss was noticed: wait for that. Without
        a majority nobody can notice anything."""
        mine = bytes.fromhex(self._raft.voter_id)
        leader, led_since = None, anyio.current_time()
        while True:
            broker = self._metadata.state.brokers.get(self._node)
            if broker is None or broker.disk == mine or broker.fenced:
                return
            now = anyio.current_time()
            newest = self._raft.leader if self._metadata.reaches_majority else None
            if newest is None or newest != leader:
                leader, led_since = newest, now
            elif now - led_since > ID_PATIENCE_S:
                break
            with anyio.move_on_after(LOOK_S):
                await self._metadata.changed()
        raise MembershipError(
            f"node id {self._node} belongs to a live node at"
            f" {broker.raft_host}:{broker.raft_port}; choose another --node-id"
        )

    async def _replace(self) -> None:
        """Whoever had this node's id on another disk is gone for good, and leaves before we
        register: as long as it has not left, its disk is the one that the id is registered with.
        """
        broker = self._metadata.state.brokers.get(self._node)
        gone = "" if broker is None else broker.disk.hex()
        while gone not in ("", self._raft.voter_id) and gone in self._raft.members:
            _log.warning("the disk that had this node's id leaves the cluster", voter=gone)
            await self._change(leaves=gone)

    async def _change(self, *, joins: str = "", leaves: str = "") -> RaftError | None:
        done = anyio.Event()
        outcomes: list[RaftError | None] = []

        def on_done(outcome: RaftError | None) -> None:
            outcomes.append(outcome)
            self._call_soon(done.set)

        self._raft.change_members(
            joins=joins, leaves=leaves, on_done=on_done, timeout_s=ASK_TIMEOUT_S
        )
        await done.wait()
        return outcomes[0]
