"""What happens to a cluster: one trouble after another, of the kinds that a seed has chosen."""

import random

from tests.sim.raft.absence import Absence
from tests.sim.raft.cluster import Cluster, Member
from tests.sim.raft.disk import PowerCut
from tests.sim.raft.feud import Feud
from tests.sim.raft.leaders import LeaderTroubles
from tests.sim.raft.reigns import Reigns
from tests.sim.raft.rounds import Rounds

SIZE_MIN, SIZE_MAX = 3, 7
"""Machines, while the members change. A machine may only be lost for good while the others are a
majority."""
SETTLED_S = 0.5
"""By then everybody is connected."""
FEUDS_FROM = 1_000_000
"""Seeds from here on are a feud from beginning to end, with few troubles beside it."""
REIGNS_FROM = 2_000_000
"""And from here on one fall and return of a leader after the other, likewise."""
ABSENCES_FROM = 3_000_000
"""And from here on somebody is away while another one joins."""
TROUBLES = (
    "kill",
    "power",
    "blackout",
    "partition",
    "one_way",
    "isolate",
    "return_to_power",
    "slow",
    "stale",
    "pause",
    "compact",
    "bomb",
    "transfer",
    "members",
    "mute",
    "storm",
    "last_words",
    "waver",
    "rounds",
)
BESIDE_A_FEUD = ("kill", "power", "compact", "bomb", "last_words", "stale", "slow")


def is_feud(seed: int) -> bool:
    """See `feud.py`."""
    return FEUDS_FROM <= seed < REIGNS_FROM


def is_reigns(seed: int) -> bool:
    """See `reigns.py`."""
    return REIGNS_FROM <= seed < ABSENCES_FROM


class Troubles(LeaderTroubles):
    """A seed decides the kinds and their rate; `end` is when they stop."""

    def __init__(self, cluster: Cluster, rng: random.Random, end: float) -> None:
        super().__init__(cluster, rng, end)
        self.kinds = sorted(rng.sample(TROUBLES, rng.randint(2, len(TROUBLES))))
        self.quiet_s = rng.choice([0.3, 1.0, 3.0])
        self._rounds = Rounds(cluster, rng, end)
        cluster.network.may_pass = self.may_pass
        if cluster.seed >= FEUDS_FROM:
            self.kinds = sorted(rng.sample(BESIDE_A_FEUD, rng.randint(1, 3)))
            self.quiet_s = 3.0
            kind: type[Rounds] = Feud if is_feud(cluster.seed) else Reigns
            if cluster.seed >= ABSENCES_FROM:
                kind, self.kinds = Absence, ["compact"]
            self._rounds = kind(cluster, rng, end)
            cluster.scheduler.after(SETTLED_S, self._rounds.begin)

    def may_pass(self, source: str, target: str, data: bytes) -> bool:
        """For the network: see there."""
        is_said = self.may_speak(source, target, data)
        return self._rounds.may_pass(source, target, data) and is_said

    def rounds(self) -> None:
        """See `rounds.py`."""
        self._rounds.begin()

    def go_on(self) -> None:
        """The next trouble, and so on."""
        if self.cluster.scheduler.now >= self.end:
            return
        getattr(self, self.rng.choice(self.kinds))()
        if self.rng.random() < 0.3:
            self.calm()
        self.cluster.scheduler.after(self.rng.expovariate(1 / self.quiet_s), self.go_on)

    def calm(self) -> None:
        self.cluster.network.set_cut(set(), 0.0)
        self.cluster.network.delay_s = (0.0005, 0.005)
        self.cluster.network.echo_rate = 0.0

    def down(self, member: Member, *, power: bool) -> None:
        member.kill(power=power)
        self.cluster.restart_later(member)

    def kill(self) -> None:
        self.with_someone(lambda member: self.down(member, power=False))

    def power(self) -> None:
        self.with_someone(lambda member: self.down(member, power=True))

    def blackout(self) -> None:
        power = self.rng.random() < 0.7
        for member in self.cluster.live():
            self.down(member, power=power)

    def partition(self) -> None:
        names = list(self.cluster.members)
        if len(names) < 2:
            return
        away = set(self.rng.sample(names, self.rng.randint(1, len(names) // 2)))
        cut = {(a, b) for a in names for b in names if (a in away) != (b in away)}
        self.cluster.network.set_cut(cut, self.rng.choice([0.0, 0.3, 2.0]))
        if self.rng.random() < 0.3:
            self.stale()

    def one_way(self) -> None:
        names = list(self.cluster.members)
        pairs = [(a, b) for a in names for b in names if a != b]
        if not pairs:
            return
        cut = set(self.rng.sample(pairs, self.rng.randint(1, len(pairs) // 2)))
        self.cluster.network.set_cut(cut, self.rng.choice([0.3, 2.0]))

    def last_words(self) -> None:
        """A machine will die right after a message has left it."""
        self.with_someone(lambda member: setattr(member, "messages_left", self.rng.randint(1, 30)))

    def slow(self) -> None:
        self.cluster.network.delay_s = (0.001, self.rng.choice([0.03, 0.2, 0.6]))

    def pause(self) -> None:
        until = self.cluster.scheduler.now + self.rng.choice([0.2, 1.0, 4.0])
        self.with_someone(lambda member: setattr(member, "paused_until", until))

    def compact(self) -> None:
        def compact(member: Member) -> None:
            node = member.node
            assert node is not None
            applied = node._raft.applied_index
            if not node._snapshots.is_busy and applied > max(node._snapshots.index, 1):
                node.take_snapshot()

        self.with_someone(compact)

    def bomb(self) -> None:
        """The machine will die in the middle of some disk operation soon."""

        def arm(member: Member) -> None:
            left = self.rng.randint(1, 12)

            def count(_operation: str) -> None:
                nonlocal left
                left -= 1
                if left <= 0:
                    raise PowerCut

            member.disk.on_operation = count

        self.with_someone(arm)

    def members(self) -> None:
        """A machine joins, leaves, or is replaced by one with an empty disk."""
        names = list(self.cluster.members)
        kind = self.rng.choice(["join", "leave", "replace"])
        settled = [name for name in names if self.cluster.is_settled(name)]
        if kind == "join" and len(names) < SIZE_MAX:
            self.cluster.change_members(joins=True)
        elif not settled or len(names) <= SIZE_MIN:
            return
        elif kind == "leave":
            self.cluster.change_members(joins=False, leaves=self.rng.choice(settled))
        elif kind == "replace":
            lost = self.rng.choice(settled)
            if self.can_spare(lost):
                self.cluster.change_members(joins=True, leaves=lost)

    def can_spare(self, name: str) -> bool:
        """Whether the others are a majority, whichever members somebody believes in: without one,
        nothing can be changed any more."""
        members = self.cluster.members.values()
        nodes = [member.node for member in members if member.node is not None]
        if len(nodes) < len(members) or not self.leaders():
            return False
        for voters in (node.members.voters for node in nodes):
            if voters and 2 * len([voter for voter in voters if voter != name]) <= len(voters):
                return False
        return True
