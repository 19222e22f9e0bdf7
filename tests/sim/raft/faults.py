"""The corrections, taken back one by one: a simulator that cannot find these would find nothing.

Each entry of `FAULTS` is a node that lacks one line of the protocol. `python -m tests.sim.raft
--fault NAME` looks for a seed that shows it; without `--fault`, the very same seeds must be clean.
"""

from collections.abc import Mapping
from unittest.mock import patch

import msgspec

from raft.commands import AnyCommand, Applied, Barrier
from raft.errors import NoLeader
from raft.ground import CANDIDATE, NO_OP
from raft.members import Members, is_fulfilled
from raft.messages import AnyMessage, Append, AppendReply, Chunk, Vote, VoteReply
from raft.node import Raft
from raft.pmap import PMap
from raft.proposals import OnDone
from raft.snapshot import Snapshot
from tests.sim.raft.cluster import SimNode
from tests.sim.raft.disk_faults import (
    CommitsBeforeItIsDurable,
    ForgetsItsVote,
    KeepsATornTail,
    NeverSyncsDirectories,
    NeverSyncsFiles,
    SendsBeforeItIsDurable,
    TrimsBeforeTheSnapshot,
    TrustsItsJournal,
    TrustsThePageCache,
)

# ---- messages ------------------------------------------------------------------------------------


class _CountsAcksOfThePast(Raft):
    def _answer_stale(self, voter: str, message: AnyMessage) -> None:
        if isinstance(message, AppendReply) and self.is_leader and message.ok:
            self.has_up_to(voter, message.index)
        else:
            super()._answer_stale(voter, message)


class CountsAcksOfThePast(SimNode):
    """An acknowledgement counts in whatever term it arrives."""

    raft_class = _CountsAcksOfThePast


class _TruncatesWhatMatches(Raft):
    def _on_append(self, voter: str, message: Append) -> None:
        first = message.prev_index + 1
        is_here = self._conflict_before(message.prev_index, message.prev_term) is None
        if is_here and self.log.first_index < first <= self.log.last_index:
            self._truncate(first)
        super()._on_append(voter, message)


class TruncatesWhatMatches(SimNode):
    """Every append cuts the log behind its first entry, as published."""

    raft_class = _TruncatesWhatMatches


class _CommitsWhatItDidNotCompare(Raft):
    def _may_commit(self, match_index: int) -> int:
        return max(match_index, self.log.last_index)


class CommitsWhatItDidNotCompare(SimNode):
    """The leader's commit index is believed for entries that this leader never sent."""

    raft_class = _CommitsWhatItDidNotCompare


class _CommitsOnAChunk(Raft):
    def _dispatch(self, voter: str, message: AnyMessage) -> None:
        if isinstance(message, Chunk):
            self._commit_to(min(message.index, self.log.last_index))
        super()._dispatch(voter, message)


class CommitsOnAChunk(SimNode):
    """A piece of a snapshot moves the commit index over the receiver's own tail, as published."""

    raft_class = _CommitsOnAChunk


class InstallsOldSnapshots(SimNode):
    """A snapshot that arrives late takes the state back, and the log behind it goes."""

    def on_chunk(self, voter: str, chunk: Chunk) -> None:
        self._snapshots.index = 0
        self.send(voter, self._snapshots.received(voter, chunk, 0, self._installed))

    def _installed(self, taken: Snapshot) -> None:
        self.state = taken.state
        self._raft.log.reset(taken.index, taken.term)
        self._raft._SyncObj__raftCommitIndex = taken.index
        self._raft._SyncObj__raftLastApplied = taken.index
        self._raft.adopt_members(taken.members)


