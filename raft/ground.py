"""What the corrected Raft stands on: pysyncobj's fields, and what they are asked of.

The storeys above it: `lineup.py` (who takes part), `elections.py` (who leads), `leading.py` (what a
leader sends), `core.py` (what gets into the log, and stays). `node.py` puts the result before
pysyncobj's class.
"""

import random
from collections.abc import Set
from typing import Any, Protocol

from raft.journal import Journal
from raft.members import Members
from raft.messages import AnyMessage, Chunk, ChunkReply

REGULAR, NO_OP, MEMBERSHIP = b"\x00", b"\x01", b"\x02"
"""First byte of a log entry's command, as pysyncobj has it."""

FOLLOWER, CANDIDATE, LEADER = 0, 1, 2
"""pysyncobj's roles."""

APPLY_BATCH_MAX = 1024
"""Entries applied in one tick, so that a long replay leaves room for heartbeats."""
UNACKNOWLEDGED_MAX = 8192
"""Entries sent to one member before it said anything; then only heartbeats until it does."""
PROPOSED_MAX = 20_000
"""Commands held for the next tick; more are dropped, and their senders ask again."""
CAUGHT_UP = 256
"""A learner this close to the end of the log may become a voter."""
NEVER = float("inf")
AT_ONCE = -1.0


class Peer(Protocol):
    """pysyncobj's Node."""

    id: str


class Machine(Protocol):
    """What the log drives, and what it needs from outside."""

    def apply(self, index: int, command: bytes) -> None:
        """A committed entry. Must not raise for anything that `command` says."""

    def now(self) -> float:
        """Monotonic seconds."""

    def send(self, voter: str, message: AnyMessage) -> bool:
        """Make everything durable, then hand `message` over. False: it was dropped."""

    def send_snapshot(self, voter: str) -> None:
        """This member is too far behind for the log."""

    def on_chunk(self, voter: str, chunk: Chunk) -> None:
        """A piece of a snapshot from the leader."""

    def on_chunk_reply(self, voter: str, reply: ChunkReply) -> None:
        """What a member has of ours."""

    def checkpoint(self) -> tuple[int, int] | None:
        """(index, trail) to compare."""

    def compare(self, voter: str, check: tuple[int, int]) -> None:
        """The leader's trail at some index. Raises when ours is another one."""


class Ground:
    """Runs on one thread; reads no clock of its own."""

    # pysyncobj's fields, by the names it gave them.
    _SyncObj__raftLog: Journal
    _SyncObj__raftState: int
    _SyncObj__raftCurrentTerm: int
    _SyncObj__votedForNodeId: str | None
    _SyncObj__votesCount: int
    _SyncObj__raftLeader: Any
    _SyncObj__raftCommitIndex: int
    _SyncObj__leaderCommitIndex: int
    _SyncObj__raftLastApplied: int
    _SyncObj__raftElectionDeadline: float
    _SyncObj__newAppendEntriesTime: float
    _SyncObj__raftNextIndex: dict[Any, int]
    _SyncObj__raftMatchIndex: dict[Any, int]
    _SyncObj__lastResponseTime: dict[Any, float]
    _SyncObj__otherNodes: Set[Any]
    _SyncObj__readonlyNodes: Set[Any]
    _SyncObj__connectedNodes: set[Any]
    _SyncObj__setState: Any
    _SyncObj__setCurrentTerm: Any
    _SyncObj__sendAppendEntries: Any

    _onTick: Any

    peer: Any
    """Of `node.py`: pysyncobj's name for this member, by voter id."""

    def prepare(
        self,
        machine: Machine,
        rng: random.Random,
        me: str,
        *,
        election_wait_s: tuple[float, float],
        heartbeat_s: float,
    ) -> None:
        """Comes before `SyncObj.__init__`, which calls some of the methods below."""
        self.machine = machine
        self.rng = rng
        self.me = me
        self.election_wait_s = election_wait_s
        self.heartbeat_s = heartbeat_s
        self._proposed: list[bytes] = []
        self._members = [(0, Members(()))]
        self._votes: tuple[int, set[str]] = (0, set())
        self._pre_votes: tuple[int, set[str]] = (0, set())
        self._heard_leader_at = -NEVER
        self._election_at = machine.now() + rng.uniform(*election_wait_s)
        self._is_transfer = False
        self._retried: dict[str, tuple[int, float]] = {}

    # ---- looking ---------------------------------------------------------------------------------

    @property
    def log(self) -> Journal:
        return self._SyncObj__raftLog

    @property
    def term(self) -> int:
        return self._SyncObj__raftCurrentTerm

    @property
    def commit_index(self) -> int:
        return self._SyncObj__raftCommitIndex

    @property
    def applied_index(self) -> int:
        return self._SyncObj__raftLastApplied

    @property
    def is_leader(self) -> bool:
        return self._SyncObj__raftState == LEADER

    @property
    def leader(self) -> str | None:
        """The last one known in this term."""
        node = self._SyncObj__raftLeader
        return None if node is None else str(node.id)

    @property
    def members(self) -> Members:
        """The newest in the log: they count from the moment they are written, not when
        committed."""
        return self._members[-1][1]

    def members_at(self, index: int) -> Members:
        """Those in force when everything up to `index` was applied."""
        return [members for at, members in self._members if at <= index][-1]

    @property
    def is_voter(self) -> bool:
        return self.me in self.members.voters

    def match_index(self, voter: str) -> int:
        """How much of our log this member is known to have, as far as we lead."""
        return self._SyncObj__raftMatchIndex.get(self.peer(voter), 0)

    def progress(self) -> tuple[object, ...]:
        """Equal before and after a tick: the tick found nothing to do."""
        return (
            self.term,
            self._SyncObj__raftState,
            self.commit_index,
            self.applied_index,
            self.log.last_index,
            len(self._proposed),
        )

    def wake_at(self) -> float:
        """When time alone makes something happen, in the machine's seconds."""
        if self.is_leader:
            return self._SyncObj__newAppendEntriesTime if len(self.members.voters) > 1 else NEVER
        return self._election_at if self.is_voter else NEVER
