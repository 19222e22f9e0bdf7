"""One member of the metadata's Raft: the only module that knows pysyncobj.

A thread of its own ("raft") owns everything that changes. It sleeps until something arrives or is
due, then ticks until nothing moves any more, so that a command takes as long as its fsync and not
as long as a timer. Other threads see `state`, which is immutable and replaced as a whole, and hand
things in through a queue."""

import logging
import queue
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
from pysyncobj import syncobj
from pysyncobj.config import SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport as PysyncobjTransport

from raft import commands, messages
from raft.apply import apply, refuse_unreadable
from raft.commands import AnyCommand, Applied
from raft.core import HardenedRaft
from raft.disk import Disk, OsDisk
from raft.errors import REMEDY, RaftError, Stopped
from raft.ground import NEVER, Machine
from raft.inbox import Inbox
from raft.invariants import InvariantViolated, check_invariants
from raft.journal import Journal
from raft.members import MemberChange, Members
from raft.membership import Membership, OnMember, Wish
from raft.messages import AnyMessage, Append, Chunk, ChunkReply, Forward, MemberReply, MemberRequest
from raft.proposals import Leader, OnDone, Proposal, Proposals
from raft.snapshot import Snapshot
from raft.snapshotter import Snapshotter, Spawn, open_journal
from raft.state import EMPTY, ClusterState

TIMEOUT_S = 10.0
"""How long a command may look for its outcome, unless its sender says otherwise."""
ELECTION_WAIT_S = (0.5, 1.0)
"""How long a voter waits for its leader, drawn anew each time."""
HEARTBEAT_S = 0.1
LEADER_PATIENCE_S = 1.5
"""A leader that hears from no majority for so long stops leading."""
IDLE_TICK_S = 0.1
HAND_OVER_S = 1.0
"""How long a leader that is stopped tries to hand over first."""
COMPACT_ENTRIES = 4096
"""Entries in the log that call for a snapshot."""
COMPACT_SIZE = 64 * 1024 * 1024
"""Bytes of journal that call for one."""
TRAILING_ENTRIES = 512
"""Entries kept behind a snapshot, so that a follower who is a little late needs no snapshot."""
CHECK_EVERY = 64
"""Entries between two comparisons of the trail."""
CHECKS_MAX = 64
"""Past comparisons remembered: a follower is rarely further behind."""

_log = logging.getLogger(__name__)


class Link(Protocol):
    """The way to the other members. It may lose messages, with the connection they were sent on."""

    def send(self, voter: str, data: bytes) -> bool:
        """Never blocks; called on the tick thread. False: dropped, because the queue is full or
        nobody is there."""


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


class Raft(HardenedRaft, syncobj.SyncObj):
    """pysyncobj under its corrections."""

    def __init__(self, machine: Machine, rng: random.Random, me: str, journal: Journal) -> None:
        self.prepare(machine, rng, me, election_wait_s=ELECTION_WAIT_S, heartbeat_s=HEARTBEAT_S)
        conf = SyncObjConf(
            autoTick=False,
            appendEntriesUseBatch=True,
            appendEntriesPeriod=HEARTBEAT_S,
            raftMinTimeout=ELECTION_WAIT_S[0],
            raftMaxTimeout=ELECTION_WAIT_S[1],
            leaderFallbackTimeout=LEADER_PATIENCE_S,
            commandsWaitLeader=False,
            dynamicMembershipChange=False,
            useFork=False,
            journalFile=journal,
        )
        super().__init__(machine.peer(me), (), conf, transport=_Transport(self))

    def tick(self) -> None:
        self.before_tick()
        self._onTick(0.0)


class _Transport(PysyncobjTransport):
    """What pysyncobj still sends by itself: a candidate's wish for votes."""

    def __init__(self, raft: HardenedRaft) -> None:
        super().__init__(None, None, ())
        self._raft = raft

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        assert message["type"] == "request_vote", message["type"]
        return self._raft.machine.send(node.id, self._raft.vote_request())

    def destroy(self) -> None:
        pass


class StateDiverged(InvariantViolated):
    """This node's state is not the leader's at the same index."""


