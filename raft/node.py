"""One member of the metadata's Raft: the only module that knows pysyncobj.

A thread of its own ("raft") owns everything that changes. It sleeps until something arrives or is
due, then ticks until nothing moves any more, so that a command takes as long as its fsync and not
as long as a timer. Other threads see `state`, which is immutable and replaced as a whole, and hand
things in through a queue."""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from pysyncobj import syncobj
from pysyncobj.config import SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport as PysyncobjTransport

from raft import commands
from raft.commands import AnyCommand, Applied
from raft.core import HardenedRaft
from raft.disk import Disk
from raft.errors import RaftError, Stopped
from raft.ground import NEVER, Machine
from raft.journal import Journal
from raft.machine import Link, MayVote
from raft.members import MemberChange, Members
from raft.membership import OnMember, Wish
from raft.proposals import OnDone, Proposal
from raft.replica import Replica
from raft.snapshotter import Spawn
from raft.state import ClusterState

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
TRAILING_ENTRIES = 512
"""Entries kept behind a snapshot, so that a follower who is a little late needs no snapshot."""
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


class Raft(HardenedRaft, syncobj.SyncObj):
    """pysyncobj under its corrections."""

    def __init__(self, machine: Machine, rng: random.Random, me: str, journal: Journal) -> None:
        self._peers: dict[str, Node] = {}
        _clock.now = machine.now
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
        super().__init__(self.peer(me), (), conf, transport=_Transport(self))

    def tick(self) -> None:
        _clock.now = self.machine.now
        super().tick()

    def peer(self, voter: str) -> Node:
        node = self._peers.get(voter)
        if node is None:
            node = self._peers[voter] = Node(voter)
        return node


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


class RaftNode(Replica):
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
        may_vote: MayVote = lambda state, voter: True,
    ) -> None:
        """A member on the files in `directory`, or on `disk`.

        Where there are none yet, the cluster begins with `voter_id` and `peers` as its voters, all
        of them started alike; with `joins`, this node begins as nobody and waits until
        `change_members` lets it in. Where there are files, they say who the members are.

        `debug` checks every invariant after every command. `on_failure` is told, on the tick
        thread, why the node stopped by itself: its disk failed, or a bug showed. `spawn` runs a
        function elsewhere (in a thread) and answers how to wait for its end. A learner becomes a
        voter when it has caught up and `may_vote`."""
        super().__init__(
            directory=directory,
            disk=disk,
            voter_id=voter_id,
            first_members=Members(() if joins else tuple(sorted({voter_id, *peers}))),
            link=link,
            clock=clock,
            rng=rng,
            compact_entries=compact_entries,
            trailing_entries=trailing_entries,
            debug=debug,
            spawn=spawn or _spawn_thread,
            may_vote=may_vote,
        )
        self._on_failure = on_failure
        self._thread: threading.Thread | None = None
        self._stopping_at = NEVER
        self._stopped = False
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

    def _make_raft(self) -> Raft:
        return self.raft_class(self, self._rng, self._voter_id, self._journal)

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

    @property
    def is_stopped(self) -> bool:
        """Stopped by `stop`, or by itself (see `failure`)."""
        return self._stopped

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
        is_alone = len(self._raft.members.voters) < 2 or not self.reaches_majority
        if is_alone or not self._raft.is_leader or self._clock() >= self._stopping_at:
            return True
        self._membership.hand_over()
        return False

    def _fail(self, failure: BaseException) -> None:
        """A disk that failed, or a bug: from here on this node could only make things worse."""
        trace = None if isinstance(failure, OSError) else failure
        _log.critical("the metadata node stops: %s", failure, exc_info=trace)
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

        self._inbox.put(partial(self._subscribe, listener))


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
