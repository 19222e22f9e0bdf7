"""pysyncobj's Raft, made true: the methods of `SyncObj` that are replaced, and why.

`HardenedRaft` stands before `SyncObj` in the order of inheritance (`node.py` puts them together),
so the methods here override those that pysyncobj calls by their mangled names `_SyncObj__x`. What
stays pysyncobj's: the roles and their timers, the election, the rule that commits, the bookkeeping
of who has what.
"""

import random
from collections.abc import Callable
from typing import Protocol

from raft.journal import Journal

REGULAR, NO_OP, MEMBERSHIP = b"\x00", b"\x01", b"\x02"
"""First byte of a log entry's command, as pysyncobj has it."""

FOLLOWER, CANDIDATE, LEADER = 0, 1, 2
"""pysyncobj's roles."""

APPLY_BATCH_MAX = 1024
"""Entries applied in one tick, so that a long replay leaves room for heartbeats."""


class Machine(Protocol):
    """What the log drives."""

    def apply(self, index: int, command: bytes) -> None:
        """A committed entry. Must not raise for anything that `command` says."""


class HardenedRaft:
    """The overriding half of the pair. Runs on one thread; reads no clock of its own."""

    _SyncObj__raftLog: Journal
    _SyncObj__raftState: int
    _SyncObj__raftCurrentTerm: int
    _SyncObj__raftCommitIndex: int
    _SyncObj__raftLastApplied: int
    _SyncObj__raftElectionDeadline: float
    _SyncObj__conf: "object"
    _SyncObj__sendAppendEntries: Callable[[], None]

    machine: Machine
    rng: random.Random
    election_wait_s: tuple[float, float]

    def prepare(
        self, machine: Machine, rng: random.Random, election_wait_s: tuple[float, float]
    ) -> None:
        """Comes before `SyncObj.__init__`, which calls some of the methods below."""
        self.machine = machine
        self.rng = rng
        self.election_wait_s = election_wait_s
        self._proposed: list[bytes] = []

    # ---- looking ---------------------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        return self._SyncObj__raftState == LEADER

    def progress(self) -> tuple[int, ...]:
        """Equal before and after a tick: the tick found nothing to do."""
        return (
            self._SyncObj__raftCurrentTerm,
            self._SyncObj__raftState,
            self._SyncObj__raftCommitIndex,
            self._SyncObj__raftLastApplied,
            self._SyncObj__raftLog.last_index,
        )

    # ---- proposing and applying ------------------------------------------------------------------

    def propose(self, command: bytes) -> None:
        """Queue `command` for the log; the next tick appends it if this node leads then, and drops
        it if not."""
        self._proposed.append(REGULAR + command)

    def _checkCommandsToApply(self) -> None:
        """Everything that waits goes into the log together, so that one sync and one message carry
        it."""
        commands, self._proposed = self._proposed, []
        if not commands or not self.is_leader:
            return
        log = self._SyncObj__raftLog
        for command in commands:
            log.add(command, log.last_index + 1, self._SyncObj__raftCurrentTerm)
        self._SyncObj__sendAppendEntries()

    def _SyncObj__applyLogEntries(self) -> bool:
        """An entry is applied once, whatever it says: nothing is unpickled, and the machine does
        not raise.

        True when something was applied, so that the leader tells the others how far it is at once.
        """
        log = self._SyncObj__raftLog
        first = self._SyncObj__raftLastApplied + 1
        until = min(self._SyncObj__raftCommitIndex, first + APPLY_BATCH_MAX - 1)
        for command, index, _term in log[first - log.first_index : until + 1 - log.first_index]:
            if command[:1] == REGULAR:
                self.machine.apply(index, command[1:])
            self._SyncObj__raftLastApplied = index
        return until >= first

    # ---- small repairs ---------------------------------------------------------------------------

    def _SyncObj__generateRaftTimeout(self) -> float:
        """From our own generator: elections must be as reproducible as everything else."""
        return self.rng.uniform(*self.election_wait_s)

    def _SyncObj__tryLogCompaction(self) -> None:
        """Never here: the node takes snapshots in its own time (see `node.py`)."""
