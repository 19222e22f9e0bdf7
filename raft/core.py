"""pysyncobj's Raft, made true: the methods of `SyncObj` that are replaced, and why.

`HardenedRaft` stands before `SyncObj` in the order of inheritance (`node.py` puts them together),
so the methods here override those that pysyncobj calls by their mangled names `_SyncObj__x`. What
stays pysyncobj's: the roles and their timers, the candidacy, the rule that commits, the leader that
steps back when it hears from no majority.

Its published handling of messages loses or invents entries (see the tests named after each defect),
so all of it is replaced. The rules, in the order of Raft's own paper:

* Nothing is said before it is durable. The transport syncs the journal before every message
  (`node.py`), so a vote, an acknowledgement and the leader's own copy survive whatever comes after.
* Every reply carries the term it was given in, and counts in no other.
* Entries that match stay, whatever arrives again; a follower truncates at a real conflict and never
  below its commit.
* A follower commits no further than what it has compared with this leader.
* Votes are counted by voter, not by message, and only voters count.
* A snapshot moves the commit index to its own entry, when it is whole and durable, and not before.
"""

import random
from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from raft.journal import Journal
from raft.members import Members, is_single_step
from raft.messages import (
    BATCH_SIZE,
    AnyMessage,
    Append,
    AppendReply,
    Chunk,
    ChunkReply,
    TimeoutNow,
    Vote,
    VoteReply,
)

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

_encode_members = msgspec.msgpack.Encoder().encode
_decode_members = msgspec.msgpack.Decoder(Members).decode


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

    def peer(self, voter: str) -> Any:
        """pysyncobj's name for this member."""

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


