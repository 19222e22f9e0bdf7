"""One member at work: it takes in what arrived, and goes on until nothing moves.

`machine.py` is what it moves; `node.py` gives it a thread and the doors for other threads."""

import logging
import queue
from collections.abc import Callable

import msgspec

from raft import commands, messages
from raft.machine import StateMachine
from raft.members import Members
from raft.membership import Membership
from raft.messages import Forward, MemberReply, MemberRequest
from raft.proposals import Leader
from raft.state import EMPTY, ClusterState

_log = logging.getLogger(__name__)


class Replica(StateMachine):
    """Belongs to the tick thread."""

    def open(self) -> None:
        """Read the files, and catch up with what they say. A sole voter leads when this returns."""
        super().open()
        self._listeners: list[Callable[[ClusterState], None]] = []
        self._connected: frozenset[str] = frozenset()
        self._reached: tuple[Members, frozenset[str], bool] | None = None
        """What `reaches_majority` was for them."""
        self._published = EMPTY
        self._membership = Membership(
            self._raft, self.send, lambda learner: self._may_vote(self.state, learner)
        )
        if self._raft.members.voters == (self._voter_id,):
            self._raft.campaign()
        self.tick()

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

    @property
    def connected_to(self) -> frozenset[str]:
        """Voter ids of the members it is connected to."""
        return self._connected

    @property
    def reaches_majority(self) -> bool:
        """Whether it is connected to enough voters for anything to be decided."""
        members, connected = self.members, self._connected
        known = self._reached
        if known is None or known[0] is not members or known[1] is not connected:
            is_majority = members.is_majority({self._voter_id, *connected})
            known = self._reached = members, connected, is_majority
        return known[2]

    # ---- the tick --------------------------------------------------------------------------------

    def tick(self) -> None:
        """Take in what arrived, and go on until nothing moves. Raises OSError if the disk fails."""
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

    def _publish(self) -> None:
        if self.state is not self._published:
            self._published = self.state
            for listener in self._listeners:
                _tell(listener, self.state)

    def _subscribe(self, listener: Callable[[ClusterState], None]) -> None:
        self._listeners.append(listener)
        _tell(listener, self.state)

    # ---- commands --------------------------------------------------------------------------------

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

    def _leader(self) -> Leader | None:
        """Whom commands go to; None while nobody is known who could be reached."""
        leader = self._raft.leader
        if leader is None or (leader == self._voter_id) != self._raft.is_leader:
            return None
        if leader != self._voter_id and leader not in self._connected:
            return None
        return (self._raft.term, leader)

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

    def _hand_over(self) -> None:
        if self._raft.is_leader:
            self._membership.hand_over()


def _tell(listener: Callable[[ClusterState], None], state: ClusterState) -> None:
    try:
        listener(state)
    except Exception:  # noqa: BLE001 - any, it is not ours
        _log.exception("a listener to the metadata failed")
