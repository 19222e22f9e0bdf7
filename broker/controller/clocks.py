"""What time it is, for those who delete what is too old: no clock decides that alone.

A machine may come up in the year 2040. What its node deletes is gone on all nodes, so it asks the
others, and believes the time that half of them have reached.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio
import structlog

from broker.controller.metadata import Metadata
from broker.controller.placement import live_nodes
from broker.ports import Buffer, Clock
from broker.replication import messages
from broker.replication.peers import Peers, PeerUnreachable

_log = structlog.get_logger(__name__)

PATIENCE_S: Final = 1.0
"""For a node that does not answer."""

JUMP_MS_MAX: Final = 3_600_000
"""A wall clock that has moved by more than this against the monotonic one is not believed, and one
that differs by more from the others' is reported."""

Others = Callable[[], Awaitable[Sequence[int] | None]]
"""What the other nodes' wall clocks show now; None if there are other nodes, and none tells."""


class Clocks:
    """Both sides of the question."""

    def __init__(self, *, node: int, metadata: Metadata, peers: Peers, clock: Clock) -> None:
        self._node = node
        self._metadata = metadata
        self._peers = peers
        self._clock = clock

    async def others(self) -> Sequence[int] | None:
        """See `Others`."""
        told: list[int] = []

        async def ask(node: int) -> None:
            try:
                frame = await self._peers.call(
                    node, messages.encode(messages.ClockAsk()), timeout_s=PATIENCE_S
                )
                reply, _ = messages.decode_reply(frame)
            except (PeerUnreachable, ValueError):
                return
            if isinstance(reply, messages.ClockReply):
                told.append(reply.now_ms)

        state = self._metadata.state
        async with anyio.create_task_group() as tasks:
            for node in live_nodes(state):
                if node != self._node:
                    tasks.start_soon(ask, node)
        is_alone = not state.brokers.keys() - {self._node}
        return told if told or is_alone else None

    def answer(self) -> Sequence[Buffer]:
        """What this node's clock shows."""
        return messages.encode(messages.ClockReply(self._clock.now_ms()))


class WallTime:
    """For one who deletes: it remembers the time before."""

    def __init__(self, clock: Clock, others: Others) -> None:
        self._clock = clock
        self._others = others
        self._ahead_ms = self._ahead(clock.now_ms())

    async def now_ms(self) -> int | None:
        """Milliseconds since 1970 that half of the live nodes, this one included, have reached.

        None if that cannot be believed now: nobody else tells, or time has jumped since it was
        asked for the last time.
        """
        told = await self._others()
        if told is None:
            _log.warning("no other node tells the time: nothing is too old now")
            return None
        own_ms = self._clock.now_ms()
        now_ms = sorted((own_ms, *told))[len(told) // 2]
        if abs(own_ms - now_ms) > JUMP_MS_MAX:
            _log.error("the wall clock is wrong: others differ", ahead_ms=own_ms - now_ms)
        ahead_ms = self._ahead(now_ms)
        moved_ms, self._ahead_ms = ahead_ms - self._ahead_ms, ahead_ms
        if abs(moved_ms) > JUMP_MS_MAX:
            _log.warning("the wall clock has jumped: nothing is too old now", moved_ms=moved_ms)
            return None
        return now_ms

    def _ahead(self, now_ms: int) -> int:
        return now_ms - round(self._clock.monotonic() * 1000)
