"""Who takes part in Raft, and how that may change (pure).

One voter at a time: the majorities before and after such a change always share a member, so no two
leaders can be elected by one and the other. A newcomer begins as a learner, receives the log, and
becomes a voter when it has caught up; beyond five voters it stays a learner, because more voters
make every command slower and nothing safer.

A voter id is the id of its disk. A machine whose disk is gone comes back as another voter: it
forgot how it voted."""

import msgspec

VOTERS_MAX = 5


class Members(msgspec.Struct, frozen=True, array_like=True):
    """Voter ids, sorted. Nobody is in both."""

    voters: tuple[str, ...]
    learners: tuple[str, ...] = ()
    """Those who receive the log and have no vote."""

    def __contains__(self, voter: str) -> bool:
        return voter in self.voters or voter in self.learners

    def is_majority(self, some: set[str]) -> bool:
        """Whether more than half of the voters are among `some`."""
        return 2 * len(some.intersection(self.voters)) > len(self.voters)


class MemberChange(msgspec.Struct, frozen=True, array_like=True):
    """A wish: `joins` takes part, `leaves` does not. Either may be ""; both together replace a
    member."""

    joins: str
    leaves: str


def is_fulfilled(members: Members, change: MemberChange) -> bool:
    """Whether there is nothing left to do for `change`."""
    has_joined = not change.joins or change.joins in members
    return has_joined and (not change.leaves or change.leaves not in members)


def next_step(members: Members, change: MemberChange, leader: str) -> Members | None:
    """The next single change on the way to `change`; None when there is none that `leader` may
    make.

    The one who leaves goes first: a member that is dead only makes majorities harder. A leader does
    not remove itself; it hands over first. The last voter never goes."""
    if change.leaves and change.leaves in members:
        voters = tuple(voter for voter in members.voters if voter != change.leaves)
        learners = tuple(voter for voter in members.learners if voter != change.leaves)
        return None if change.leaves == leader or not voters else Members(voters, learners)
    if change.joins and change.joins not in members:
        return Members(members.voters, tuple(sorted((*members.learners, change.joins))))
    return None


def promoted(members: Members, learner: str) -> Members | None:
    """`learner` with a vote; None when there are enough voters."""
    if learner not in members.learners or len(members.voters) >= VOTERS_MAX:
        return None
    learners = tuple(voter for voter in members.learners if voter != learner)
    return Members(tuple(sorted((*members.voters, learner))), learners)


def is_single_step(before: Members, after: Members) -> bool:
    """Whether at most one voter differs, which is all that is safe at a time."""
    return len(set(before.voters) ^ set(after.voters)) <= 1
