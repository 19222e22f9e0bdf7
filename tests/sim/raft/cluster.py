"""A cluster of real nodes on simulated disks and a simulated network, and the troubles it meets."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from raft import commands as c
from raft.commands import Applied
from raft.errors import NoLeader, RaftError
from raft.members import MemberChange
from raft.node import RaftNode
from tests.sim.raft.disk import PowerCut, SimDisk
from tests.sim.raft.network import Network, Scheduler
from tests.sim.raft.oracle import Oracle, Violation

TICK_S = 0.05
COMMAND_TIMEOUT_S = 4.0
LATE_S = 20.0
"""More than a pause, an echo and the patience of a wish together."""
TOPICS_MAX = 150
"""Enough to see one lost, few enough to hash often."""


class LastWords(PowerCut):
    """A machine went dark right after a message had left it."""


class _Link:
    def __init__(self, member: "Member") -> None:
        self._member = member

    def send(self, voter: str, data: bytes) -> bool:
        member = self._member
        is_sent = member.cluster.network.send(member.name, voter, data)
        member.messages_left -= 1
        if member.messages_left == 0:
            raise LastWords
        return is_sent


class SimNode(RaftNode):
    """A node whose every step is shown to the oracle."""

    oracle: Oracle

    def apply(self, index: int, command: bytes) -> None:
        super().apply(index, command)
        self.oracle.applied(self.voter_id, self.state)


class Member:
    """One machine: a disk that outlives the processes on it, and the process of the moment."""

    def __init__(self, cluster: "Cluster", name: str, *, joins: bool) -> None:
        self.cluster = cluster
        self.name = name
        self.joins = joins
        self.disk = SimDisk(random.Random(f"{cluster.seed} disk {name}"))
        self.node: SimNode | None = None
        self.paused_until = 0.0
        self.messages_left = 0
        """After so many more it dies, with the last one sent; never, when it is 0 already."""
        self.since = cluster.scheduler.now if joins else float("-inf")
        self._life = 0
        self._commit_index = 0
        self._tick_is_due = False
        self._last_checked = 0

    # ---- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        cluster = self.cluster
        self._life += 1
        rng = random.Random(f"{cluster.seed} node {self.name} {self._life}")
        node = cluster.node_class(
            directory=Path("disk"),
            voter_id=self.name,
            peers=cluster.first_voters,
            joins=self.joins,
            link=_Link(self),
            clock=lambda: cluster.scheduler.now,
            rng=rng,
            disk=self.disk,
            compact_entries=cluster.rng.choice(cluster.compact_entries),
            trailing_entries=cluster.rng.choice(cluster.trailing_entries),
            debug=cluster.debug,
            spawn=partial(self._spawn, self._life, rng),
        )
        node.oracle = cluster.oracle
        self._commit_index = 0
        self._last_checked = 0
        self.node = node
        if self.guard(node.open):
            self._watch_log(node)
            cluster.network.attach(self.name, self)
            self._tick_every(self._life)

    def _spawn(self, life: int, rng: random.Random, work: Callable[[], None]) -> Callable[[], None]:
        """Another thread: its work happens a little later, if this process still lives then."""

        def run() -> None:
            if self._life == life and self.node is not None:
                self.guard(work)
                self.wake()

        self.cluster.scheduler.after(rng.uniform(0.001, 0.3), run)
        return lambda: None

    def kill(self, *, power: bool, is_heard: bool = False) -> None:
        """SIGKILL, or the plug. What it had sent may still be heard, or is for sure."""
        if self.node is None:
            return
        self.node = None
        self._life += 1
        self.messages_left = 0
        self.disk.on_operation = lambda _operation: None
        self.disk = self.disk.after_power_cut() if power else self.disk.after_kill()
        if self.name in self.cluster.network.nodes:
            is_heard = is_heard or self.cluster.rng.random() < 0.5
            self.cluster.network.detach(self.name, is_heard=is_heard)

    def guard(self, step: Callable[[], object]) -> bool:
        """Run a step of the process; False if the machine died on the way."""
        try:
            step()
        except PowerCut as cut:
            has_spoken = isinstance(cut, LastWords)
            self.kill(power=has_spoken or self.cluster.rng.random() < 0.5, is_heard=has_spoken)
            self.cluster.restart_later(self)
            return False
        except Violation:
            raise
        except Exception as failure:
            raise Violation(f"{self.name} failed: {failure!r}") from failure
        return True

    # ---- the network's side ----------------------------------------------------------------------

    def receive(self, voter: str, data: bytes) -> None:
        if self.node is not None:
            self.node.receive(voter, data)
            self.wake()

    def connected(self, voter: str) -> None:
        if self.node is not None:
            self.node.connected(voter)

    def disconnected(self, voter: str) -> None:
        if self.node is not None:
            self.node.disconnected(voter)

    # ---- time ------------------------------------------------------------------------------------

    def _tick_every(self, life: int) -> None:
        if self._life == life and self.node is not None:
            self.tick()
            self.cluster.scheduler.after(TICK_S, lambda: self._tick_every(life))

    def wake(self) -> None:
        """Tick soon, once, however much arrives until then."""
        if not self._tick_is_due:
            self._tick_is_due = True
            self.cluster.scheduler.after(0.0003, self._tick_due)

    def _tick_due(self) -> None:
        self._tick_is_due = False
        self.tick()

    def tick(self) -> None:
        if self.node is None or self.cluster.scheduler.now < self.paused_until:
            return
        node = self.node
        if self.guard(node.tick):
            self._check(node)

    # ---- what the oracle sees --------------------------------------------------------------------

    def _watch_log(self, node: SimNode) -> None:
        journal, oracle = node._raft.log, self.cluster.oracle
        add = journal.add

        def watched(command: bytes, idx: int, term: int) -> None:
            oracle.has_entry(self.name, idx, term, command)
            add(command, idx, term)

        journal.add = watched  # type: ignore[method-assign]

    def _check(self, node: SimNode) -> None:
        raft, oracle = node._raft, self.cluster.oracle
        if raft.is_leader:
            oracle.leads(self.name, raft.term)
        commit_index = raft.commit_index
        if commit_index < self._commit_index:
            raise Violation(f"the commit index of {self.name} went back to {commit_index}")
        log = raft.log
        first = max(self._last_checked + 1, log.first_index + 1)
        for command, index, term in log[
            first - log.first_index : commit_index + 1 - log.first_index
        ]:
            oracle.commits_entry(self.name, index, term, command)
        self._commit_index = self._last_checked = commit_index


class Cluster:
    """The machines, the network between them, and clients that ask for things."""

    def __init__(
        self, seed: int, size: int, *, node_class: type[SimNode] = SimNode, debug: bool = False
    ) -> None:
        self.seed = seed
        self.rng = random.Random(f"{seed} cluster")
        self.debug = debug
        self.node_class = node_class
        self.scheduler = Scheduler()
        self.network = Network(self.scheduler, seed)
        self.oracle = Oracle()
        self.first_voters = tuple(f"n{number}" for number in range(size))
        self.members = {name: Member(self, name, joins=False) for name in self.first_voters}
        self.gone: list[str] = []
        self.change: MemberChange | None = None
        self.changes = 0
        self.answers = 0
        self.compact_entries: tuple[int, ...] = (5, 40, 4096)
        self.trailing_entries: tuple[int, ...] = (0, 5, 50)
        """What each process may be started with."""
        self.restart_s = (0.02, 0.5, 3.0)
        self._number = 0

    def start(self) -> None:
        for member in self.members.values():
            member.start()

    def live(self) -> list[Member]:
        return [member for member in self.members.values() if member.node is not None]

    def restart_later(self, member: Member, delay_s: float | None = None) -> None:
        delay_s = self.rng.choice(self.restart_s) if delay_s is None else delay_s
        self.scheduler.after(delay_s, lambda: self._restart(member))

    def _restart(self, member: Member) -> None:
        if member.node is None and self.members.get(member.name) is member:
            member.start()

    # ---- clients ---------------------------------------------------------------------------------

    def ask(self, member: Member) -> None:
        """One command of a random kind to this node; the oracle hears the answer."""
        node = member.node
        if node is None:
            return
        self._number += 1
        brokers = node.state.brokers
        if not brokers:
            command: c.AnyCommand = c.RegisterBroker(1, b"d" * 16, "h", 1, (), None, True)
            self._submit(node, command, lambda _outcome: None)
        elif self.rng.random() < 0.3 and len(node.state.topics) < TOPICS_MAX:
            topic_id = self._number.to_bytes(16, "big")
            opens = c.Next(1, brokers[1].incarnation, (1,))
            command = c.CreateTopic(topic_id, f"t{self._number}", {}, 1, False, False, opens)
            self._submit(node, command, partial(self._created, topic_id))
        elif self.rng.random() < 0.1:
            seen = partial(self._seen, node, self.oracle.answered_at)
            self._submit(node, c.Barrier(), seen)
        else:
            count = self.rng.randint(1, 3)
            allocate = partial(self._allocated, f"{member.name} {self._number}", count)
            self._submit(node, c.AllocateProducerIds(count), allocate)
        member.wake()

    def _submit(self, node: SimNode, command: c.AnyCommand, on_done: Callable[[Any], None]) -> None:
        node.submit(command, self._raising(node, on_done), timeout_s=COMMAND_TIMEOUT_S)

    def _raising(self, node: SimNode, on_done: Callable[[Any], None]) -> Callable[[Any], None]:
        """A node survives callbacks that fail; here they must not be swallowed."""

        def call(outcome: Applied | RaftError) -> None:
            self.answers += isinstance(outcome, Applied)
            if isinstance(outcome, Applied):
                self.oracle.answered(node.state.revision)
            try:
                on_done(outcome)
            except Violation as violation:
                self.scheduler.after(0.0, partial(_raise, violation))

        return call

    def _created(self, topic_id: bytes, outcome: Applied | RaftError) -> None:
        if isinstance(outcome, NoLeader) or (isinstance(outcome, Applied) and outcome.refusal):
            self.oracle.never.add(topic_id)
        elif isinstance(outcome, Applied):
            self.oracle.created.add(topic_id)

    def _seen(self, node: SimNode, answered_at: int, outcome: Applied | RaftError) -> None:
        if isinstance(outcome, Applied):
            self.oracle.barrier(node.voter_id, node.state.revision, answered_at)

    def _allocated(self, who: str, count: int, outcome: Applied | RaftError) -> None:
        if isinstance(outcome, Applied):
            self.oracle.allocated(who, outcome, count)

    # ---- who takes part --------------------------------------------------------------------------

    def change_members(self, *, joins: bool, leaves: str = "") -> None:
        """Bring in a new machine, or have one leave, or both; one such change at a time.

        A machine that is replaced is gone, and its disk with it; one that leaves goes when it is
        told that it may."""
        if self.change is not None:
            return
        newcomer = ""
        if joins:
            newcomer = f"m{len(self.gone) + len(self.members)}"
            self.members[newcomer] = Member(self, newcomer, joins=True)
            self.members[newcomer].start()
            if leaves:
                self._remove(leaves)
        self.change = MemberChange(newcomer, leaves)
        self._push_change(self.change)

    def waver(self, leader: SimNode, names: list[str]) -> None:
        """Ask `leader` to let each of these go, all at once; some seconds later they want back."""
        for name in names:
            self.members[name].since = self.scheduler.now
            leader.change_members(leaves=name, on_done=lambda _error: None, timeout_s=1.0)
            self.scheduler.after(self.rng.uniform(1.5, 4.0), partial(self._return, name))

    def _return(self, name: str) -> None:
        """Until the leader counts it among the members, and no wish that it leave can be under
        way."""
        member = self.members.get(name)
        if member is None:
            return
        leader = max(
            (each.node for each in self.live() if each.node is not None and each.node.is_leader),
            key=lambda node: node.term,
            default=None,
        )
        age_s = self.scheduler.now - member.since
        if age_s < LATE_S or leader is None or name not in leader.members:
            if leader is not None and name not in leader.members:
                leader.change_members(joins=name, on_done=lambda _error: None, timeout_s=1.0)
            self.scheduler.after(1.0, partial(self._return, name))

    def is_settled(self, name: str) -> bool:
        """Whether no wish that it join can be on its way any more: one that came late, after it
        left, would bring it back."""
        member = self.members.get(name)
        return member is not None and self.scheduler.now - member.since > LATE_S

    def _push_change(self, change: MemberChange) -> None:
        """Ask again and again, here and there, until somebody says it is done."""
        if self.change != change:
            return
        live = self.live()
        if live:
            node = self.rng.choice(live).node
            assert node is not None
            done = partial(self._changed, change)
            node.change_members(
                joins=change.joins, leaves=change.leaves, on_done=done, timeout_s=5.0
            )
        self.scheduler.after(1.0, partial(self._push_change, change))

    def _changed(self, change: MemberChange, error: RaftError | None) -> None:
        if error is None and self.change == change:
            self.change = None
            self.changes += 1
            if change.leaves in self.members:
                # Not now: it is perhaps this very node that calls.
                self.scheduler.after(0.0, partial(self._remove, change.leaves))

    def _remove(self, name: str) -> None:
        self.gone.append(name)
        self.members[name].kill(power=True)
        del self.members[name]

    # ---- the end ---------------------------------------------------------------------------------

    def heal(self) -> None:
        """No more trouble: everybody up, every link fast, every disk well."""
        self.network.set_cut(set(), 0.0)
        self.network.delay_s = (0.0005, 0.003)
        self.network.echo_rate = 0.0
        self.network.may_pass = lambda _from, _to, _data: True
        for member in list(self.members.values()):
            member.disk.on_operation = lambda _operation: None
            member.messages_left = 0
            member.paused_until = 0.0
            if member.node is None:
                member.start()

    def check_healed(self) -> None:
        """One leader, and the same state everywhere, with all that was promised in it."""
        if self.change is not None:
            raise Violation(f"{self.change} is not fulfilled after healing")
        voters = [member for member in self.live() if member.node is not None]
        leaders = [m for m in voters if m.node is not None and m.node.is_leader]
        if len(leaders) != 1:
            raise Violation(f"{len(leaders)} leaders after healing")
        leader = leaders[0].node
        assert leader is not None
        undead = [name for name in self.gone if name in leader.members]
        if undead:
            raise Violation(f"{undead[0]} has left, it was said, and is a member after healing")
        for member in voters:
            node = member.node
            assert node is not None
            if member.name not in leader.members:
                continue
            if node.members != leader.members:
                raise Violation(f"{member.name} believes in other members than the leader")
            if node.state.revision != leader.state.revision:
                raise Violation(
                    f"{member.name} is at {node.state.revision} after healing, and the leader at"
                    f" {leader.state.revision}"
                )
            self.oracle.healed(member.name, node.state)


def _raise(violation: Violation) -> None:
    raise violation
