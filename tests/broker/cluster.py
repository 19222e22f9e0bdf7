"""Several nodes in one process: one metadata log, disks in RAM, and a network that can be cut.

The metadata is one Raft node that all share, so these tests are about the data path; Raft among
several nodes has tests and a simulation of its own.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from broker.controller.broker import LocalBroker
from broker.controller.controller import LocalController
from broker.controller.metadata import Metadata
from broker.controller.monitor import RollLimits
from broker.controller.partition import LocalPartition
from broker.errors import RequestError
from broker.ports import ACKS_ALL, Buffer
from broker.replication import messages
from broker.replication.peers import Conversation, PeerUnreachable
from broker.replication.space import Space, Usage
from broker.replication.store import Store
from engine.backends._memory import MemoryBackend
from engine.durability import FsyncPolicy
from raft.commands import RegisterBroker
from raft.node import RaftNode
from tests.broker.one_node import TOPICS, ManualClock, batch


class RealClock(ManualClock):
    """Monotonic time runs, wall time is the test's."""

    def monotonic(self) -> float:
        return anyio.current_time()


class NodeClock:
    """The cluster's clock as one node has it."""

    def __init__(self, cluster: "Cluster", node: int) -> None:
        self._cluster = cluster
        self._node = node

    def now_ms(self) -> int:
        return self._cluster.clock.now_ms() + self._cluster.ahead_ms.get(self._node, 0)

    def monotonic(self) -> float:
        return self._cluster.clock.monotonic()


class Network:
    """Who reaches whom. `cut` holds ordered pairs (from, to)."""

    def __init__(self) -> None:
        self.nodes: dict[int, Member] = {}
        self.cut: set[tuple[int, int]] = set()
        self.pipes: list[Pipe] = []
        self.answers_lost = 0
        """How many of the next calls are done, and their answers never come."""

    def isolate(self, node: int) -> None:
        """Nobody reaches `node`, and it reaches nobody."""
        for other in self.nodes:
            self.cut |= {(node, other), (other, node)}
        for pipe in list(self.pipes):
            if node in pipe.ends:
                pipe.close()

    def heal(self) -> None:
        self.cut.clear()

    def reach(self, source: int, target: int) -> "Member":
        member = self.nodes.get(target)
        if member is None or (source, target) in self.cut or (target, source) in self.cut:
            raise PeerUnreachable(f"node {target} cannot be reached")
        return member


class NetPeers:
    """`Peers` of one node on that network."""

    def __init__(self, node: int, network: Network) -> None:
        self._node = node
        self._network = network

    async def call(self, node: int, frame: Sequence[Buffer], *, timeout_s: float) -> memoryview:
        member = self._network.reach(self._node, node)
        call, batches = messages.decode_call(memoryview(b"".join(frame)))
        with anyio.move_on_after(timeout_s):
            answer = await member.broker.answer(call, batches)
            if self._network.answers_lost:
                self._network.answers_lost -= 1
                raise PeerUnreachable("the connection broke before the answer")
            self._network.reach(self._node, node)
            return memoryview(b"".join(answer))
        raise PeerUnreachable(f"node {node} did not answer")

    async def converse(self, node: int) -> Conversation:
        member = self._network.reach(self._node, node)
        ours, theirs = (
            Pipe(self._network, (self._node, node)),
            Pipe(self._network, (self._node, node)),
        )
        ours.other, theirs.other = theirs, ours
        self._network.pipes += [ours, theirs]
        member.tasks.start_soon(member.broker.feed, self._node, theirs)
        return ours


class Pipe:
    """One end of a conversation."""

    def __init__(self, network: Network, ends: tuple[int, int]) -> None:
        self.other: Pipe
        self.ends = ends
        self._network = network
        self._frames: list[bytes] = []
        self._is_closed = False
        self._event = anyio.Event()

    async def send(self, frame: Sequence[Buffer]) -> None:
        if self._is_closed or self.other._is_closed:
            raise PeerUnreachable("the conversation is over")
        self.other._frames.append(b"".join(frame))
        self.other._event.set()
        await anyio.lowlevel.checkpoint()

    async def receive(self) -> memoryview:
        while not self._frames:
            if self._is_closed:
                raise PeerUnreachable("the conversation is over")
            self._event = anyio.Event()
            await self._event.wait()
        return memoryview(self._frames.pop(0))

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        for end in (self, self.other):
            end._is_closed = True
            end._event.set()
            if end in self._network.pipes:
                self._network.pipes.remove(end)


class Member:
    """One incarnation of one node."""

    def __init__(self, node: int, broker: LocalBroker, store: Store, tasks: TaskGroup) -> None:
        self.node = node
        self.broker = broker
        self.controller = broker.controller
        self.store = store
        self.tasks = tasks


