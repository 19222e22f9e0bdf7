"""Short terms, one after the other: each has a candidate, a company that hears it, and little time.

Entries and changes of members are left with some, overruled by others who did not hear of them, and
carried on by a third who heard half of it. It is the Raft paper's figure 8, in any order and at any
length. Patience is taken from everybody, because no promise rests on it."""

import random
from collections import deque
from functools import partial

from raft import messages
from raft.ground import NEVER
from raft.members import MemberChange
from raft.messages import Append
from tests.sim.raft.cluster import Cluster, Member, SimNode
from tests.sim.raft.network import PATIENCE_S, RECONNECT_S

SETTLE_S = 0.03
"""Until a company is connected."""


class Rounds:
    """Begun again and again, until the troubles end."""

    ROUND_S = (0.02, 0.05, 0.1, 0.3)
    ASKS: tuple[int, ...] = (1, 1, 3, 10)
    SAID_MAX = 100
    WISH_RATE = 0.5

    def __init__(self, cluster: Cluster, rng: random.Random, end: float) -> None:
        self._cluster = cluster
        self._network = cluster.network
        self._scheduler = cluster.scheduler
        self._rng = rng
        self._end = end
        self._until = 0.0
        self._said: dict[str, deque[tuple[str, bytes]]] = {}
        """The last messages to each, and from whom: some come again in a later round."""
        self._left: dict[tuple[str, str], int] = {}
        """Messages with entries that may still pass in this round; any number, when it is not
        here."""

    def begin(self) -> None:
        """Some seconds of rounds."""
        now = self._scheduler.now
        is_running = now < self._until
        self._until = min(self._end, now + self._rng.choice([3.0, 8.0, 15.0]))
        self._changes_members = self._rng.random() < 0.5
        names = sorted(self._cluster.members)
        self._rivals = self._rng.sample(names, min(len(names), self._rng.choice([2, len(names)])))
        """Those who stand: two depose each other again and again, or anybody does."""
        self._power_rate = self._rng.choice([0.0, 0.1, 0.3])
        self._repeat_rate = self._rng.choice([0.0, 0.3, 0.7])
        self._network.reconnect_s = (0.001, 0.01)
        self._network.patience_s = (0.01, 0.1)
        self._network.echo_rate = self._rng.choice([0.0, 0.1, 0.4])
        if not is_running:
            self._round()

    def may_pass(self, source: str, target: str, data: bytes) -> bool:
        """Whether this message is not one too many of its round."""
        if self._scheduler.now < self._until:
            self._said.setdefault(target, deque(maxlen=self.SAID_MAX)).append((source, data))
        left = self._left.get((source, target))
        if left is None:
            return True
        message = messages.decode(data)
        if isinstance(message, Append) and message.entries:
            self._left[source, target] = left - 1
            return left > 0
        return True

    def _round(self) -> None:
        self._left.clear()
        live = self._cluster.live()
        if self._scheduler.now >= self._until or not live:
            self._until = 0.0
            self._network.set_cut(set(), 0.0)
            self._network.reconnect_s = RECONNECT_S
            self._network.patience_s = PATIENCE_S
            return
        names = list(self._cluster.members)
        rivals = [member for member in live if member.name in self._rivals]
        candidate = self._candidate([member.name for member in rivals or live])
        others = [name for name in names if name != candidate]
        company = {candidate, *self._company(candidate, others)}
        self._separate(names, company)
        self._ration(candidate, company)
        after = self._scheduler.after
        after(SETTLE_S, partial(self._elect, sorted(company), candidate))
        if self._rng.random() < 0.25:
            rival = self._rng.choice(names)
            after(SETTLE_S + self._rng.choice([0.0, 0.003]), partial(self._elect, [rival], rival))
        for _ in range(self._rng.choice([0, 1, 1, 2])):
            after(SETTLE_S + self._rng.uniform(0.005, 0.05), partial(self._ask, candidate))
        if self._rng.random() < self._repeat_rate:
            for target in sorted(company):
                self._repeat(target)
        if self._rng.random() < self._power_rate:
            unlucky = self._rng.choice(sorted(company))
            after(SETTLE_S + self._rng.uniform(0.0, 0.1), partial(self._power, unlucky))
        elif self._rng.random() < self._power_rate:
            self._cluster.members[
                self._rng.choice(sorted(company))
            ].messages_left = self._rng.choice([1, 1, 2, 3, 5])
        after(SETTLE_S + self._rng.choice(self.ROUND_S), self._round)

    def _candidate(self, rivals: list[str]) -> str:
        return self._rng.choice(rivals)

    def _company(self, _candidate: str, others: list[str]) -> list[str]:
        """Those who hear the candidate: just enough for a majority, all, or too few."""
        enough = (len(others) + 1) // 2
        count = self._rng.choice(
            [enough, enough, enough, len(others), self._rng.randint(0, enough)]
        )
        return self._rng.sample(others, min(count, len(others)))

    def _separate(self, names: list[str], company: set[str]) -> None:
        """The company hears itself; sometimes also the others, or they it, or they each other."""
        cut = {(a, b) for a in names for b in names if a != b and not {a, b} <= company}
        kind = self._rng.choice(["alone", "alone", "two", "heard"])
        if kind == "two":
            cut = {(a, b) for a, b in cut if (a in company) != (b in company)}
        elif kind == "heard":
            cut = {(a, b) for a, b in cut if b not in company}
        self._network.set_cut(cut, 0.0)

    def _ration(self, candidate: str, company: set[str]) -> None:
        """How many messages with entries each may get."""
        rations = self._rng.choice([(), (0, 1, 1, 2, 9, 9), (0, 0, 9)])
        for target in sorted(company) if rations else ():
            self._left[candidate, target] = self._rng.choice(rations)

    def _elect(self, company: list[str], candidate: str) -> None:
        for name in company:
            node = self._node(name)
            if node is not None:
                node._raft._heard_leader_at = -NEVER
        node = self._node(candidate)
        if node is not None and node._raft.is_voter and not node.is_leader:
            node._raft.campaign()
            self._cluster.members[candidate].wake()

    def _ask(self, name: str) -> None:
        member = self._cluster.members.get(name)
        if member is None or member.node is None:
            return
        for _ in range(self._rng.choice(self.ASKS)):
            self._cluster.ask(member)
        if self._changes_members and self._rng.random() < self.WISH_RATE:
            self._change_members(member)

    def _change_members(self, member: Member) -> None:
        """Somebody goes, or somebody who went comes back: said to this leader alone, once."""
        change = self._cluster.change
        node = member.node
        if node is None or not node.is_leader or (change is not None and change.leaves):
            return
        wish = None
        gone = [name for name in self._cluster.members if name not in node.members]
        if gone and self._rng.random() < 0.7:
            wish = MemberChange(self._rng.choice(gone), "")
        elif len(node.members.voters) > 2:
            others = [voter for voter in node.members.voters if voter != member.name]
            wish = MemberChange("", self._rng.choice(others))
        if wish is not None:
            self._tell(member, node, wish)

    def _tell(self, member: Member, node: SimNode, wish: MemberChange) -> None:
        member.guard(partial(node._membership.requested, "", wish))
        member.wake()

    def _repeat(self, target: str) -> None:
        said = list(self._said.get(target, ()))
        if self._rng.random() < 0.5:
            said = [each for each in said if not isinstance(messages.decode(each[1]), Append)]
        for source, data in self._rng.sample(said, min(len(said), self._rng.choice([0, 1, 3, 10]))):
            late_s = SETTLE_S + self._rng.uniform(0.005, 0.1)
            self._scheduler.after(late_s, partial(self._network.repeat, source, target, data))

    def _power(self, name: str) -> None:
        member = self._cluster.members.get(name)
        if member is not None and member.node is not None:
            member.kill(power=True)
            self._cluster.restart_later(member, 0.02)

    def _node(self, name: str) -> SimNode | None:
        member = self._cluster.members.get(name)
        return None if member is None else member.node
