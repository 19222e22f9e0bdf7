"""Troubles with those who lead: elections nobody needs, leaders cut off, leaders that return."""

import random
from collections.abc import Callable
from functools import partial

from raft import messages
from raft.ground import NEVER
from raft.messages import Append
from tests.sim.raft.cluster import Cluster, Member


class LeaderTroubles:
    """Each method is a trouble, or a part of one."""

    def __init__(self, cluster: Cluster, rng: random.Random, end: float) -> None:
        self.cluster = cluster
        self.rng = rng
        self.end = end
        self._silent = ""
        self._mute_until = 0.0
        self._words: dict[tuple[str, str, int], int] = {}

    def with_someone(self, act: Callable[[Member], object]) -> None:
        live = self.cluster.live()
        if live:
            act(self.rng.choice(live))

    def leaders(self) -> list[Member]:
        """All who believe that they lead."""
        return [m for m in self.cluster.live() if m.node is not None and m.node.is_leader]

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Unless the troubles are over by then."""
        scheduler = self.cluster.scheduler
        if scheduler.now + delay_s < self.end:
            scheduler.after(delay_s, act)

    def stale(self) -> None:
        """For a while, messages arrive twice, or after the connection they were sent on is gone."""
        self.cluster.network.echo_rate = self.rng.choice([0.02, 0.2, 0.5])

    def isolate(self) -> None:
        """A leader that reaches one other at best goes on taking commands: its log and the others'
        part ways."""
        leaders = self.leaders()
        if not leaders or len(self.cluster.members) < 2:
            return
        leader = self.rng.choice(leaders)
        others = [name for name in self.cluster.members if name != leader.name]
        kept = set(self.rng.sample(others, self.rng.randint(0, 1)))
        lost = [name for name in others if name not in kept]
        cut = {(leader.name, name) for name in lost} | {(name, leader.name) for name in lost}
        if kept and self.rng.random() < 0.5:
            cut |= {(name, leader.name) for name in kept}
        self.cluster.network.set_cut(cut, self.rng.choice([0.3, 2.0]))
        for _ in range(self.rng.randint(1, 10)):
            self.cluster.ask(leader)

    def return_to_power(self) -> None:
        """A leader keeps entries with one follower, loses power, wins it back, and hears old words.

        Meanwhile another led and overruled those entries; what the follower acknowledged then must
        not count for what the old leader writes at the same places now.
        """
        leaders = [m for m in self.cluster.live() if m.node is not None and m.node.is_leader]
        names = list(self.cluster.members)
        if not leaders or len(names) < 3:
            return
        leader, network, after = leaders[0], self.cluster.network, self.later
        friend, *rest = self.rng.sample(
            [name for name in names if name != leader.name], len(names) - 1
        )

        def ask() -> None:
            for _ in range(self.rng.randint(2, 6)):
                self.cluster.ask(leader)

        def away_from(others: list[str]) -> None:
            cut = {(leader.name, name) for name in others} | {(n, leader.name) for n in others}
            network.set_cut(cut, self.rng.choice([0.05, 0.3]))

        def return_() -> None:
            for member in self.leaders():
                if member.node is not None:
                    member.guard(partial(member.node._raft.transfer, leader.name))

        network.echo_rate = 0.5
        away_from(rest)
        ask()
        after(0.3, lambda: away_from([friend, *rest]))
        after(self.rng.uniform(1.8, 2.8), lambda: network.set_cut(set(), 0.0))
        for at in (3.2, 3.5, 3.8, 4.1):
            after(at, return_)
        after(4.2, lambda: away_from([friend, *rest[1:]]))
        after(4.25, ask)
        after(5.5, lambda: leader.kill(power=True))
        after(5.6, lambda: self.cluster.restart_later(leader))

    def mute(self) -> None:
        """For a while, whoever leads falls silent after a few messages with entries, until the next
        leader does: short terms, each of which leaves its own entries with some of the others."""
        self._mute_until = self.cluster.scheduler.now + self.rng.choice([4.0, 10.0, 20.0])
        if self.rng.random() < 0.5:
            self.stale()

    def may_speak(self, source: str, target: str, data: bytes) -> bool:
        """Whether this message is not one too many of its term."""
        if self.cluster.scheduler.now >= self._mute_until:
            self._silent = ""
            return True
        if source == self._silent:
            return False
        message = messages.decode(data)
        if not isinstance(message, Append) or not message.entries:
            return True
        key = (source, target, message.term)
        left = self._words.setdefault(key, self.rng.choice([0, 0, 1, 2, 2, 3, 5]))
        self._words[key] = left - 1
        if left <= 0:
            self.fall_silent(source)
        return left > 0

    def fall_silent(self, name: str) -> None:
        last, self._silent = self._silent, name
        if last:
            self.cluster.scheduler.after(0.0, partial(self.cluster.network.reset, last))
        for _ in range(self.rng.choice([0, 1, 4])):
            self.cluster.scheduler.after(0.01, partial(self.ask, name))

    def ask(self, name: str) -> None:
        if name in self.cluster.members:
            self.cluster.ask(self.cluster.members[name])

    def storm(self) -> None:
        """Elections nobody needs, several at once: no promise rests on patience."""
        end = self.cluster.scheduler.now + self.rng.choice([1.0, 3.0])
        self.cluster.network.delay_s = (0.001, self.rng.choice([0.005, 0.05, 0.3]))
        self.stale()
        self.stand(end)

    def stand(self, end: float) -> None:
        live = [m for m in self.cluster.live() if m.node is not None]
        for member in live:
            assert member.node is not None
            raft = member.node._raft
            raft._heard_leader_at = -NEVER
            if raft.is_voter and not raft.is_leader and self.rng.random() < 0.6:
                raft.campaign()
                member.wake()
        delay_s = self.rng.expovariate(1 / 0.15)
        if self.cluster.scheduler.now + delay_s < min(end, self.end):
            self.cluster.scheduler.after(delay_s, partial(self.stand, end))

    def waver(self) -> None:
        """Members who go and come back, asked of a leader that may be alone."""
        if self.rng.random() < 0.7:
            self.isolate()
        leaders = self.leaders()
        if not leaders:
            return
        node = self.rng.choice(leaders).node
        assert node is not None
        others = [v for v in node.members.voters if v != node.voter_id]
        known = [name for name in others if self.cluster.is_settled(name)]
        change = self.cluster.change
        if len(known) >= 2 and (change is None or change.leaves == ""):
            self.cluster.waver(node, self.rng.sample(known, 2))

    def transfer(self) -> None:
        def hand_over(member: Member) -> None:
            assert member.node is not None
            member.node.transfer()
            member.wake()

        self.with_someone(hand_over)