class Cluster:
    """Made by `cluster`."""

    def __init__(self, raft: RaftNode, tasks: TaskGroup, count: int, **limits: int) -> None:
        self.raft = raft
        self.network = Network()
        self.clock = RealClock()
        self.ahead_ms: dict[int, int] = {}
        """By how much the wall clocks of some nodes are wrong."""
        self.disks = {node: MemoryBackend() for node in range(1, count + 1)}
        self.disk_ids = {node: bytes([node]) * 16 for node in self.disks}
        self.free_sizes: dict[int, int] = {}
        """Of the nodes' disks, if not plenty; short of space below 100."""
        self.raft_leader = 1
        self.is_clean = True
        """What a node that starts says of its disk."""
        self._tasks = tasks
        self._limits = RollLimits(
            limits.get("entries_max", 1_000_000), limits.get("size_max", 1 << 30)
        )
        self._monitor_interval_ms = limits.get("monitor_interval_ms", 60_000)
        self._retention_interval_ms = limits.get("retention_interval_ms", 60_000)

    async def start(self, node: int) -> Member:
        """Start (or restart) a node on its disk."""
        space = Space(lambda: Usage(1000, self.free_sizes.get(node, 1000)), reserve_size=100)
        store = Store(TOPICS, self.disks[node], FsyncPolicy.parse("each"), space)
        store.attach()
        loop = asyncio.get_running_loop()
        broker = LocalBroker(
            node_id=node,
            disk=self.disk_ids[node],
            metadata=Metadata(self.raft, loop.call_soon_threadsafe),
            store=store,
            peers=NetPeers(node, self.network),
            clock=NodeClock(self, node),
            limits=self._limits,
            monitor_interval_ms=self._monitor_interval_ms,
            retention_interval_ms=self._retention_interval_ms,
            raft_leader=lambda: self.raft_leader,
            on_disk_failure=lambda _: None,
        )
        started = anyio.Event()
        self._tasks.start_soon(self._live, node, broker, store, started)
        with anyio.fail_after(20):
            await started.wait()
        return self.network.nodes[node]

    async def _live(
        self, node: int, broker: LocalBroker, store: Store, started: anyio.Event
    ) -> None:
        register = RegisterBroker(
            node=node, disk=self.disk_ids[node], raft_host="127.0.0.1", raft_port=6000 + node,
            listeners=(("PLAINTEXT", "127.0.0.1", 9092 + node),), rack=None, clean=self.is_clean,
        )  # fmt: skip
        async with anyio.create_task_group() as tasks:
            self.network.nodes[node] = Member(node, broker, store, tasks)
            await broker.start(tasks, cluster_id="test-cluster", register=register)
            started.set()
            await anyio.sleep_forever()

    def kill(self, node: int, mode: str = "kill", rng: random.Random | None = None) -> None:
        """The process dies at once ("kill"), or the machine loses power ("random")."""
        member = self.network.nodes.pop(node)
        member.store.detach()
        member.tasks.cancel_scope.cancel()
        for pipe in list(self.network.pipes):
            if node in pipe.ends:
                pipe.close()
        disk = self.disks[node]
        self.disks[node] = disk.kill_clone() if mode == "kill" else disk.crash_clone("random", rng)

    def broker(self, node: int) -> LocalBroker:
        return self.network.nodes[node].broker

    def controller(self, node: int) -> LocalController:
        return self.network.nodes[node].controller

    async def leader(self, name: str = "t") -> LocalPartition:
        """The partition on whoever leads it, waiting until somebody does."""
        with anyio.fail_after(20):
            while True:
                for member in list(self.network.nodes.values()):
                    try:
                        controller = member.controller
                        return controller.partition(controller.topic(name))
                    except RequestError:
                        continue
                await anyio.sleep(0.01)

    async def put(self, value: bytes, name: str = "t") -> int:
        """Append with acks=all as a client does: to whoever leads, again until it is known to be
        safe. The offset."""
        with anyio.fail_after(20):
            while True:
                partition = await self.leader(name)
                try:
                    appended = await partition.append(batch(value), acks=ACKS_ALL)
                    await partition.committed(appended.end_offset, acks=ACKS_ALL, timeout_s=3)
                except RequestError:
                    await anyio.sleep(0.02)
                else:
                    return appended.base_offset


@asynccontextmanager
async def cluster(path: Path, count: int = 3, **limits: int) -> AsyncIterator[Cluster]:
    """`count` nodes, all started."""
    raft = RaftNode(
        directory=path / "raft", voter_id="ff" * 16, rng=random.SystemRandom(), debug=True
    )
    await to_thread.run_sync(raft.start)
    try:
        async with anyio.create_task_group() as tasks:
            made = Cluster(raft, tasks, count, **limits)
            for node in made.disks:
                await made.start(node)
            yield made
            for member in made.network.nodes.values():
                member.store.detach()
            tasks.cancel_scope.cancel()
    finally:
        await to_thread.run_sync(raft.stop)
