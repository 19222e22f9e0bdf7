"""Wishes to join, leave or replace, until they are fulfilled (pure but for the calls it is given).

Whoever wishes repeats the wish until the leader says that it is so: its own log may be old, and say
of somebody who has joined since that it has left. The leader takes one step at a time and remembers
nothing of it: the wish that comes again is the memory. It says so only when an entry that it wrote
after it was asked is committed, since it may have been deposed without knowing."""

from collections.abc import Callable
from dataclasses import dataclass

from raft.core import HardenedRaft
from raft.errors import OutcomeUnknown, RaftError
from raft.members import MemberChange, Members, is_fulfilled, next_step, promoted
from raft.messages import AnyMessage, MemberReply, MemberRequest

REPEAT_S = 0.1

CONFIRM_S = 1.0
"""How long an entry may take that is to show that a wish is fulfilled; then another is written."""

OnMember = Callable[[RaftError | None], None]


class Wish:
    """One change somebody here waits for."""

    __slots__ = ("change", "deadline", "on_done", "repeat_at")

    def __init__(self, change: MemberChange, on_done: OnMember, deadline: float) -> None:
        self.change = change
        self.on_done = on_done
        self.deadline = deadline
        self.repeat_at = float("-inf")


@dataclass(frozen=True, slots=True)
class _Proof:
    """The entry whose commit shows that its leader still was the leader."""

    term: int
    index: int
    written_at: float


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
        self._proofs: dict[tuple[str, MemberChange], _Proof] = {}
        """As leader: by who asks for what."""
        self._now = float("-inf")

    def add(self, wish: Wish) -> None:
        self._wishes.append(wish)

    def tick(self, now: float, connected: frozenset[str]) -> None:
        """Repeat what is not fulfilled, and let a learner that has caught up vote."""
        self._now = now
        self._proofs = {
            asked: proof
            for asked, proof in self._proofs.items()
            if now - proof.written_at < CONFIRM_S
        }
        for wish in list(self._wishes):
            if now >= wish.deadline:
                self._end(wish, OutcomeUnknown("the members did not change in time; they may yet"))
            elif now >= wish.repeat_at:
                wish.repeat_at = now + REPEAT_S
                self._ask(wish.change, connected)
        if self._raft.is_leader:
            self._promote()

    def _end(self, wish: Wish, error: RaftError | None) -> None:
        self._wishes.remove(wish)
        wish.on_done(error)

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
        if is_fulfilled(self._raft.members, change):
            if self._is_proven(voter, change):
                self._reply(voter, change)
            return
        if change.leaves == self._raft.me:
            self.hand_over()
            return
        members = next_step(self._raft.members, change, self._raft.me)
        if members is not None and self._reaches_majority(members):
            self._raft.change_members(members)

    def _is_proven(self, voter: str, change: MemberChange) -> bool:
        """Whether an entry from after the question is committed; it is written with the first one.
        It names the members, and so settles any change before it, too."""
        proof = self._proofs.get((voter, change))
        if proof is not None and proof.term == self._raft.term:
            return self._raft.commit_index >= proof.index
        if self._raft.change_members(self._raft.members):
            self._proofs[voter, change] = _Proof(
                self._raft.term, self._raft.log.last_index, self._now
            )
        return False

    def _reply(self, voter: str, change: MemberChange) -> None:
        del self._proofs[voter, change]
        if voter:
            self._send(voter, MemberReply(change))
        else:
            self.replied(change)

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

    def _promote(self) -> None:
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
