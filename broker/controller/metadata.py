"""The replicated metadata, from the event loop's side.

Raft runs on a thread of its own and publishes immutable states. This class carries them over to the
loop, tells the listeners there, and turns a proposal into an await that returns only when this
node's view contains its effect: read-your-writes for everybody behind it.
"""

from collections.abc import Callable

import anyio
import structlog

from broker.errors import MetadataUnavailable, NotProposed
from raft.commands import AnyCommand, Applied
from raft.errors import CommandTooLarge, NoLeader, Overloaded, RaftError
from raft.members import Members
from raft.node import RaftNode
from raft.state import ClusterState

_log = structlog.get_logger(__name__)

MEMBERS_TIMEOUT_S = 5.0
"""How long one attempt to change the members may take."""

_NEVER = (NoLeader, CommandTooLarge, Overloaded)

Listener = Callable[[ClusterState, ClusterState], None]
"""Called with (before, after), on the loop, after every burst of changes."""


class Metadata:
    """`call_soon` runs a function on the event loop from any thread
    (`loop.call_soon_threadsafe`)."""

    def __init__(self, raft: RaftNode, call_soon: Callable[[Callable[[], object]], object]) -> None:
        self._raft = raft
        self._call_soon = call_soon
        self._listeners: list[Listener] = []
        self._changed_event = anyio.Event()
        self.state: ClusterState = raft.state
        raft.subscribe(self._changed)

    def listen(self, listener: Listener) -> None:
        """`listener` must not block and must not raise."""
        self._listeners.append(listener)

    def _changed(self, _: ClusterState) -> None:
        """On Raft's thread."""
        self._call_soon(self._refresh)

    def _refresh(self) -> None:
        before, after = self.state, self._raft.state
        if after is before:
            return
        self.state = after
        for listener in self._listeners:
            listener(before, after)
        event, self._changed_event = self._changed_event, anyio.Event()
        event.set()

    async def changed(self) -> None:
        """Wait for the next change."""
        await self._changed_event.wait()

    async def propose(self, command: AnyCommand) -> Applied:
        """Have `command` committed and applied, and our view brought up to it.

        The answer may be a refusal (`Applied.refusal`): someone else changed what the command
        expected. Raises NotProposed when it has no effect and never will, MetadataUnavailable when
        no answer is known: the command may or may not take effect later.
        """
        done = anyio.Event()
        outcomes: list[Applied | RaftError] = []

        def finish() -> None:
            self._refresh()
            done.set()

        def on_done(outcome: Applied | RaftError) -> None:
            outcomes.append(outcome)
            self._call_soon(finish)

        self._raft.submit(command, on_done)
        await done.wait()
        outcome = outcomes[0]
        if isinstance(outcome, RaftError):
            kind = NotProposed if isinstance(outcome, _NEVER) else MetadataUnavailable
            raise kind(str(outcome)) from outcome
        return outcome

    @property
    def members(self) -> Members:
        """Who votes in Raft, and who learns."""
        return self._raft.members

    @property
    def connected(self) -> frozenset[str]:
        """Voter ids of those this node is connected to."""
        return self._raft.connected_to

    @property
    def reaches_majority(self) -> bool:
        """Whether anything can be decided just now, as far as connections tell."""
        return self._raft.reaches_majority

    async def expel(self, voter: str) -> None:
        """Have `voter` leave Raft. Ask again while it is still among `members`."""
        await self._change_members(leaves=voter)

    async def admit(self, voter: str) -> None:
        """Have `voter` take part in Raft. Ask again while it is not among `members`."""
        await self._change_members(joins=voter)

    async def _change_members(self, *, joins: str = "", leaves: str = "") -> None:
        done = anyio.Event()

        def on_done(_: RaftError | None) -> None:
            self._call_soon(done.set)

        self._raft.change_members(
            joins=joins, leaves=leaves, on_done=on_done, timeout_s=MEMBERS_TIMEOUT_S
        )
        await done.wait()

    async def insist(self, command: AnyCommand) -> Applied:
        """As `propose`, but wait for a majority as long as it takes: what a start needs, for nodes
        may be started in any order and at any distance in time. `command` may be committed more
        than once."""
        while True:
            try:
                return await self.propose(command)
            except MetadataUnavailable as error:
                _log.warning("waiting for a majority of the cluster", why=str(error))
