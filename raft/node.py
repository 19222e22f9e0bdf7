"""One member of the metadata's Raft: the only module that knows pysyncobj.

A thread of its own ("raft") owns everything that changes. It sleeps until something arrives, then
ticks until nothing moves any more, so that a command takes as long as its fsync and not as long as
a timer. Other threads see `state`, which is immutable and replaced as a whole, and hand things in
through a queue.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from pysyncobj import syncobj
from pysyncobj.config import SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport as PysyncobjTransport

from raft import commands, snapshot
from raft.apply import apply, refuse_unreadable
from raft.commands import AnyCommand, Applied
from raft.core import HardenedRaft, Machine
from raft.disk import Disk, OsDisk
from raft.errors import REMEDY, CorruptJournalError, CorruptSnapshotError, RaftError, Stopped
from raft.invariants import check_invariants
from raft.journal import JOURNAL_NAME, Journal
from raft.proposals import Leader, OnDone, Proposal, Proposals
from raft.snapshot import Members, Snapshot
from raft.state import EMPTY, ClusterState

TIMEOUT_S = 10.0
"""How long a command may look for its outcome, unless its sender says otherwise."""
ELECTION_WAIT_S = (0.5, 1.0)
HEARTBEAT_S = 0.1
IDLE_TICK_S = 0.1
COMPACT_ENTRIES = 4096
"""Entries in the log that call for a snapshot."""
COMPACT_SIZE = 64 * 1024 * 1024
"""Bytes of journal that call for one."""
TRAILING_ENTRIES = 512
"""Entries kept behind a snapshot, so that a follower who is a little late needs no snapshot."""

Spawn = Callable[[Callable[[], None]], Callable[[], None]]

_log = logging.getLogger(__name__)


class _Clock(threading.local):
    """The clock of the node that runs on this thread just now: pysyncobj asks a function of its own
    module."""

    now: Callable[[], float] = staticmethod(time.monotonic)


_clock = _Clock()


def _monotonic() -> float:
    return _clock.now()


def _create_journal(journal: Journal) -> Journal:
    """pysyncobj makes a journal from a file name in its configuration; we put the journal itself
    there."""
    return journal


syncobj.monotonicTime = _monotonic
syncobj.createJournal = _create_journal


class _Raft(HardenedRaft, syncobj.SyncObj):
    """pysyncobj under its corrections."""

    def __init__(
        self,
        machine: Machine,
        rng: random.Random,
        me: Node,
        others: Sequence[Node],
        conf: SyncObjConf,
        transport: PysyncobjTransport,
    ) -> None:
        self.prepare(machine, rng, ELECTION_WAIT_S)
        super().__init__(me, others, conf, transport=transport)


class _NoTransport(PysyncobjTransport):
    """A cluster of one talks to nobody."""

    def __init__(self) -> None:
        super().__init__(None, None, ())

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        return False

    def destroy(self) -> None:
        pass


class RaftNode:
    """A member of the cluster that keeps the metadata.

    Thread safe: `state`, `submit`, `subscribe`, `stop`, and the properties. The rest belongs to the
    tick thread.
    """

    def __init__(
        self,
        *,
        directory: Path,
        voter_id: str,
        peers: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random,
        disk: Disk | None = None,
        compact_entries: int = COMPACT_ENTRIES,
        trailing_entries: int = TRAILING_ENTRIES,
        debug: bool = False,
        on_failure: Callable[[BaseException], None] | None = None,
        spawn: Spawn | None = None,
    ) -> None:
        """`debug` checks every invariant after every command. `spawn` runs a function elsewhere (in
        a thread) and answers how to wait for its end.

        `on_failure` is told, on the tick thread, why the node stopped by itself: its disk failed,
        or a bug showed.
        """
        self._directory = directory
        self._voter_id = voter_id
        self._peers = tuple(peers)
        self._clock = clock
        self._rng = rng
        self._disk = disk
        self._compact_entries = compact_entries
        self._trailing_entries = trailing_entries
        self._debug = debug
        self._on_failure = on_failure
        self._spawn = spawn or _spawn_thread
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._proposals = Proposals(rng.randbytes(16))
        self._listeners: list[Callable[[ClusterState], None]] = []
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._stopped = False
        self._snapshot_index = 0
        self._snapshot_running = False
        self._join_snapshot: Callable[[], None] = _nothing
        self._published = EMPTY
        self._journal: Journal
        self._raft: Any
        self.state = EMPTY
        """The newest state this node has applied. Replaced as a whole; keep it as long as you like.
        """
        self.failure: BaseException | None = None
        """Why the node stopped by itself; None while it did not."""

    # ---- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the files, catch up with what they say, and run. Blocking.

        A sole voter leads, with everything applied, when this returns. Raises StoredStateError,
        OSError.
        """
        self.open()
        self._thread = threading.Thread(target=self._run, name="raft", daemon=True)
        self._thread.start()

    def open(self) -> None:
        """`start` without the thread: who calls this calls `tick` too."""
        _clock.now = self._clock
        disk = self._disk if self._disk is not None else OsDisk(self._directory)
        self._disk = disk
        taken = snapshot.load(disk)
        self._journal = _open_journal(disk, taken)
        if taken is not None:
            self.state = taken.state
            self._snapshot_index = taken.index
        self._raft = self._make_raft()
        if not self._peers:
            self._raft._SyncObj__raftElectionDeadline = -1.0
        self.tick()

    def _make_raft(self) -> Any:
        conf = SyncObjConf(
            autoTick=False,
            appendEntriesUseBatch=True,
            appendEntriesPeriod=HEARTBEAT_S,
            raftMinTimeout=ELECTION_WAIT_S[0],
            raftMaxTimeout=ELECTION_WAIT_S[1],
            leaderFallbackTimeout=1.5,
            commandsWaitLeader=False,
            dynamicMembershipChange=False,
            useFork=False,
            journalFile=self._journal,
        )
        others = [Node(peer) for peer in self._peers]
        raft = _Raft(self, self._rng, Node(self._voter_id), others, conf, _NoTransport())
        raft._SyncObj__raftLastApplied = max(self._snapshot_index, self._journal.first_index)
        return raft

    def stop(self) -> None:
        """Finish what is on the disk's way, and end the thread. Commands without an answer get
        Stopped. Idempotent."""
        self._stopping = True
        self._inbox.put(_nothing)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        else:
            self._finish(Stopped("the node was stopped"))

    def _finish(self, error: RaftError) -> None:
        if self._stopped:
            return
        self._stopped = True
        self._join_snapshot()
        self._proposals.fail(error)
        if hasattr(self, "_journal"):
            if self.failure is None:
                self._journal.sync()
                self._journal.flush()
            self._journal.close()

    def _run(self) -> None:
        _clock.now = self._clock
        try:
            while not self._stopping:
                try:
                    self._inbox.get(timeout=IDLE_TICK_S)()
                except queue.Empty:
                    pass
                self.tick()
            self._finish(Stopped("the node was stopped"))
        except BaseException as failure:  # noqa: BLE001 - whatever it was, this thread is the one to tell
            self._fail(failure)

    def _fail(self, failure: BaseException) -> None:
        """A disk that failed, or a bug: from here on this node could only make things worse."""
        _log.critical("the metadata node stops: %s", failure, exc_info=failure)
        self.failure = failure
        self._stopping = True
        self._finish(Stopped(f"the node failed: {failure}"))
        if self._on_failure is not None:
            self._on_failure(failure)

    # ---- other threads hand things in ------------------------------------------------------------

    def submit(self, command: AnyCommand, on_done: OnDone, *, timeout_s: float = TIMEOUT_S) -> None:
        """Propose `command`. `on_done` gets its answer, or why there is none, exactly once, on the
        tick thread.

        When it gets `Applied`, `state` on this node shows the effect. A refusal is an answer.
        Errors: NoLeader, OutcomeUnknown, Stopped, CommandTooLarge, Overloaded (see `errors.py` for
        what each one promises). After the node has stopped, `on_done` is called at once, on the
        caller's thread.
        """
        proposal = Proposal(command, _guarded(on_done), self._clock(), timeout_s)
        self._inbox.put(lambda: self._proposals.add(proposal))
        if self._stopped:
            # The tick thread may have looked into the queue for the last time just before.
            self._drain()
            self._proposals.fail(Stopped("the node was stopped"))

    def subscribe(self, listener: Callable[[ClusterState], None]) -> None:
        """`listener` gets the newest state after each burst of changes, on the tick thread; at once
        if there is one."""

        def add() -> None:
            self._listeners.append(listener)
            _tell(listener, self.state)

        self._inbox.put(add)

    # ---- looking ---------------------------------------------------------------------------------

    @property
    def is_stopped(self) -> bool:
        """Stopped by `stop`, or by itself (see `failure`)."""
        return self._stopped

    @property
    def voter_id(self) -> str:
        return self._voter_id

    @property
    def is_leader(self) -> bool:
        """As far as this node knows; another may lead already."""
        return bool(self._raft.is_leader)

    @property
    def leader(self) -> str | None:
        """Voter id of the last known leader."""
        node = self._raft._getLeader()
        return None if node is None else str(node.id)

    @property
    def term(self) -> int:
        return int(self._raft.raftCurrentTerm)

    @property
    def commit_index(self) -> int:
        return int(self._raft.raftCommitIndex)

    def status(self) -> dict[str, int | str | bool | None]:
        """For metrics and for people."""
        return {
            "voter_id": self._voter_id,
            "leader": self.leader,
            "is_leader": self.is_leader,
            "term": self.term,
            "commit_index": self.commit_index,
            "applied_index": int(self._raft.raftLastApplied),
            "last_index": self._journal.last_index,
            "snapshot_index": self._snapshot_index,
            "journal_size": self._journal.size,
            "journal_cut_size": self._journal.cut_size,
            "commands_waiting": len(self._proposals),
            "trail": f"{self.state.trail:016x}",
        }

    # ---- the tick thread -------------------------------------------------------------------------

    def tick(self) -> None:
        """Take in what arrived, and go on until nothing moves. Raises OSError if the disk fails."""
        self._drain()
        now = self._clock()
        self._proposals.expire(now)
        while True:
            for data in self._proposals.due(self._leader(), now, is_local=self.is_leader):
                self._raft.propose(data)
            before = self._raft.progress()
            self._raft._onTick(0.0)
            if self._raft.progress() == before:
                break
        self._publish()
        self._snapshot_if_due()

    def _drain(self) -> None:
        while True:
            try:
                self._inbox.get_nowait()()
            except queue.Empty:
                return

    def _leader(self) -> Leader | None:
        """Whom commands go to. A leader takes them only once it knows all that was committed before
        its time."""
        leader = self.leader
        return None if leader is None else (self.term, leader)

    def apply(self, index: int, command: bytes) -> None:
        """A committed entry, from the log. Never raises for what it says: an unreadable one is
        skipped by all alike."""
        before = self.state
        try:
            envelope = commands.decode(command)
        except msgspec.MsgspecError:
            self.state, _ = refuse_unreadable(before, index)
            return
        self.state, answer = apply(before, index, envelope)
        if self._debug:
            check_invariants(self.state, before)
        if envelope.client == self._proposals.client:
            self._proposals.answered(envelope.sequence, answer)

    def _publish(self) -> None:
        if self.state is not self._published:
            self._published = self.state
            for listener in self._listeners:
                _tell(listener, self.state)

    # ---- snapshots -------------------------------------------------------------------------------

    def _snapshot_if_due(self) -> None:
        entries = self._raft.raftLastApplied - max(self._snapshot_index, self._journal.first_index)
        is_due = (
            entries >= self._compact_entries or self._journal.size > COMPACT_SIZE and entries > 0
        )
        if is_due and not self._snapshot_running:
            self.take_snapshot()

    def take_snapshot(self) -> None:
        """Write the state elsewhere, then shorten the log. The state is immutable, so nobody waits
        meanwhile."""
        index = self._raft.raftLastApplied
        term = self._journal.term_at(index)
        assert term is not None and self._disk is not None, (
            "the last applied entry is always in the log"
        )
        members = Members(voters=tuple(sorted((self._voter_id, *self._peers))))
        taken = Snapshot(index, term, members, self.state)
        disk = self._disk

        def work() -> None:
            try:
                snapshot.write(disk, taken)
            except OSError as failure:
                error = failure
                self._inbox.put(lambda: self._snapshot_failed(error))
            else:
                self._inbox.put(lambda: self._snapshot_written(index))

        self._snapshot_running = True
        self._join_snapshot = self._spawn(work)

    def _snapshot_written(self, index: int) -> None:
        self._snapshot_running = False
        self._snapshot_index = index
        self._journal.compact_to(index - self._trailing_entries)

    def _snapshot_failed(self, failure: OSError) -> None:
        self._snapshot_running = False
        raise failure