class HardenedRaft:
    """The overriding half of the pair. Runs on one thread; reads no clock of its own."""

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
    _SyncObj__otherNodes: set[Any]
    _SyncObj__readonlyNodes: set[Any]
    _SyncObj__connectedNodes: set[Any]
    _SyncObj__setState: Any
    _SyncObj__setCurrentTerm: Any

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
        self._term_index = 0
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
        return self._SyncObj__raftMatchIndex.get(self.machine.peer(voter), 0)

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

    # ---- proposing and applying ------------------------------------------------------------------

    def propose(self, command: bytes) -> None:
        """Queue `command` for the log: the next tick appends it if this node leads then."""
        if len(self._proposed) < PROPOSED_MAX:
            self._proposed.append(REGULAR + command)

    def _checkCommandsToApply(self) -> None:
        """Everything that waits goes into the log together: one sync and one message carry it."""
        commands, self._proposed = self._proposed, []
        if not commands or not self.is_leader:
            return
        for command in commands:
            self.log.add(command, self.log.last_index + 1, self.term)
        self._SyncObj__sendAppendEntries()

    def _SyncObj__applyLogEntries(self) -> bool:
        """An entry is applied once, whatever it says: nothing is unpickled, nothing raises.

        True when something was applied, so that the leader tells the others how far it is.
        """
        first = self.applied_index + 1
        until = min(self.commit_index, first + APPLY_BATCH_MAX - 1)
        base = self.log.first_index
        for command, index, _term in self.log[first - base : until + 1 - base]:
            if command[:1] == REGULAR:
                self.machine.apply(index, command[1:])
            self._SyncObj__raftLastApplied = index
        return until >= first

    # ---- who takes part
    # ----------------------------------------------------------------------------

    def adopt_members(self, base: Members) -> None:
        """Read the members off the log; `base` are those at its beginning."""
        self._members = [(self.log.first_index, base)]
        for command, index, _term in self.log[1:]:
            self._note_members(command, index)
        self._members_changed()

    def change_members(self, members: Members) -> bool:
        """Write `members` to the log. False while an earlier change is not committed, or when this
        is too much at once.

        Nor before this leader has committed an entry of its own term: until then it may not know
        the last change."""
        at, current = self._members[-1]
        is_settled = self.commit_index >= max(at, self._term_index)
        if not self.is_leader or not is_settled or not is_single_step(current, members):
            return False
        self._append_members(members)
        self._SyncObj__sendAppendEntries()
        return True

    def _append_members(self, members: Members) -> None:
        index = self.log.last_index + 1
        self.log.add(MEMBERSHIP + _encode_members(members), index, self.term)
        self._members.append((index, members))
        self._members_changed()

    def _note_members(self, command: bytes, index: int) -> None:
        if command[:1] == MEMBERSHIP:
            try:
                self._members.append((index, _decode_members(command[1:])))
            except (msgspec.MsgspecError, UnicodeDecodeError) as wrong:
                raise AssertionError(f"entry {index} names no members: {wrong}") from wrong

    def _members_changed(self) -> None:
        """Give pysyncobj the voters and learners it is to count and to send to."""
        members, peer = self.members, self.machine.peer
        now = self.machine.now()
        self._SyncObj__otherNodes = {peer(voter) for voter in members.voters if voter != self.me}
        self._SyncObj__readonlyNodes = {peer(v) for v in members.learners if v != self.me}
        for node in self._SyncObj__otherNodes | self._SyncObj__readonlyNodes:
            self._SyncObj__raftMatchIndex.setdefault(node, 0)
            self._SyncObj__raftNextIndex.setdefault(node, self.log.last_index + 1)
            self._SyncObj__lastResponseTime.setdefault(node, now)

    def connected(self, voter: str) -> None:
        """A new connection: whatever was under way on an older one is lost.

        Of a member that never acknowledged anything nothing is known: ask at the end of the log.
        """
        node = self.machine.peer(voter)
        self._SyncObj__connectedNodes.add(node)
        self._retried.pop(voter, None)
        if self.is_leader and node in self._SyncObj__raftMatchIndex:
            match_index = self._SyncObj__raftMatchIndex[node] or self.log.last_index
            self._SyncObj__raftNextIndex[node] = match_index + 1

    def disconnected(self, voter: str) -> None:
        self._SyncObj__connectedNodes.discard(self.machine.peer(voter))

    def is_connected(self, voter: str) -> bool:
        return self.machine.peer(voter) in self._SyncObj__connectedNodes

    # ---- elections
    # ---------------------------------------------------------------------------------

    def before_tick(self) -> None:
        """pysyncobj would campaign when a timer says so; we ask first whether anybody would vote
        for us, and set off its timer only then."""
        if self.is_leader or not self.is_voter or self.machine.now() < self._election_at:
            return
        self._postpone_election()
        self._is_transfer = False
        if self.members.voters == (self.me,):
            self.campaign()
            return
        self._pre_votes = (self.term + 1, {self.me})
        self._ask_for_votes(
            Vote(self.term + 1, *self._last_entry(), is_pre=True, is_transfer=False)
        )

    def campaign(self) -> None:
        """Be a candidate in the next tick."""
        assert self.is_voter, "who has no vote wants none"
        self._postpone_election()
        self._SyncObj__raftElectionDeadline = AT_ONCE

    def vote_request(self) -> Vote:
        """What pysyncobj's candidate asks of everybody."""
        return Vote(self.term, *self._last_entry(), is_pre=False, is_transfer=self._is_transfer)

    def _ask_for_votes(self, request: Vote) -> None:
        for voter in self.members.voters:
            if voter != self.me:
                self.machine.send(voter, request)

    def _last_entry(self) -> tuple[int, int]:
        _command, index, term = self.log[-1]
        return index, term

    def _postpone_election(self) -> None:
        """Draws from our own generator: elections must be as reproducible as everything else."""
        self._election_at = self.machine.now() + self.rng.uniform(*self.election_wait_s)
        self._SyncObj__raftElectionDeadline = NEVER

    def _SyncObj__generateRaftTimeout(self) -> float:
        """pysyncobj's timer never goes off by itself (see `before_tick`)."""
        return NEVER

    def _hears_a_leader(self) -> bool:
        """While there is one, nobody helps to depose it: a node that was cut off would otherwise,
        on its return."""
        quiet_s = self.machine.now() - self._heard_leader_at
        return self.is_leader or quiet_s < self.election_wait_s[0]

    def _is_up_to_date(self, request: Vote) -> bool:
        index, term = self._last_entry()
        return (request.last_term, request.last_index) >= (term, index)

    def _on_pre_vote(self, voter: str, request: Vote) -> None:
        granted = (
            request.term > self.term and self._is_up_to_date(request) and not self._hears_a_leader()
        )
        term = request.term if granted else self.term
        self.machine.send(voter, VoteReply(term, is_pre=True, granted=granted))

    def _on_vote(self, voter: str, request: Vote) -> None:
        granted = self._SyncObj__votedForNodeId in (None, voter) and self._is_up_to_date(request)
        if granted:
            self._SyncObj__setCurrentTerm(self.term, voter)
            self._postpone_election()
        self.machine.send(voter, VoteReply(self.term, is_pre=False, granted=granted))

    def _on_vote_reply(self, voter: str, reply: VoteReply) -> None:
        if self._SyncObj__raftState != CANDIDATE or not reply.granted:
            return
        if self._votes[0] != self.term:
            self._votes = (self.term, {self.me})
        if self._counts(self._votes[1], voter):
            self._SyncObj__onBecomeLeader()

    def _on_pre_vote_reply(self, voter: str, reply: VoteReply) -> None:
        term, votes = self._pre_votes
        is_current = term == reply.term == self.term + 1 and not self.is_leader
        if is_current and self._counts(votes, voter):
            self._pre_votes = (0, set())
            self.campaign()

    def _counts(self, votes: set[str], voter: str) -> bool:
        """Add one vote; whether they are a majority of the voters now."""
        votes.add(voter)
        return 2 * len(votes.intersection(self.members.voters)) > len(self.members.voters)

    def _SyncObj__onBecomeLeader(self) -> None:
        """The first entry of a term names the members: it commits what came before, and tells
        newcomers who there is."""
        now = self.machine.now()
        self._is_transfer = False
        self._SyncObj__raftLeader = self.machine.peer(self.me)
        self._SyncObj__setState(LEADER)
        self._SyncObj__raftMatchIndex.clear()
        self._SyncObj__raftNextIndex.clear()
        self._SyncObj__lastResponseTime.clear()
        self._term_index = self.log.last_index + 1
        self._append_members(self.members)
        for node in self._SyncObj__raftNextIndex:
            self._SyncObj__raftNextIndex[node] = self._term_index
            self._SyncObj__lastResponseTime[node] = now
        self._SyncObj__sendAppendEntries()

    def transfer(self, to: str) -> bool:
        """Ask `to` to take over. False unless it has the whole log; the sign of success is another
        leader."""
        is_ready = self.is_leader and to in self.members.voters and to != self.me
        if not is_ready or self.match_index(to) != self.log.last_index:
            return False
        return self.machine.send(to, TimeoutNow(self.term))

    def _on_timeout_now(self) -> None:
        if self.is_voter and not self.is_leader:
            self._is_transfer = True
            self.campaign()

    # ---- messages
    # ----------------------------------------------------------------------------------

    def receive(self, voter: str, message: AnyMessage) -> None:
        """One message of another member, or of a node that would like to be one."""
        match message:
            case Vote(is_pre=True):
                self._on_pre_vote(voter, message)
            case VoteReply(is_pre=True, granted=True):
                self._on_pre_vote_reply(voter, message)
            case Vote() if not message.is_transfer and self._hears_a_leader():
                pass
            case (
                Append()
                | AppendReply()
                | Vote()
                | VoteReply()
                | Chunk()
                | ChunkReply()
                | TimeoutNow()
            ):
                if message.term > self.term:
                    self._step_down(message.term)
                if message.term == self.term:
                    self._dispatch(voter, message)
                else:
                    self._answer_stale(voter, message)

    def _dispatch(self, voter: str, message: AnyMessage) -> None:
        """A message of our own term."""
        match message:
            case Append():
                self._follow(voter)
                self._on_append(voter, message)
            case AppendReply() if self.is_leader:
                self._on_append_reply(voter, message)
            case Vote():
                self._on_vote(voter, message)
            case VoteReply():
                self._on_vote_reply(voter, message)
            case Chunk():
                self._follow(voter)
                self.machine.on_chunk(voter, message)
            case ChunkReply() if self.is_leader:
                self._heard_from(voter)
                self.machine.on_chunk_reply(voter, message)
            case TimeoutNow() if voter == self.leader:
                self._on_timeout_now()

    def _answer_stale(self, voter: str, message: AnyMessage) -> None:
        """Whoever leads or asks in a past term learns of the present one; a reply from the past is
        nothing."""
        match message:
            case Append() | Chunk():
                self.machine.send(voter, AppendReply(self.term, ok=False, index=0))
            case Vote():
                self.machine.send(voter, VoteReply(self.term, is_pre=False, granted=False))

    def _step_down(self, term: int) -> None:
        self._SyncObj__setCurrentTerm(term, None)
        self._SyncObj__setState(FOLLOWER)
        self._SyncObj__raftLeader = None
        self._is_transfer = False

    def _follow(self, voter: str) -> None:
        assert not self.is_leader, f"two leaders in term {self.term}: {self.me} and {voter}"
        self._SyncObj__setState(FOLLOWER)
        self._SyncObj__raftLeader = self.machine.peer(voter)
        self._heard_leader_at = self.machine.now()
        if not self._is_transfer:
            self._postpone_election()

    # ---- the follower's log
    # ------------------------------------------------------------------------

    def _on_append(self, voter: str, message: Append) -> None:
        self._SyncObj__leaderCommitIndex = message.commit_index
        retry_from = self._conflict_before(message.prev_index, message.prev_term)
        if retry_from is not None:
            self.machine.send(voter, AppendReply(self.term, ok=False, index=retry_from))
            return
        for index, (term, command) in enumerate(message.entries, message.prev_index + 1):
            self._append_entry(index, term, command)
        match_index = message.prev_index + len(message.entries)
        self._commit_to(min(message.commit_index, self._may_commit(match_index)))
        self.machine.send(voter, AppendReply(self.term, ok=True, index=match_index))
        if message.check is not None:
            self.machine.compare(voter, message.check)

    def _conflict_before(self, prev_index: int, prev_term: int) -> int | None:
        """Where the leader should send from instead; None when our log agrees at `prev_index`.

        What lies before our log begins is committed, so it agrees. A whole term that differs is
        skipped at once: one entry at a time would take minutes."""
        if prev_index < self.log.first_index:
            return None
        term = self.log.term_at(prev_index)
        if term == prev_term:
            return None
        if term is None:
            return self.log.last_index + 1
        index = prev_index
        while index > self.commit_index + 1 and self.log.term_at(index - 1) == term:
            index -= 1
        return index

    def _append_entry(self, index: int, term: int, command: bytes) -> None:
        """An entry that is here stays; only one of another term makes way, with all behind it."""
        if index <= self.log.first_index:
            return
        here = self.log.term_at(index)
        if here == term:
            return
        if here is not None:
            self._truncate(index)
        self.log.add(command, index, term)
        if command[:1] == MEMBERSHIP:
            self._note_members(command, index)
            self._members_changed()

    def _truncate(self, index: int) -> None:
        """Drop our entries from `index` on. The journal refuses when one of them is committed."""
        self.log.deleteEntriesFrom(index - self.log.first_index)
        self._members = [(at, members) for at, members in self._members if at < index]
        self._members_changed()

    def _may_commit(self, match_index: int) -> int:
        """No further than this message proves: what we have behind it may be another leader's."""
        return match_index

    def _commit_to(self, index: int) -> None:
        if index > self.commit_index:
            self._SyncObj__raftCommitIndex = index
            self.log.setRaftCommitIndex(index)

    def installed(self, index: int, term: int, members: Members) -> None:
        """A snapshot of entry `index` is durable here, and the machine has its state.

        Entries behind it stay when our log agrees with it; a log that does not was never committed
        there."""
        if self.log.term_at(index) == term:
            self._commit_to(index)
        else:
            self.log.reset(index, term)
            self._SyncObj__raftCommitIndex = max(self.commit_index, index)
        self._SyncObj__raftLastApplied = max(self.applied_index, index)
        behind = [(at, each) for at, each in self._members if at > index]
        kept = behind if self.log.last_index > index else []
        self._members = [(index, members), *kept]
        self._members_changed()

    # ---- the leader's view of the others
    # -----------------------------------------------------------

    def _SyncObj__sendAppendEntries(self) -> None:
        """To everybody connected, what they lack; at least a heartbeat."""
        self._SyncObj__newAppendEntriesTime = self.machine.now() + self.heartbeat_s
        for voter in (*self.members.voters, *self.members.learners):
            if voter != self.me and self.is_connected(voter):
                self._send_append(voter)

    def _send_append(self, voter: str) -> None:
        node = self.machine.peer(voter)
        next_index = self._SyncObj__raftNextIndex[node]
        if next_index <= self.log.first_index:
            self.machine.send(voter, Append(self.term, 0, 0, 0, ()))
            self.machine.send_snapshot(voter)
            return
        while True:
            is_slow = next_index - self._SyncObj__raftMatchIndex[node] > UNACKNOWLEDGED_MAX
            entries = () if is_slow else self._batch(next_index)
            message = self._append_from(next_index, entries)
            if not self.machine.send(voter, message):
                return
            next_index += len(entries)
            self._SyncObj__raftNextIndex[node] = next_index
            if not entries or next_index > self.log.last_index:
                return

    def _append_from(self, next_index: int, entries: tuple[tuple[int, bytes], ...]) -> Append:
        prev_term = self.log.term_at(next_index - 1)
        assert prev_term is not None, f"entry {next_index - 1} is not in the log"
        return Append(
            self.term,
            next_index - 1,
            prev_term,
            self.commit_index,
            entries,
            self.machine.checkpoint(),
        )

    def _batch(self, first: int) -> tuple[tuple[int, bytes], ...]:
        """(term, command) from `first` on, as many as go into one message."""
        batch: list[tuple[int, bytes]] = []
        size = 0
        at = first - self.log.first_index
        while at < len(self.log) and size < BATCH_SIZE:
            command, _index, term = self.log[at]
            batch.append((term, command))
            size += len(command) + 16
            at += 1
        return tuple(batch)

    def _heard_from(self, voter: str) -> None:
        self._SyncObj__lastResponseTime[self.machine.peer(voter)] = self.machine.now()

    def _on_append_reply(self, voter: str, reply: AppendReply) -> None:
        """Reached only with a reply of this very term: one of an earlier term speaks of a log that
        may be gone."""
        node = self.machine.peer(voter)
        if node not in self._SyncObj__raftMatchIndex:
            return
        self._heard_from(voter)
        if reply.ok:
            self.has_up_to(voter, reply.index)
            return
        retry_from = max(reply.index, self._SyncObj__raftMatchIndex[node] + 1)
        if retry_from < self._SyncObj__raftNextIndex[node] and self._may_retry(voter, retry_from):
            self._SyncObj__raftNextIndex[node] = retry_from
            self._send_append(voter)

    def _may_retry(self, voter: str, retry_from: int) -> bool:
        """Once per heartbeat for the same place: several messages under way are refused for one
        reason, and answering each with everything again would never end."""
        last, at = self._retried.get(voter, (0, -NEVER))
        now = self.machine.now()
        if last == retry_from and now - at < self.heartbeat_s:
            return False
        self._retried[voter] = (retry_from, now)
        return True

    def has_up_to(self, voter: str, index: int) -> None:
        """This member holds our log up to `index`, durably."""
        node = self.machine.peer(voter)
        match_index = max(self._SyncObj__raftMatchIndex[node], min(index, self.log.last_index))
        self._SyncObj__raftMatchIndex[node] = match_index
        next_index = max(self._SyncObj__raftNextIndex[node], match_index + 1)
        self._SyncObj__raftNextIndex[node] = next_index

    def learners_caught_up(self) -> Iterable[str]:
        """Those who could become voters now."""
        for voter in self.members.learners:
            if self.match_index(voter) + CAUGHT_UP >= self.log.last_index:
                yield voter

    # ---- what pysyncobj must not do
    # ----------------------------------------------------------------

    def _SyncObj__tryLogCompaction(self) -> None:
        """Not here: the node takes snapshots in its own time (`node.py`)."""

    def _SyncObj__onMessageReceived(self, _node: Peer, _message: object) -> None:
        """Not here: messages come in by `receive`."""
        raise AssertionError("pysyncobj's own handling of messages is not safe")
