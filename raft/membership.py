"""Wishes to join, leave or replace, until they are fulfilled (pure but for the calls it is given).

Whoever wishes repeats the wish until its own log, or the leader, says that it is so. The leader
takes one step at a time and remembers nothing: the wish that comes again is the memory."""

from collections.abc import Callable

from raft.core import HardenedRaft
from raft.errors import OutcomeUnknown, RaftError
from raft.members import MemberChange, Members, is_fulfilled, next_step, promoted
from raft.messages import AnyMessage, MemberReply, MemberRequest

REPEAT_S = 0.25

OnMember = Callable[[RaftError | None], None]


class Wish:
    """One change somebody here waits for."""

    __slots__ = ("change", "deadline", "on_done", "repeat_at")

    def __init__(self, change: MemberChange, on_done: OnMember, deadline: float) -> None:
        self.change = change
        self.on_done = on_done
        self.deadline = deadline
        self.repeat_at = float("-inf")


class Membership:
    """Both ends of the talk about members."""

    def __init__(
        self,
        raft: HardenedRaft,
        send: Callable[[str, AnyMessage], object],
        may_vote: Callable[[str], bool],
    ) -> None:
        self._raft = raft
        self._send = send
        self._may_vote = may_vote
        self._wishes: list[Wish] = []

    def add(self, wish: Wish) -> None:
        self._wishes.append(wish)

    def tick(self, now: float, connected: frozenset[str]) -> None:
        """Repeat what is not fulfilled, and let a learner that has caught up vote."""
        for wish in list(self._wishes):
            if self._is_so(wish.change):
                self._end(wish, None)
            elif now >= wish.deadline:
                self._end(wish, OutcomeUnknown("the members did not change in time; they may yet"))
            elif now >= wish.repeat_at:
                wish.repeat_at = now + REPEAT_S
                self._ask(wish.change, connected)
        if self._raft.is_leader:
            self._promote(now)

    def _end(self, wish: Wish, error: RaftError | None) -> None:
        self._wishes.remove(wish)
        wish.on_done(error)

    def _is_so(self, change: MemberChange) -> bool:
        committed = self._raft.members_at(self._raft.commit_index)
        return bool(committed.voters) and is_fulfilled(committed, change)

    def _ask(self, change: MemberChange, connected: frozenset[str]) -> None:
        if self._raft.is_leader:
            self.requested("", change)
            return
        leader = self._raft.leader
        for voter in [leader] if leader is not None and leader in connected else sorted(connected):
            self._send(voter, MemberRequest(change))

    def requested(self, voter: str, change: MemberChange) -> None:
        """Somebody's wish reached us. Whoever does not lead leaves it to be repeated elsewhere."""
        if not self._raft.is_leader:
            return
        if self._is_so(change):
            if voter:
                self._send(voter, MemberReply(change))
            return
        if change.leaves == self._raft.me:
            self.hand_over()
            return
        members = next_step(self._raft.members, change, self._raft.me)
        if members is not None and self._reaches_majority(members):
            self._raft.change_members(members)

    def _reaches_majority(self, members: Members) -> bool:
        """Whether those who could commit `members` are there. While a voter is dead, another one
        that goes may take the majority along, and then nothing would ever bring it back."""
        answering = {voter for voter in members.voters if self._raft.answers(voter)}
        return members.is_majority({self._raft.me, *answering})

    def replied(self, change: MemberChange) -> None:
        for wish in [wish for wish in self._wishes if wish.change == change]:
            self._end(wish, None)

    def hand_over(self) -> bool:
        """Ask the member that has most of our log to lead. False when nobody is ready yet."""
        others = [voter for voter in self._raft.members.voters if voter != self._raft.me]
        reachable = [voter for voter in others if self._raft.is_connected(voter)]
        best = max(reachable, key=lambda each: (self._raft.match_index(each), each), default=None)
        return best is not None and self._raft.transfer(best)

    def _promote(self, now: float) -> None:
        for learner in self._raft.learners_caught_up():
            members = promoted(self._raft.members, learner)
            is_there = self._raft.is_connected(learner) and self._may_vote(learner)
            if members is not None and is_there:
                self._raft.change_members(members)
                return

    def fail(self, error: RaftError) -> None:
        """The node stops."""
        for wish in list(self._wishes):
            self._end(wish, error)
