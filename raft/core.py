"""pysyncobj's Raft, made true: the methods of `SyncObj` that are replaced, and why.

`HardenedRaft`, whose storeys `ground.py` lists, stands before `SyncObj` in the order of inheritance
(`node.py` puts them together), so its methods override those that pysyncobj calls by their mangled
names `_SyncObj__x`. What stays pysyncobj's: the roles and their timers, the candidacy, the rule
that commits, the leader that steps back when it hears from no majority.

Its published handling of messages loses or invents entries (see the tests named after each defect),
so all of it is replaced. The rules, in the order of Raft's own paper:

* Nothing is said before it is durable. The node syncs the journal before every message
  (`machine.py`), so a vote and an acknowledgement survive whatever comes after. Entries alone leave
  a leader while its own disk still writes them: they promise nothing, and it counts its own copy
  when that is durable.
* Every reply carries the term it was given in, and counts in no other.
* Entries that match stay, whatever arrives again; a follower truncates at a real conflict and never
  below its commit.
* A follower commits no further than what it has compared with this leader.
* Votes are counted by voter, not by message, and only voters count.
* A snapshot moves the commit index to its own entry, when it is whole and durable, and not before.
"""

from raft.ground import APPLY_BATCH_MAX, FOLLOWER, MEMBERSHIP, PROPOSED_MAX, REGULAR, Peer
from raft.leading import NO_HINT, Leading
from raft.members import Members
from raft.messages import (
    AnyMessage,
    Append,
    AppendReply,
    Chunk,
    ChunkReply,
    TimeoutNow,
    Vote,
    VoteReply,
)


class HardenedRaft(Leading):
    """The overriding half of the pair."""

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

    # ---- messages --------------------------------------------------------------------------------

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
            case ChunkReply() if self.is_leader and voter in self.members:
                self._heard_from(voter)
                self.machine.on_chunk_reply(voter, message)
            case TimeoutNow() if voter == self.leader:
                self._on_timeout_now()

    def _answer_stale(self, voter: str, message: AnyMessage) -> None:
        """Whoever leads or asks in a past term learns of the present one; a reply from the past is
        nothing."""
        match message:
            case Append() | Chunk():
                self.machine.send(voter, AppendReply(self.term, ok=False, index=NO_HINT))
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
        self._SyncObj__raftLeader = self.peer(voter)
        self._heard_leader_at = self.machine.now()
        if not self._is_transfer:
            self._postpone_election()

    # ---- the follower's log ----------------------------------------------------------------------

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

    # ---- what pysyncobj must not do --------------------------------------------------------------

    def _SyncObj__tryLogCompaction(self) -> None:
        """Not here: the node takes snapshots in its own time (`machine.py`)."""

    def _SyncObj__onMessageReceived(self, _node: Peer, _message: object) -> None:
        """Not here: messages come in by `receive`."""
        raise AssertionError("pysyncobj's own handling of messages is not safe")