class RaftNode:
    """A member of the cluster that keeps the metadata.

    Thread safe: `state`, `submit`, `change_members`, `transfer`, `subscribe`, `connected`,
    `disconnected`, `receive`, `watch`, `unwatch`, `stop`, and the properties. The rest belongs to
    the tick thread."""

    raft_class: type[Raft] = Raft

    def __init__(
        self,
        *,
        directory: Path,
        voter_id: str,
        peers: Sequence[str] = (),
        joins: bool = False,
        link: Link | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random,
        disk: Disk | None = None,
        compact_entries: int = COMPACT_ENTRIES,
        trailing_entries: int = TRAILING_ENTRIES,
        debug: bool = False,
        on_failure: Callable[[BaseException], None] | None = None,
        spawn: Spawn | None = None,
    ) -> None:
        """A member on the files in `directory`, or on `disk`.

        Where there are none yet, the cluster begins with `voter_id` and `peers` as its voters, all
        of them started alike; with `joins`, this node begins as nobody and waits until
        `change_members` lets it in. Where there are files, they say who the members are.

        `debug` checks every invariant after every command. `on_failure` is told, on the tick
        thread, why the node stopped by itself: its disk failed, or a bug showed. `spawn` runs a
        function elsewhere (in a thread) and answers how to wait for its end."""
        self._directory = directory
        self._voter_id = voter_id
        self._first_members = Members(() if joins else tuple(sorted({voter_id, *peers})))
        self._link = link
        self._clock = clock
        self._rng = rng
        self._disk = disk
        self._compact_entries = compact_entries
        self._trailing_entries = trailing_entries
        self._debug = debug
        self._on_failure = on_failure
        self._spawn = spawn or _spawn_thread
        self._inbox = Inbox()
        self._proposals = Proposals(rng.randbytes(16))
        self._listeners: list[Callable[[ClusterState], None]] = []
        self._peers: dict[str, Node] = {}
        self._connected: frozenset[str] = frozenset()
        self._checks: OrderedDict[int, int] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._stopping_at = NEVER
        self._stopped = False
        self._published = EMPTY
        self._journal: Journal
        self._snapshots: Snapshotter
        self._raft: Raft
        self._membership: Membership
        self.state = EMPTY
        """The newest state this node has applied. Replaced as a whole; keep it as long as you
        like."""
        self.failure: BaseException | None = None
        """Why the node stopped by itself; None while it did not."""

    # ---- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the files, catch up with what they say, and run. Blocking.

        A sole voter leads, with everything applied, when this returns. Raises StoredStateError,
        OSError."""
        self.open()
        self._inbox.open()
        self._thread = threading.Thread(target=self._run, name="raft", daemon=True)
        self._thread.start()

    def open(self) -> None:
        """`start` without the thread: who calls this calls `tick` too."""
        _clock.now = self._clock
        disk = self._disk if self._disk is not None else OsDisk(self._directory)
        self._snapshots = Snapshotter(disk, self._spawn, self._inbox.put)
        taken = self._snapshots.load()
        self._journal = open_journal(disk, taken)
        self._raft = self.raft_class(self, self._rng, self._voter_id, self._journal)
        members = self._first_members
        if taken is not None:
            self.state = taken.state
            members = taken.members
            self._raft._SyncObj__raftLastApplied = taken.index
        self._raft.adopt_members(members)
        self._membership = Membership(self._raft, self.send)
        if self._raft.members.voters == (self._voter_id,):
            self._raft.campaign()
        self.tick()

    def stop(self) -> None:
        """Hand leadership over if we have it, and end the thread. Commands without an answer get
        Stopped. Idempotent. Blocking, and the links must work meanwhile: not on their event loop.
        """
        if self._stopping_at == NEVER:
            self._stopping_at = self._clock() + HAND_OVER_S
            self._inbox.put(_nothing)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        else:
            self._finish(Stopped("the node was stopped"))

    def _finish(self, error: RaftError) -> None:
        if self._stopped:
            return
        self._stopped = True
        if hasattr(self, "_raft"):
            self._snapshots.join()
            self._membership_fail(error)
            if self.failure is None:
                self._journal.sync()
                self._journal.flush()
            self._journal.close()
        self._inbox.close()
        self._proposals.fail(error)

    def _membership_fail(self, error: RaftError) -> None:
        if hasattr(self, "_membership"):
            self._membership.fail(error)

    def _run(self) -> None:
        _clock.now = self._clock
        try:
            while not self._may_end():
                wait_s = min(IDLE_TICK_S, self._raft.wake_at() - self._clock())
                self._inbox.wait(max(0.0, wait_s))
                self.tick()
            self._finish(Stopped("the node was stopped"))
        except BaseException as failure:  # noqa: BLE001 - whatever it was, this thread is the one to tell
            self._fail(failure)

    def _may_end(self) -> bool:
        """A leader that goes hands over first, so that the others need not wait for its silence."""
        if self._stopping_at == NEVER:
            return False
        is_alone = not self._raft.is_leader or len(self._raft.members.voters) < 2
        if is_alone or self._clock() >= self._stopping_at:
            return True
        self._membership.hand_over()
        return False

    def _fail(self, failure: BaseException) -> None:
        """A disk that failed, or a bug: from here on this node could only make things worse."""
        _log.critical("the metadata node stops: %s", failure, exc_info=failure)
        self.failure = failure
        self._stopping_at = self._clock()
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

    def change_members(
        self, *, joins: str = "", leaves: str = "", on_done: OnMember, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Let voter `joins` in (it learns first, and votes when it has caught up), and `leaves` go.
        Both: a replacement.

        From any node, the one who joins or leaves included. `on_done` gets None when it is
        committed, OutcomeUnknown when it was not seen to be in time (ask again: the wish is
        idempotent), or Stopped; on the tick thread."""
        wish = Wish(MemberChange(joins, leaves), on_done, self._clock() + timeout_s)
        self._inbox.put(lambda: self._membership.add(wish))

    def transfer(self) -> None:
        """Ask the best follower to lead, if we do. The sign of success is another leader; ask again
        if there is none."""
        self._inbox.put(self._hand_over)

    def connected(self, voter: str) -> None:
        """There is a new connection to `voter`; what was sent on an older one may be lost."""
        self._inbox.put(partial(self._set_connected, voter, True))

    def disconnected(self, voter: str) -> None:
        """There is no connection to `voter` any more."""
        self._inbox.put(partial(self._set_connected, voter, False))

    def receive(self, voter: str, data: bytes) -> None:
        """A message from `voter`, whose identity the connection has proved."""
        self._inbox.put(partial(self._receive, voter, data))

    def watch(self, descriptor: int, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` on the tick thread whenever there is something to read: messages that
        it then hands to `receive`. A node that has stopped reads nothing."""
        self._inbox.watch(descriptor, on_readable)

    def unwatch(self, descriptor: int) -> None:
        """Comes before the descriptor is closed."""
        self._inbox.unwatch(descriptor)

    def propose(self, command: AnyCommand, *, timeout_s: float = TIMEOUT_S) -> Future[Applied]:
        """As `submit`, for whoever would rather wait for a Future; it may also fail with a
        RaftError."""
        future: Future[Applied] = Future()

        def on_done(outcome: Applied | RaftError) -> None:
            if isinstance(outcome, Applied):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)

        self.submit(command, on_done, timeout_s=timeout_s)
        return future

    def barrier(self, *, timeout_s: float = TIMEOUT_S) -> Future[Applied]:
        """When it is done, `state` holds everything that was committed before this call, by
        anybody."""
        return self.propose(commands.Barrier(), timeout_s=timeout_s)

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

    def status(self) -> dict[str, int | str | bool | None]:
        """For metrics and for people."""
        return {
            "voter_id": self._voter_id,
            "leader": self.leader,
            "is_leader": self.is_leader,
            "term": self.term,
            "commit_index": self.commit_index,
            "applied_index": self._raft.applied_index,
            "last_index": self._journal.last_index,
            "snapshot_index": self._snapshots.index,
            "journal_size": self._journal.size,
            "journal_cut_size": self._journal.cut_size,
            "commands_waiting": len(self._proposals),
            "voters": len(self.members.voters),
            "learners": len(self.members.learners),
            "connected": len(self._connected),
            "trail": f"{self.state.trail:016x}",
        }

    # ---- the tick thread -------------------------------------------------------------------------

    def tick(self) -> None:
        """Take in what arrived, and go on until nothing moves. Raises OSError if the disk fails."""
        _clock.now = self._clock
        self._drain()
        now = self._clock()
        self._proposals.expire(now)
        self._membership.tick(now, self._connected)
        while True:
            self._propose(now)
            before = self._raft.progress()
            self._raft.tick()
            if self._raft.progress() == before:
                break
        self._journal.sync()
        self._publish()
        self._snapshot_if_due()

    def _drain(self) -> None:
        while True:
            try:
                self._inbox.get_nowait()()
            except queue.Empty:
                return

    def _propose(self, now: float) -> None:
        """Our commands to our own log, or to whoever leads."""
        leader = self._leader()
        if leader is None:
            return
        is_local = leader[1] == self._voter_id
        due = self._proposals.due(leader, now, is_local=is_local)
        for data in due:
            if is_local:
                self._raft.propose(data)
        if due and not is_local:
            self._forward(leader[1], due)

    def _forward(self, leader: str, due: list[bytes]) -> None:
        batch: list[bytes] = []
        size = 0
        for data in due:
            if size + len(data) > messages.BATCH_SIZE:
                self.send(leader, Forward(tuple(batch)))
                batch, size = [], 0
            batch.append(data)
            size += len(data)
        self.send(leader, Forward(tuple(batch)))

    def _leader(self) -> Leader | None:
        """Whom commands go to; None while nobody is known who could be reached."""
        leader = self._raft.leader
        if leader is None or (leader == self._voter_id) != self._raft.is_leader:
            return None
        if leader != self._voter_id and leader not in self._connected:
            return None
        return (self._raft.term, leader)

    def _publish(self) -> None:
        if self.state is not self._published:
            self._published = self.state
            for listener in self._listeners:
                _tell(listener, self.state)

    # ---- what the log asks of us (see `core.Machine`) --------------------------------------------

    def now(self) -> float:
        return self._clock()

    def peer(self, voter: str) -> Any:
        node = self._peers.get(voter)
        if node is None:
            node = self._peers[voter] = Node(voter)
        return node

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
        if index % CHECK_EVERY == 0:
            self._checks[index] = self.state.trail
            if len(self._checks) > CHECKS_MAX:
                self._checks.popitem(last=False)
        if envelope.client == self._proposals.client:
            self._proposals.answered(envelope.sequence, answer)

    def checkpoint(self) -> tuple[int, int] | None:
        return next(reversed(self._checks.items()), None)

    def compare(self, voter: str, check: tuple[int, int]) -> None:
        index, trail = check
        ours = self._checks.get(index, trail)
        if ours != trail:
            raise StateDiverged(
                f"at entry {index} the state here is {ours:016x}, and that of leader {voter} is"
                f" {trail:016x}. {REMEDY}"
            )

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

    # ---- messages --------------------------------------------------------------------------------

    def _set_connected(self, voter: str, is_connected: bool) -> None:
        if is_connected:
            self._connected |= {voter}
            self._raft.connected(voter)
            self._snapshots.forget(voter)
        else:
            self._connected -= {voter}
            self._raft.disconnected(voter)

    def _receive(self, voter: str, data: bytes) -> None:
        try:
            message = messages.decode(data)
        except msgspec.MsgspecError as wrong:
            _log.warning("an unreadable message from %s is ignored: %s", voter, wrong)
            return
        match message:
            case Forward():
                self._forwarded(message)
            case MemberRequest():
                self._membership.requested(voter, message.change)
            case MemberReply():
                self._membership.replied(message.change)
            case _:
                self._raft.receive(voter, message)

    def _forwarded(self, message: Forward) -> None:
        """Others' commands. Only what can be read gets into the log."""
        if not self._raft.is_leader:
            return
        for data in message.commands:
            try:
                commands.decode(data)
            except msgspec.MsgspecError as wrong:
                _log.warning("an unreadable command is ignored: %s", wrong)
            else:
                self._raft.propose(data)

    def _hand_over(self) -> None:
        if self._raft.is_leader:
            self._membership.hand_over()

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
            self._checks.clear()
            self._raft.installed(taken.index, taken.term, taken.members)
            self._proposals.caught_up(self.state.clients.get(self._proposals.client))
        self._compact()


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