def _open_journal(disk: Disk, taken: Snapshot | None) -> Journal:
    """The journal, made to fit the snapshot. A crash between the two leaves them apart, never in
    contradiction.

    Raises CorruptJournalError, CorruptSnapshotError.
    """
    if taken is not None and disk.read(JOURNAL_NAME) is None:
        raise CorruptJournalError(
            f"{disk.describe(JOURNAL_NAME)} is missing beside a snapshot, and with it the vote of"
            f" this node. {REMEDY}"
        )
    journal = Journal(disk)
    index, term = (1, 0) if taken is None else (taken.index, taken.term)
    if journal.first_index > index:
        raise CorruptSnapshotError(
            f"{disk.describe(snapshot.SNAPSHOT_NAME)} ends at entry {index}, but the journal begins"
            f" after entry {journal.first_index}: what lies between is gone. {REMEDY}"
        )
    if journal.term_at(index) != term and index <= journal.getRaftCommitIndex():
        raise CorruptSnapshotError(
            f"{disk.describe(snapshot.SNAPSHOT_NAME)} says that entry {index} is of term {term},"
            f" and the journal has committed another one. {REMEDY}"
        )
    if journal.term_at(index) != term:
        # A snapshot from the leader, and a crash before the journal could follow: what the journal
        # says was overruled.
        journal.reset(index, term)
    elif journal.getRaftCommitIndex() < index:
        journal.setRaftCommitIndex(index)
    return journal


def _spawn_thread(work: Callable[[], None]) -> Callable[[], None]:
    thread = threading.Thread(target=work, name="raft-snapshot", daemon=True)
    thread.start()
    return thread.join


def _nothing() -> None:
    """Wakes the tick thread."""


def _guarded(on_done: OnDone) -> OnDone:
    """A callback that fails is its owner's bug; the log goes on without it."""

    def call(outcome: Applied | RaftError) -> None:
        try:
            on_done(outcome)
        except Exception:  # noqa: BLE001 - any, it is not ours
            _log.exception("a callback of a metadata command failed")

    return call


def _tell(listener: Callable[[ClusterState], None], state: ClusterState) -> None:
    try:
        listener(state)
    except Exception:  # noqa: BLE001 - any, it is not ours
        _log.exception("a listener to the metadata failed")
