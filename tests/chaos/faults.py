"""What can happen to a cluster, one thing at a time: each does its damage, waits, and heals."""

import asyncio
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chaos.network import Network
from tests.cluster.clocks import WallClock
from tests.cluster.disks import fill
from tests.cluster.processes import Cluster, Node

_DOWN_S = (0.5, 6.0)
_CLOCK_JUMP_S = 45 * 60
"""Less than an hour: a broker refuses records whose timestamps lie further ahead than that."""
_SLOW_LINK_S = 0.15
_CALM_S = 10.0
_COPIES_S_MAX = 120.0
"""Until every copy of every segment is where it should be."""


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


@dataclass
class Fault:
    """One fault that happened. Times are monotonic seconds."""

    name: str
    node_id: int
    begun_at: float
    ended_at: float = 0.0
    leads: tuple[str, ...] = ()
    """The topics whose writer it took away."""
    was_raft_leader: bool = False
    killed: int = 0
    """How many processes were ended by SIGKILL."""


@dataclass
class Faults:
    """The actions, on nodes chosen by `rng`. A topic of `topics` is always among the victims of
    "leader" faults."""

    cluster: Cluster
    network: Network
    topics: list[str]
    rng: Random
    clocks: dict[int, WallClock]
    disks: dict[int, Path]
    """By node id; empty where nobody may mount one."""
    happened: list[Fault] = field(default_factory=list)

    def table(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Every fault by name."""
        with_disks: dict[str, Callable[[], Awaitable[None]]] = (
            {"full-disk": self.full_disk} if self.disks else {}
        )
        return {
            "kill-leader": self.kill_leader,
            "kill-raft-leader": self.kill_raft_leader,
            "kill-any": self.kill_any,
            "kill-two": self.kill_two,
            "kill-all": self.kill_all,
            "lose-disk": self.lose_disk,
            "pause": self.pause,
            "partition": self.partition,
            "one-way": self.one_way,
            "slow-follower": self.slow_follower,
            "clock": self.clock,
            "restart": self.restart,
            "calm": self.calm,
        } | with_disks

    # -- crashes

    async def kill_leader(self) -> None:
        leader = await asyncio.to_thread(self.cluster.leader, self.rng.choice(self.topics))
        await self._kill("kill-leader", [leader or self._any()])

    async def kill_raft_leader(self) -> None:
        leader = await asyncio.to_thread(self.cluster.raft_leader)
        await self._kill("kill-raft-leader", [leader or self._any()])

    async def kill_any(self) -> None:
        await self._kill("kill-any", [self._any()])

    async def kill_two(self) -> None:
        await self._kill("kill-two", self.rng.sample(list(self.cluster.nodes.values()), 2))

    async def kill_all(self) -> None:
        await self._kill("kill-all", list(self.cluster.nodes.values()))

    async def _kill(self, name: str, victims: list[Node]) -> None:
        fault = await self._about(name, victims[0])
        fault.begun_at = time.monotonic()
        fault.killed = len(victims)
        for victim in victims:
            victim.signal(signal.SIGKILL)
        for victim in victims:
            await asyncio.to_thread(victim.kill)
        await self._wait()
        for victim in self.rng.sample(victims, len(victims)):
            victim.start()
        await self._heal(fault)

    async def lose_disk(self) -> None:
        """A node is killed, and all it has stored is gone; it comes back with nothing. Only when
        every record has all its copies, and the next fault only when that is so again: nobody
        promises more."""
        victim = self._any()
        other = self.rng.choice([node for node in self.cluster.nodes.values() if node != victim])
        await self._until_all_copies()
        fault = await self._about("lose-disk", victim)
        fault.begun_at = time.monotonic()
        fault.killed = 1
        await asyncio.to_thread(victim.kill)
        # What it holds, not the folder: another disk may be mounted there.
        for path in victim.data_dir.iterdir():
            await asyncio.to_thread(_remove, path)
        await self._wait()
        victim.join = other.peer
        victim.start()
        await self._heal(fault)
        await self._until_all_copies()
        fault.ended_at = time.monotonic()

    async def _until_all_copies(self) -> None:
        deadline = time.monotonic() + _COPIES_S_MAX
        while True:
            views = [
                await asyncio.to_thread(self.cluster.has_all_copies, node)
                for node in self.cluster.nodes.values()
            ]
            if all(views):
                return
            assert time.monotonic() < deadline, f"copies are missing after {_COPIES_S_MAX:.0f} s"
            await asyncio.sleep(0.1)

    # -- silence

    async def pause(self) -> None:
        victim = self._any()
        fault = await self._about("pause", victim)
        victim.signal(signal.SIGSTOP)
        try:
            await self._wait()
        finally:
            victim.signal(signal.SIGCONT)
        await self._heal(fault)

    async def partition(self) -> None:
        victim = self._any()
        fault = await self._about("partition", victim)
        self.network.isolate(victim.node_id)
        await self._wait()
        self.network.cut(frozenset())
        await self._heal(fault)

    async def one_way(self) -> None:
        source, target = self.rng.sample(sorted(self.cluster.nodes), 2)
        fault = await self._about("one-way", self.cluster.nodes[source])
        self.network.cut(frozenset({(source, target)}))
        await self._wait()
        self.network.cut(frozenset())
        await self._heal(fault)

    async def slow_follower(self) -> None:
        victim = self._any()
        fault = await self._about("slow-follower", victim)
        for other in self.cluster.nodes:
            self.network.delay_s[victim.node_id, other] = _SLOW_LINK_S
            self.network.delay_s[other, victim.node_id] = _SLOW_LINK_S
        await self._wait()
        self.network.delay_s.clear()
        await self._heal(fault)

    # -- surroundings

    async def full_disk(self) -> None:
        victim = self._any()
        fault = await self._about("full-disk", victim)
        ballast = await asyncio.to_thread(fill, self.disks[victim.node_id])
        await self._wait()
        ballast.unlink()
        if not victim.is_running:
            # Its metadata found no room either: the node stops, and says so.
            victim.start()
        await self._heal(fault)

    async def clock(self) -> None:
        """Some node's wall clock jumps, stays wrong for a while, and jumps back."""
        victim = self._any()
        fault = await self._about("clock", victim)
        self.clocks[victim.node_id].set(self.rng.randint(-_CLOCK_JUMP_S, _CLOCK_JUMP_S))
        await self._wait()
        self.clocks[victim.node_id].set(0)
        await self._heal(fault)

    # -- on purpose

    async def restart(self) -> None:
        """SIGTERM, and the same node again: no client may be told of an error."""
        victim = self._any()
        fault = await self._about("restart", victim)
        code = await asyncio.to_thread(victim.stop)
        assert code == 0, f"node {victim.node_id} ended with {code}:\n{victim.log_tail()}"
        victim.start()
        await self._heal(fault)

    async def calm(self) -> None:
        """Nothing for a while, so that planned rolls can be told from faults."""
        await asyncio.sleep(_CALM_S)

    # -- common

    def _any(self) -> Node:
        return self.rng.choice(list(self.cluster.nodes.values()))

    async def _about(self, name: str, victim: Node) -> Fault:
        """A record of it, with what the victim was just before."""
        leads = [
            topic
            for topic in self.topics
            if await asyncio.to_thread(self.cluster.leader, topic) is victim
        ]
        raft_leader = await asyncio.to_thread(self.cluster.raft_leader)
        fault = Fault(
            name,
            victim.node_id,
            time.monotonic(),
            leads=tuple(leads),
            was_raft_leader=raft_leader is victim,
        )
        self.happened.append(fault)
        return fault

    async def _wait(self) -> None:
        await asyncio.sleep(self.rng.uniform(*_DOWN_S))

    async def _heal(self, fault: Fault) -> None:
        """Until all nodes serve and every topic has a writer."""
        await asyncio.to_thread(self.cluster.wait_ready)
        for topic in self.topics:
            while await asyncio.to_thread(self.cluster.leader, topic) is None:
                await asyncio.sleep(0.05)
        fault.ended_at = time.monotonic()
        lasted_s = fault.ended_at - fault.begun_at
        print(
            f"    node {fault.node_id} {fault.name}: whole again after {lasted_s:.1f} s", flush=True
        )