class _CommitsEarlierTerms(Raft):
    def tick(self) -> None:
        if self.is_leader:
            voters = self.members.voters
            ends = sorted(
                self.log.last_index if voter == self.me else self.match_index(voter)
                for voter in voters
            )
            self._commit_to(ends[(len(ends) - 1) // 2])
        super().tick()


class CommitsEarlierTerms(SimNode):
    """A new leader commits its predecessors' entries by counting copies."""

    raft_class = _CommitsEarlierTerms


class _AppendsWithoutComparing(Raft):
    def _conflict_before(self, prev_index: int, prev_term: int) -> int | None:
        return None if prev_index <= self.log.last_index else self.log.last_index + 1


class AppendsWithoutComparing(SimNode):
    """Entries are taken whatever stands before them."""

    raft_class = _AppendsWithoutComparing


class _NeverTruncates(Raft):
    def _append_entry(self, index: int, term: int, command: bytes) -> None:
        if self.log.term_at(index) is None:
            super()._append_entry(index, max(term, self.log[-1][2]), command)


class NeverTruncates(SimNode):
    """An entry that is here stays, whatever the leader says."""

    raft_class = _NeverTruncates


class _ListensToThePast(Raft):
    def _answer_stale(self, voter: str, message: AnyMessage) -> None:
        if isinstance(message, Append) and not self.is_leader:
            self._on_append(voter, message)
        else:
            super()._answer_stale(voter, message)


class ListensToThePast(SimNode):
    """Entries of a leader of an earlier term are taken and acknowledged."""

    raft_class = _ListensToThePast


class _AppliesBeforeCommit(Raft):
    def _SyncObj__applyLogEntries(self) -> bool:
        self._commit_to(self.log.last_index if self.is_leader else 0)
        return bool(super()._SyncObj__applyLogEntries())


class AppliesBeforeCommit(SimNode):
    """A leader commits what it has written, without asking anybody."""

    raft_class = _AppliesBeforeCommit


class _KeepsALogThatDiffers(Raft):
    def installed(self, index: int, term: int, members: Members) -> None:
        super().installed(index, self.log.term_at(index) or term, members)


class KeepsALogThatDiffers(SimNode):
    """What stands behind a snapshot stays, though the log is not the snapshot's."""

    raft_class = _KeepsALogThatDiffers


class _KeepsTruncatedMembers(Raft):
    def _truncate(self, index: int) -> None:
        self.log.deleteEntriesFrom(index - self.log.first_index)


class KeepsTruncatedMembers(SimNode):
    """A change of members whose entry was overruled stays in force."""

    raft_class = _KeepsTruncatedMembers


class _KeepsOverruledMembers(_KeepsTruncatedMembers):
    def _SyncObj__onBecomeLeader(self) -> None:
        with patch.object(self, "_append_members", self._append_no_op):
            super()._SyncObj__onBecomeLeader()

    def _append_no_op(self, _members: Members) -> None:
        self.log.add(NO_OP, self.log.last_index + 1, self.term)
        self._members_changed()

    def change_members(self, members: Members) -> bool:
        is_its_term_settled = self.log.term_at(self.commit_index) == self.term
        return is_its_term_settled and super().change_members(members)


class KeepsOverruledMembers(SimNode):
    """The same with its other lock picked, too: the first entry of a term does not name the
    members, so nothing puts right what a change that was overruled has left behind."""

    raft_class = _KeepsOverruledMembers


# ---- elections -----------------------------------------------------------------------------------


class _CountsVotesNotVoters(Raft):
    def _counts(self, votes: set[str], voter: str) -> bool:
        votes.add(f"{voter} {len(votes)}")
        return 2 * len(votes) > len(self.members.voters)


class CountsVotesNotVoters(SimNode):
    """A vote that arrives twice counts twice, as published."""

    raft_class = _CountsVotesNotVoters


class _CountsVotesOfThePast(Raft):
    def _answer_stale(self, voter: str, message: AnyMessage) -> None:
        if isinstance(message, VoteReply) and self._SyncObj__raftState == CANDIDATE:
            self._on_vote_reply(voter, message)
        else:
            super()._answer_stale(voter, message)


class CountsVotesOfThePast(SimNode):
    """A vote counts in whatever term it arrives."""

    raft_class = _CountsVotesOfThePast


class _VotesTwice(Raft):
    def _on_vote(self, voter: str, request: Vote) -> None:
        self._SyncObj__votedForNodeId = None
        super()._on_vote(voter, request)


class VotesTwice(SimNode):
    """A vote is given to everybody who asks."""

    raft_class = _VotesTwice


class _VotesInThePast(Raft):
    def _answer_stale(self, voter: str, message: AnyMessage) -> None:
        if isinstance(message, Vote) and self._is_up_to_date(message):
            self.machine.send(voter, VoteReply(message.term, is_pre=False, granted=True))
        else:
            super()._answer_stale(voter, message)


class VotesInThePast(SimNode):
    """A vote is given in a term that is over for the voter."""

    raft_class = _VotesInThePast


class _ElectsByHalf(Raft):
    def _counts(self, votes: set[str], voter: str) -> bool:
        votes.add(voter)
        return 2 * len(votes.intersection(self.members.voters)) >= len(self.members.voters)


class ElectsByHalf(SimNode):
    """Half of the voters are enough. It shows while their number is even."""

    raft_class = _ElectsByHalf


class _VotesForTheOutdated(Raft):
    def _is_up_to_date(self, request: Vote) -> bool:
        return True


class VotesForTheOutdated(SimNode):
    """A vote is given to a candidate who lacks what is committed."""

    raft_class = _VotesForTheOutdated


# ---- members -------------------------------------------------------------------------------------


class BelievesItsOwnLog(SimNode):
    """Who wishes that a member leave takes its own log's word for it."""

    def tick(self) -> None:
        committed = self._raft.members_at(self._raft.commit_index)
        for wish in list(self._membership._wishes):
            if committed.voters and is_fulfilled(committed, wish.change):
                self._membership.replied(wish.change)
        super().tick()


class _ChangesAllAtOnce(Raft):
    def change_members(self, members: Members) -> bool:
        if not self.is_leader:
            return False
        self._append_members(members)
        self._SyncObj__sendAppendEntries()
        return True


class ChangesAllAtOnce(SimNode):
    """A change of members does not wait until the one before it, and the term, are settled."""

    raft_class = _ChangesAllAtOnce


class _ChangesBeforeItsTerm(Raft):
    def change_members(self, members: Members) -> bool:
        if self.is_leader and self.log.term_at(self.commit_index) != self.term:
            del self._members[-1]
        return super().change_members(members)


class ChangesBeforeItsTerm(SimNode):
    """A new leader changes the members before it has committed anything of its own."""

    raft_class = _ChangesBeforeItsTerm


class KeepsItsNameOnANewDisk(SimNode):
    """A voter that forgot everything goes on under its old name."""

    def open(self) -> None:
        if self._disk is not None and self._rng.random() < 0.2:
            for name in ("journal", "snapshot"):
                self._disk.remove(name)
        super().open()


# ---- answers -------------------------------------------------------------------------------------


class ForgetsItsAnswers(SimNode):
    """A repeated command runs again."""

    def apply(self, index: int, command: bytes) -> None:
        self.state = msgspec.structs.replace(self.state, clients=PMap())
        super().apply(index, command)


class GuessesOutcomes(SimNode):
    """A command that got no answer in time is called void."""

    def tick(self) -> None:
        for proposal in self._proposals._sent.values():
            if proposal.deadline <= self._clock() and not proposal.is_abandoned:
                proposal.on_done(NoLeader("surely not"))
                proposal.on_done = _nobody
        super().tick()


class AnswersBarriersAtOnce(SimNode):
    """A barrier is answered from what is here."""

    def submit(self, command: AnyCommand, on_done: OnDone, *, timeout_s: float = 4.0) -> None:
        if isinstance(command, Barrier):
            on_done(Applied("", self.state.revision))
        else:
            super().submit(command, on_done, timeout_s=timeout_s)


def _nobody(_outcome: Applied | Exception) -> None:
    """Has its answer already."""


FAULTS: Mapping[str, type[SimNode]] = {
    each.__name__: each
    for each in (
        SendsBeforeItIsDurable,
        CommitsBeforeItIsDurable,
        ForgetsItsVote,
        NeverSyncsFiles,
        TrustsThePageCache,
        BelievesItsOwnLog,
        NeverSyncsDirectories,
        KeepsATornTail,
        TrustsItsJournal,
        TrimsBeforeTheSnapshot,
        CountsAcksOfThePast,
        TruncatesWhatMatches,
        CommitsWhatItDidNotCompare,
        CommitsOnAChunk,
        InstallsOldSnapshots,
        CommitsEarlierTerms,
        AppendsWithoutComparing,
        NeverTruncates,
        ListensToThePast,
        AppliesBeforeCommit,
        KeepsALogThatDiffers,
        KeepsTruncatedMembers,
        KeepsOverruledMembers,
        CountsVotesNotVoters,
        CountsVotesOfThePast,
        VotesTwice,
        VotesInThePast,
        ElectsByHalf,
        VotesForTheOutdated,
        ChangesAllAtOnce,
        ChangesBeforeItsTerm,
        KeepsItsNameOnANewDisk,
        ForgetsItsAnswers,
        GuessesOutcomes,
        AnswersBarriersAtOnce,
    )
}
