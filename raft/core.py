"""pysyncobj's Raft, made true: the methods of `SyncObj` that are replaced, and why.

`HardenedRaft` stands before `SyncObj` in the order of inheritance (`node.py` puts them together),
so the methods here override those that pysyncobj calls by their mangled names `_SyncObj__x`. What
stays pysyncobj's: the roles and their timers, the candidacy, the rule that commits, the leader that
steps back when it hears from no majority.

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

from collections.abc import Iterable

import msgspec

from raft.elections import Elections
from raft.ground import (
    APPLY_BATCH_MAX,
    CAUGHT_UP,
    FOLLOWER,
    MEMBERSHIP,
    NEVER,
    PROPOSED_MAX,
    REGULAR,
    UNACKNOWLEDGED_MAX,
    Peer,
)
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

NO_HINT = 0
"""Where to send from, in the answer to a leader of the past: nobody asked."""

_encode_members = msgspec.msgpack.Encoder().encode
_decode_members = msgspec.msgpack.Decoder(Members).decode


class HardenedRaft(Elections):
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

    # ---- who takes part --------------------------------------------------------------------------

    def adopt_members(self, base: Members) -> None:
        """Read the members off the log; `base` are those at its beginning."""
        self._members = [(self.log.first_index, base)]
        for command, index, _term in self.log[1:]:
            self._note_members(command, index)
        self._members_changed()

    def change_members(self, members: Members) -> bool:
        """Write `members` to the log. False while an earlier change is not committed, or when this
        is too much at once.

        Nor before this leader has committed an entry of its own term, because until then it may not
        know the last change: the first entry of its term names the members, so it is an earlier
        change, too."""
        at, current = self._members[-1]
        is_settled = self.commit_index >= at
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
        """Give pysyncobj the voters and learners it is to count and to send to, in the same order
        in every process: a run of the simulator says everything by its seed."""
        members, peer = self.members, self.peer
        now = self.machine.now()
        voters = [peer(voter) for voter in members.voters if voter != self.me]
        learners = [peer(voter) for voter in members.learners if voter != self.me]
        self._SyncObj__otherNodes = dict.fromkeys(voters).keys()
        self._SyncObj__readonlyNodes = dict.fromkeys(learners).keys()
        for node in (*voters, *learners):
            self._SyncObj__raftMatchIndex.setdefault(node, 0)
            self._SyncObj__raftNextIndex.setdefault(node, self.log.last_index + 1)
            self._SyncObj__lastResponseTime.setdefault(node, now)
        if not self.is_voter:
            # Perhaps it was about to stand, when it lost its vote.
            self._SyncObj__raftElectionDeadline = NEVER

    def connected(self, voter: str) -> None:
        """A new connection: whatever was under way on an older one is lost.

        Of a member that never acknowledged anything nothing is known: ask at the end of the log.
        """
        node = self.peer(voter)
        self._SyncObj__connectedNodes.add(node)
        self._retried.pop(voter, None)
        if self.is_leader and node in self._SyncObj__raftMatchIndex:
            match_index = self._SyncObj__raftMatchIndex[node] or self.log.last_index
            self._SyncObj__raftNextIndex[node] = match_index + 1

    def disconnected(self, voter: str) -> None:
        self._SyncObj__connectedNodes.discard(self.peer(voter))

    def is_connected(self, voter: str) -> bool:
        return self.peer(voter) in self._SyncObj__connectedNodes

    def answers(self, voter: str) -> bool:
        """Whether it has acknowledged something to this leader, and said something since in less
        than the time in which a leader is given up."""
        heard_at = self._SyncObj__lastResponseTime.get(self.peer(voter), -NEVER)
        is_quiet = self.machine.now() - heard_at >= self.election_wait_s[1]
        return self.match_index(voter) > 0 and not is_quiet

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

    # ---- the leader's view of the others ---------------------------------------------------------

    def _SyncObj__sendAppendEntries(self) -> None:
        """To everybody connected, what they lack; at least a heartbeat."""
        self._SyncObj__newAppendEntriesTime = self.machine.now() + self.heartbeat_s
        for voter in (*self.members.voters, *self.members.learners):
            if voter != self.me and self.is_connected(voter):
                self._send_append(voter)

    def _send_append(self, voter: str, *, is_probe: bool = False) -> None:
        """What this member lacks, as far as it may be under way; of a probe only the first message.

        A probe follows a refusal. Had it everything behind it, each of its messages could be
        refused again and bring everything again, and their number would grow without end."""
        node = self.peer(voter)
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
            if not entries or next_index > self.log.last_index or is_probe:
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
        self._SyncObj__lastResponseTime[self.peer(voter)] = self.machine.now()

    def _on_append_reply(self, voter: str, reply: AppendReply) -> None:
        """Reached only with a reply of this very term: one of an earlier term speaks of a log that
        may be gone."""
        node = self.peer(voter)
        if node not in self._SyncObj__raftMatchIndex:
            return
        self._heard_from(voter)
        if reply.ok:
            self.has_up_to(voter, reply.index)
            return
        if reply.index == NO_HINT:
            # Said to an earlier leader, of this term alone; it speaks of no log.
            return
        retry_from = max(reply.index, self._SyncObj__raftMatchIndex[node] + 1)
        if retry_from < self._SyncObj__raftNextIndex[node] and self._may_retry(voter, retry_from):
            self._SyncObj__raftNextIndex[node] = retry_from
            self._send_append(voter, is_probe=True)

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
        node = self.peer(voter)
        if node not in self._SyncObj__raftMatchIndex:
            return
        match_index = max(self._SyncObj__raftMatchIndex[node], min(index, self.log.last_index))
        self._SyncObj__raftMatchIndex[node] = match_index
        next_index = max(self._SyncObj__raftNextIndex[node], match_index + 1)
        self._SyncObj__raftNextIndex[node] = next_index

    def learners_caught_up(self) -> Iterable[str]:
        """Those who could become voters now: they said themselves that they have nearly all of the
        log, and have it durably."""
        for voter in self.members.learners:
            match_index = self.match_index(voter)
            if match_index and match_index + CAUGHT_UP >= self.log.last_index:
                yield voter

    # ---- what pysyncobj must not do --------------------------------------------------------------

    def _SyncObj__tryLogCompaction(self) -> None:
        """Not here: the node takes snapshots in its own time (`machine.py`)."""

    def _SyncObj__onMessageReceived(self, _node: Peer, _message: object) -> None:
        """Not here: messages come in by `receive`."""
        raise AssertionError("pysyncobj's own handling of messages is not safe")
