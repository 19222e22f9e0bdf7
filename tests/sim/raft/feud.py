"""Two or three who depose each other for a whole run, and are heard by few.

Rounds as in `rounds.py`, but of a kind in which every rule about terms is needed every second: a
leader's first words reach nobody, or all of them one friend; what it hears are also the answers of
its last reign; its log is long where nobody else has it, and the others' is a snapshot by then;
members go and come back several at a time."""

import random
from functools import partial

from raft.members import MemberChange
from tests.sim.raft.cluster import Cluster, Member, SimNode
from tests.sim.raft.rounds import SETTLE_S, Rounds

CHAPTER_S = 6.0
SOON_S = (0.005, 0.02)
"""How late a message that arrives twice does: within its term."""


class Feud(Rounds):
    """Lasts from `begin` to the end; what it is like changes every few seconds."""

    ASKS = (1, 1, 3, 12)
    SAID_MAX = 400
    WISH_RATE = 0.9

    def __init__(self, cluster: Cluster, rng: random.Random, end: float) -> None:
        super().__init__(cluster, rng, end)
        self._last = ""
        cluster.compact_entries = (5, 40)
        cluster.trailing_entries = (0, 5)
        cluster.restart_s = (0.02, 0.1, 0.5)

    def begin(self) -> None:
        """A chapter, and those after it."""
        if self._scheduler.now >= self._end:
            return
        super().begin()
        self._until = self._end
        names = sorted(self._cluster.members)
        self._rivals = self._rng.sample(names, min(len(names), self._rng.choice([2, 2, 3])))
        self._repeat_rate = self._rng.choice([0.2, 0.5, 0.9])
        self._network.echo_rate = self._rng.choice([0.0, 0.2, 0.5])
        self._network.echo_s = SOON_S
        self._changes_members = self._rng.random() < 0.7
        self._wishes = self._rng.choice([1, 2, 2])
        self._scheduler.after(CHAPTER_S, self.begin)

    def _round(self) -> None:
        rate = 0.12 if self._changes_members else 0.02
        if self._scheduler.now < self._until and self._rng.random() < rate:
            self._truce()
        else:
            super()._round()

    def _truce(self) -> None:
        """Everybody hears everybody, and who was sent away may come back."""
        self._left.clear()
        self._network.set_cut(set(), 0.0)
        names = sorted(self._cluster.members)
        able = [name for name in names if self._can_win(name)]
        if able:
            self._scheduler.after(SETTLE_S, partial(self._elect, names, self._rng.choice(able)))
        for at in (0.2, 0.4, 0.6):
            self._scheduler.after(at, self._welcome)
        self._scheduler.after(0.9, self._round)

    def _welcome(self) -> None:
        for member in self._cluster.live():
            if member.node is not None and member.node.is_leader:
                self._tell_all(member, member.node, self._returns(member.node))

    def _returns(self, node: SimNode) -> list[MemberChange]:
        names = [name for name in self._cluster.members if name not in node.members]
        return [MemberChange(name, "") for name in names]

    def _candidate(self, rivals: list[str]) -> str:
        """Mostly a rival who can win and does not lead yet; else any other such member."""
        able = [name for name in sorted(self._cluster.members) if self._can_win(name)]
        able_rivals = [name for name in able if name in rivals]
        is_able = able and self._rng.random() < 0.9
        self._last = self._rng.choice((able_rivals or able) if is_able else rivals)
        return self._last

    def _can_win(self, name: str) -> bool:
        node = self._node(name)
        if node is None or node.is_leader or not node._raft.is_voter:
            return False
        return node.members.is_majority({name, *self._willing(name)})

    def _willing(self, name: str) -> list[str]:
        """Those whose log is not ahead of this one's."""
        node = self._node(name)
        return [
            member.name
            for member in self._cluster.live()
            if node is not None
            and member.node is not None
            and member.name != name
            and _end(member.node) <= _end(node)
        ]

    def _company(self, candidate: str, others: list[str]) -> list[str]:
        enough = (len(others) + 1) // 2
        count = self._rng.choice([enough, enough, enough, max(1, enough - 1), len(others)])
        willing = self._willing(candidate)
        if len(willing) >= count and self._rng.random() < 0.7:
            others = willing
        return self._rng.sample(others, min(count, len(others)))

    def _ration(self, candidate: str, company: set[str]) -> None:
        """Nobody gets more than a few messages with entries, or nobody but one friend."""
        style = self._rng.choice(["all", "alike", "alike", "alike", "friend", "friend"])
        if style == "all":
            return
        others = sorted(company - {candidate})
        friend = self._rng.choice(others) if others and style == "friend" else ""
        left = self._rng.choice([0, 1] if friend else [0, 0, 1, 2, 2, 3])
        for target in sorted(company):
            if target not in (candidate, friend):
                self._left[candidate, target] = left

    def _change_members(self, member: Member) -> None:
        """Several go, or all who went come back, said at once."""
        change, node = self._cluster.change, member.node
        if node is None or not node.is_leader or (change is not None and change.leaves):
            return
        voters = node.members.voters
        wishes = self._returns(node)
        if not wishes or self._rng.random() < 0.5:
            others = [voter for voter in voters if voter != member.name]
            count = min(self._wishes, len(voters) - 2)
            wishes = [MemberChange("", name) for name in self._rng.sample(others, max(count, 0))]
        self._tell_all(member, node, wishes)

    def _tell_all(self, member: Member, node: SimNode, wishes: list[MemberChange]) -> None:
        for wish in wishes:
            if member.node is node:
                self._tell(member, node, wish)

    def _repeat(self, target: str) -> None:
        """What was answered to it, perhaps in its last reign."""
        if target != self._last:
            super()._repeat(target)
            return
        said = [each for each in self._said.get(target, ()) if _is_answer(each[1])]
        for source, data in self._rng.sample(said, min(len(said), self._rng.choice([3, 10, 30]))):
            late_s = SETTLE_S + self._rng.uniform(0.005, 0.1)
            self._scheduler.after(late_s, partial(self._network.repeat, source, target, data))


def _end(node: SimNode) -> tuple[int, int]:
    _command, index, term = node._raft.log[-1]
    return term, index


def _is_answer(data: bytes) -> bool:
    """By the name that every message begins with: there are too many to decode them all."""
    return b"_reply" in data[:16]
