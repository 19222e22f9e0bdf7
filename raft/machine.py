"""What the log drives: the state of one member, its journal and its snapshots.

`StateMachine` answers what `ground.Machine` asks. `replica.py` moves it on, and `node.py` gives it
a thread."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from raft import commands, messages
from raft.apply import apply, refuse_unreadable
from raft.core import HardenedRaft
from raft.disk import Disk, OsDisk
from raft.inbox import Inbox
from raft.invariants import check_invariants
from raft.journal import Journal
from raft.members import Members
from raft.messages import AnyMessage, Append, Chunk, ChunkReply
from raft.proposals import Proposals
from raft.snapshot import Snapshot
from raft.snapshotter import Snapshotter, Spawn, open_journal
from raft.state import EMPTY, ClusterState
from raft.trails import Trails

COMPACT_SIZE = 64 * 1024 * 1024
"""Bytes of journal that call for a snapshot."""


MayVote = Callable[[ClusterState, str], bool]
"""Whether a learner that has caught up may become a voter, by what the metadata says."""


class Link(Protocol):
    """The way to the other members. It may lose messages, with the connection they were sent on."""

    def send(self, voter: str, data: bytes) -> bool:
        """Never blocks; called on the tick thread. False: dropped, because the queue is full or
        nobody is there."""


class StateMachine(ABC):
    """Belongs to one thread, but for `state` and the properties."""

    def __init__(
        self,
        *,
        directory: Path,
        disk: Disk | None,
        voter_id: str,
        first_members: Members,
        link: Link | None,
        clock: Callable[[], float],
        rng: random.Random,
        compact_entries: int,
        trailing_entries: int,
        debug: bool,
        spawn: Spawn,
        may_vote: MayVote,
    ) -> None:
        """See `RaftNode`. Without `disk`, the files are in `directory`."""
        self._directory = directory
        self._disk = disk
        self._voter_id = voter_id
        self._first_members = first_members
        self._link = link
        self._clock = clock
        self._rng = rng
        self._compact_entries = compact_entries
        self._trailing_entries = trailing_entries
        self._debug = debug
        self._spawn = spawn
        self._may_vote = may_vote
        self._inbox = Inbox()
        self._proposals = Proposals(rng.randbytes(16))
        self._trails = Trails()
        self._journal: Journal
        self._snapshots: Snapshotter
        self._raft: HardenedRaft
        self.state = EMPTY
        """The newest state this node has applied. Replaced as a whole; keep it as long as you
        like."""

    def open(self) -> None:
        """Read the files, or begin them. Raises StoredStateError, OSError."""
        disk = self._disk if self._disk is not None else OsDisk(self._directory)
        self._snapshots = Snapshotter(disk, self._spawn, self._inbox.put)
        taken = self._snapshots.load()
        self._journal = open_journal(disk, taken)
        self._raft = self._make_raft()
        members = self._first_members
        if taken is not None:
            self.state = taken.state
            members = taken.members
            self._raft._SyncObj__raftLastApplied = taken.index
        self._raft.adopt_members(members)

    @abstractmethod
    def _make_raft(self) -> HardenedRaft:
        """On our journal. `node.py` knows which."""

    # ---- looking ---------------------------------------------------------------------------------

    @property
    def voter_id(self) -> str:
        return self._voter_id

    @property
    def is_leader(self) -> bool:
        """As far as this node knows; another may lead already."""
        return self._raft.is_leader

    @property
    def leader(self) -> str | None:
        """Voter id of the last known leader."""
        return self._raft.leader

    @property
    def term(self) -> int:
        return self._raft.term

    @property
    def commit_index(self) -> int:
        return self._raft.commit_index

    @property
    def members(self) -> Members:
        """Voters and learners, as the newest entry in our log names them."""
        return self._raft.members

    # ---- what the log asks of us (see `ground.Machine`) ------------------------------------------

    def now(self) -> float:
        return self._clock()

    def apply(self, index: int, command: bytes) -> None:
        """A committed entry. One that cannot be read is skipped, by all nodes alike."""
        before = self.state
        try:
            envelope = commands.decode(command)
        except msgspec.MsgspecError:
            self.state, _ = refuse_unreadable(before, index)
            return
        self.state, answer = apply(before, index, envelope)
        if self._debug:
            check_invariants(self.state, before)
        self._trails.passed(index, self.state.trail)
        if envelope.client == self._proposals.client:
            self._proposals.answered(envelope.sequence, answer)

    def checkpoint(self) -> tuple[int, int] | None:
        return self._trails.newest

    def compare(self, voter: str, check: tuple[int, int]) -> None:
        self._trails.compare(voter, *check)

    def send(self, voter: str, message: AnyMessage) -> bool:
        """Nothing leaves before all that it may rest on is durable.

        Entries on their way to others rest on the term they were written in: nobody will ever write
        others in it. The leader makes its own copy durable meanwhile (`tick`), and counts it then.
        """
        if isinstance(message, Append):
            self._journal.sync_vote()
        else:
            self._journal.sync()
        return self._link is not None and self._link.send(voter, messages.encode(message))

    # ---- snapshots -------------------------------------------------------------------------------

    def _snapshot_if_due(self) -> None:
        behind = self._raft.applied_index - max(self._snapshots.index, self._journal.first_index)
        is_big = self._journal.size > COMPACT_SIZE and behind > 0
        if (behind >= self._compact_entries or is_big) and not self._snapshots.is_busy:
            self.take_snapshot()

    def take_snapshot(self) -> None:
        """Write the state elsewhere, then shorten the log. The state is immutable, so nobody waits
        meanwhile."""
        index = self._raft.applied_index
        term = self._journal.term_at(index)
        assert term is not None, "the last applied entry is always in the log"
        taken = Snapshot(index, term, self._raft.members_at(index), self.state)
        self._snapshots.take(taken, self._compact)

    def _compact(self) -> None:
        self._journal.compact_to(self._snapshots.index - self._trailing_entries)

    def send_snapshot(self, voter: str) -> None:
        chunk = self._snapshots.next_chunk(voter, self._raft.term, self._clock())
        if chunk is not None:
            self.send(voter, chunk)

    def on_chunk(self, voter: str, chunk: Chunk) -> None:
        reply = self._snapshots.received(voter, chunk, self._raft.applied_index, self._installed)
        self.send(voter, reply)

    def on_chunk_reply(self, voter: str, reply: ChunkReply) -> None:
        self._snapshots.acknowledged(voter, reply)
        if reply.installed:
            self._raft.has_up_to(voter, reply.index)
        else:
            self.send_snapshot(voter)

    def _installed(self, taken: Snapshot) -> None:
        """The leader's snapshot is durable here. Meanwhile the log may have brought us further by
        itself."""
        if taken.index > self._raft.applied_index:
            self.state = taken.state
            self._trails.clear()
            self._raft.installed(taken.index, taken.term, taken.members)
            self._proposals.caught_up(self.state.clients.get(self._proposals.client))
        self._compact()
