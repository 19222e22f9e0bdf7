"""One run: a seed decides the kinds of trouble, their rates, and every detail."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

from raft import core, messages, transfer
from raft.ground import NEVER
from raft.messages import Append
from tests.sim.raft.cluster import Cluster, Member, SimNode
from tests.sim.raft.disk import PowerCut
from tests.sim.raft.oracle import Violation

HEAL_S = 20.0
SIZE_MIN, SIZE_MAX = 3, 7
"""Machines, while the members change. A machine may only be lost for good while the others are a
majority."""
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
)


@dataclass(frozen=True)
class Outcome:
    """What a run was worth. `violation` is "" when nothing went wrong."""

    seed: int
    violation: str
    commits: int
    answers: int
    digest: str
    """Of every message: equal for equal seeds, or the run is not deterministic."""


class Run:
    """A cluster of `size` in trouble for `duration_s`, then healed and checked."""

    def __init__(
        self,
        seed: int,
        *,
        size: int = 3,
        duration_s: float = 60.0,
        node_class: type[SimNode] = SimNode,
        debug: bool = False,
    ) -> None:
        self.seed = seed
        self.duration_s = duration_s
        self.rng = random.Random(f"{seed} troubles")
        self.cluster = Cluster(seed, size, node_class=node_class, debug=debug)
        kinds = self.rng.sample(TROUBLES, self.rng.randint(2, len(TROUBLES)))
        self.kinds = sorted(kinds)
        self.quiet_s = self.rng.choice([0.3, 1.0, 3.0])
        self.command_s = self.rng.choice([0.05, 0.1, 0.3])
        self.batch_size = self.rng.choice([16, 100, 256 * 1024])
        """Small ones make many messages of what one could carry, and trouble comes between them."""
        self._silent = ""
        self._mute_until = 0.0
        self._words: dict[tuple[str, str, int], int] = {}
        self._digest = hashlib.blake2b(digest_size=8)

    def go(self) -> Outcome:
        violation = ""
        self.cluster.network.on_message = self._note
        try:
            with (
                patch.object(core, "BATCH_SIZE", self.batch_size),
                patch.object(transfer, "BATCH_SIZE", self.batch_size * 10),
            ):
                self._go()
        except Violation as found:
            violation = str(found)
        oracle, cluster = self.cluster.oracle, self.cluster
        digest = self._digest.hexdigest()
        return Outcome(self.seed, violation, oracle.commits, cluster.answers, digest)

    def _go(self) -> None:
        scheduler = self.cluster.scheduler
        end = self._end = scheduler.now + self.duration_s
        self.cluster.start()
        self._command(end)
        self._trouble(end)
        scheduler.run_until(end)
        self.cluster.heal()
        scheduler.run_until(end + HEAL_S - 1.0)
        for member in self.cluster.live():
            self.cluster.ask(member)
        scheduler.run_until(end + HEAL_S)
        self.cluster.check_healed()

    def _note(self, source: str, target: str, data: bytes) -> None:
        self._digest.update(b"%a" % self.cluster.scheduler.now)
        self._digest.update(source.encode() + target.encode() + data)

    def _command(self, end: float) -> None:
        scheduler = self.cluster.scheduler
        if scheduler.now < end:
            for _ in range(self.rng.choice([1, 1, 1, 5])):
                self._with_someone(self.cluster.ask)
            scheduler.after(self.rng.expovariate(1 / self.command_s), partial(self._command, end))

    def _with_someone(self, act: "partial[None] | object") -> None:
        live = self.cluster.live()
        if live and callable(act):
            act(self.rng.choice(live))

    # ---- troubles
    # ----------------------------------------------------------------------------------

    def _trouble(self, end: float) -> None:
        scheduler = self.cluster.scheduler
        if scheduler.now >= end:
            return
        getattr(self, "_" + self.rng.choice(self.kinds))()
        if self.rng.random() < 0.3:
            self._calm()
        scheduler.after(self.rng.expovariate(1 / self.quiet_s), partial(self._trouble, end))

    def _calm(self) -> None:
        self.cluster.network.set_cut(set(), 0.0)
        self.cluster.network.delay_s = (0.0005, 0.005)
        self.cluster.network.echo_rate = 0.0

    def _down(self, member: Member, *, power: bool) -> None:
        member.kill(power=power)
        self.cluster.restart_later(member)

    def _kill(self) -> None:
        self._with_someone(lambda member: self._down(member, power=False))

    def _power(self) -> None:
        self._with_someone(lambda member: self._down(member, power=True))

    def _blackout(self) -> None:
        power = self.rng.random() < 0.7
        for member in self.cluster.live():
            self._down(member, power=power)

    def _partition(self) -> None:
        names = list(self.cluster.members)
        if len(names) < 2:
            return
        away = set(self.rng.sample(names, self.rng.randint(1, len(names) // 2)))
        cut = {(a, b) for a in names for b in names if (a in away) != (b in away)}
        self.cluster.network.set_cut(cut, self.rng.choice([0.0, 0.3, 2.0]))
        if self.rng.random() < 0.3:
            self._stale()

    def _one_way(self) -> None:
        names = list(self.cluster.members)
        pairs = [(a, b) for a in names for b in names if a != b]
        if not pairs:
            return
        cut = set(self.rng.sample(pairs, self.rng.randint(1, len(pairs) // 2)))
        self.cluster.network.set_cut(cut, self.rng.choice([0.3, 2.0]))

    def _isolate(self) -> None:
        """A leader that reaches one other at best goes on taking commands: its log and the others'
        part ways."""
        leaders = [m for m in self.cluster.live() if m.node is not None and m.node.is_leader]
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

    def _return_to_power(self) -> None:
        """A leader keeps entries with one follower, loses power, wins it back, and hears old words.

        Meanwhile another led and overruled those entries; what the follower acknowledged then must
        not count for what the old leader writes at the same places now.
        """
        leaders = [m for m in self.cluster.live() if m.node is not None and m.node.is_leader]
        names = list(self.cluster.members)
        if not leaders or len(names) < 3:
            return
        leader, network, after = leaders[0], self.cluster.network, self._later
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
            for member in self.cluster.live():
                if member.node is not None and member.node.is_leader:
                    member.node._raft.transfer(leader.name)

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

    def _mute(self) -> None:
        """For a while, whoever leads falls silent after a few messages with entries, until the next
        leader does: short terms, each of which leaves its own entries with some of the others."""
        self._mute_until = self.cluster.scheduler.now + self.rng.choice([4.0, 10.0, 20.0])
        self.cluster.network.may_pass = self._may_pass
        if self.rng.random() < 0.5:
            self._stale()

    def _may_pass(self, source: str, target: str, data: bytes) -> bool:
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
            self._fall_silent(source)
        return left > 0

    def _fall_silent(self, name: str) -> None:
        last, self._silent = self._silent, name
        if last:
            self.cluster.scheduler.after(0.0, partial(self.cluster.network.reset, last))
        for _ in range(self.rng.choice([0, 1, 4])):
            self.cluster.scheduler.after(0.01, partial(self._ask, name))

    def _ask(self, name: str) -> None:
        if name in self.cluster.members:
            self.cluster.ask(self.cluster.members[name])

    def _storm(self) -> None:
        """Elections nobody needs, several at once: no promise rests on patience."""
        end = self.cluster.scheduler.now + self.rng.choice([1.0, 3.0])
        self.cluster.network.delay_s = (0.001, self.rng.choice([0.005, 0.05, 0.3]))
        self._stale()
        self._stand(end)

    def _stand(self, end: float) -> None:
        live = [m for m in self.cluster.live() if m.node is not None]
        for member in live:
            assert member.node is not None
            raft = member.node._raft
            raft._heard_leader_at = -NEVER
            if raft.is_voter and not raft.is_leader and self.rng.random() < 0.6:
                raft.campaign()
                member.wake()
        delay_s = self.rng.expovariate(1 / 0.15)
        if self.cluster.scheduler.now + delay_s < min(end, self._end):
            self.cluster.scheduler.after(delay_s, partial(self._stand, end))

    def _last_words(self) -> None:
        """A machine will die right after a message has left it."""
        self._with_someone(lambda member: setattr(member, "messages_left", self.rng.randint(1, 30)))

    def _waver(self) -> None:
        """Members who go and come back, asked of a leader that may be alone."""
        if self.rng.random() < 0.7:
            self._isolate()
        leaders = [m for m in self.cluster.live() if m.node is not None and m.node.is_leader]
        if not leaders:
            return
        node = self.rng.choice(leaders).node
        assert node is not None
        others = [v for v in node.members.voters if v != node.voter_id]
        known = [name for name in others if self.cluster.is_settled(name)]
        change = self.cluster.change
        if len(known) >= 2 and (change is None or change.leaves == ""):
            self.cluster.waver(node, self.rng.sample(known, 2))

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Unless the troubles are over by then."""
        scheduler = self.cluster.scheduler
        if scheduler.now + delay_s < self._end:
            scheduler.after(delay_s, act)

    def _slow(self) -> None:
        self.cluster.network.delay_s = (0.001, self.rng.choice([0.03, 0.2, 0.6]))

    def _stale(self) -> None:
        """For a while, messages arrive twice, or after the connection they were sent on is gone."""
        self.cluster.network.echo_rate = self.rng.choice([0.02, 0.2, 0.5])

    def _pause(self) -> None:
        until = self.cluster.scheduler.now + self.rng.choice([0.2, 1.0, 4.0])
        self._with_someone(lambda member: setattr(member, "paused_until", until))

    def _compact(self) -> None:
        def compact(member: Member) -> None:
            node = member.node
            assert node is not None
            applied = node._raft.applied_index
            if not node._snapshots.is_busy and applied > max(node._snapshots.index, 1):
                node.take_snapshot()

        self._with_someone(compact)

    def _bomb(self) -> None:
        """The machine will die in the middle of some disk operation soon."""

        def arm(member: Member) -> None:
            left = self.rng.randint(1, 12)

            def count(_operation: str) -> None:
                nonlocal left
                left -= 1
                if left <= 0:
                    raise PowerCut

            member.disk.on_operation = count

        self._with_someone(arm)

    def _members(self) -> None:
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
            if self._can_spare(lost):
                self.cluster.change_members(joins=True, leaves=lost)

    def _can_spare(self, name: str) -> bool:
        """Whether the other voters are a majority: without one, nothing can be changed any more."""
        leaders = [m.node for m in self.cluster.live() if m.node is not None and m.node.is_leader]
        if not leaders:
            return False
        voters = max(leaders, key=lambda node: node.term).members.voters
        return 2 * len([voter for voter in voters if voter != name]) > len(voters)

    def _transfer(self) -> None:
        def hand_over(member: Member) -> None:
            assert member.node is not None
            member.node.transfer()
            member.wake()

        self._with_someone(hand_over)
