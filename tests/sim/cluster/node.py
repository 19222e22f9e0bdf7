"""A machine with its disks, and the process that runs on it: the classes of a real node, wired as
`broker/server/node.py` wires them, on simulated disks and networks."""

import asyncio
import contextvars
import random
import traceback
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from broker.controller.broker import LocalBroker
from broker.controller.controller import LocalController
from broker.controller.metadata import Metadata
from broker.errors import BrokerError, RequestError
from broker.groups.coordinator import Coordinator
from broker.native_api.api import NativeApi
from broker.ports import Buffer, NodeStatus
from broker.replication import messages
from broker.replication.peers import Conversation
from broker.replication.store import Store
from broker.server.admission import Admission
from broker.server.membership import is_registered
from engine.durability import FsyncPolicy
from engine.errors import EngineError
from raft.commands import AnyCommand, RegisterBroker
from raft.errors import StoredStateError
from raft.members import Members
from raft.state import Topic
from tests.sim.cluster.disk import SimBackend, Speed, damage_indexes
from tests.sim.cluster.network import SimPeers
from tests.sim.cluster.sim_raft import Inbox, SimRaft
from tests.sim.cluster.world import World
from tests.sim.loop import NOBODY, OWNER, SimLoop
from tests.sim.raft.disk import SimDisk

TOPICS = Path("/topics")
CLUSTER_ID = "simulated-cluster"
TICK_S = 0.1
WALL_START_MS = 1_700_000_000_000


LIFE: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("life", default=None)
"""The process that is running now; what a dead one still does reaches nothing."""


class NodeClock:
    """Wall time may jump; monotonic time runs at a rate of its own."""

    def __init__(self, loop: SimLoop, machine: "Machine") -> None:
        self._loop = loop
        self._machine = machine

    def now_ms(self) -> int:
        return WALL_START_MS + int(self._loop.time() * 1000) + self._machine.wall_offset_ms

    def monotonic(self) -> float:
        return self._loop.time() * self._machine.clock_rate


class Machine:
    """What outlives a process."""

    def __init__(self, world: World, node: int, *, joins: bool) -> None:
        """`joins`: others let it in. The one that does not forms the cluster."""
        self.world = world
        self.node = node
        self.joins = joins
        self.is_gone = False
        """For good: it is never started again."""
        self.is_away = False
        """Nobody can start it, and nobody expects it any more."""
        self.rng = random.Random(f"{world.seed} machine {node}")
        self.speed = Speed(self.rng)
        self.disks = 0
        self.lost_voters: set[str] = set()
        """What it was in Raft on the disks that it had before."""
        self._put_in_a_disk()
        self.wall_offset_ms = 0
        self.hears_at = 0.0
        """Until then its processes hear nothing of what Raft has applied."""
        self.clock_rate = self.rng.choice([1.0, 1.0, 0.98, 1.02])
        self.process: Process | None = None
        self.starts = 0

    def _put_in_a_disk(self) -> None:
        self.disks += 1
        self.disk_id = bytes([self.node, self.disks]) * 8
        self.raft_disk = SimDisk(random.Random(f"{self.world.seed} raft {self.disk_id.hex()}"))
        self.root: Any = None

    @property
    def voter(self) -> str:
        return self.disk_id.hex()

    def start(self) -> None:
        if self.process is None and not self.is_gone and not self.is_away:
            self.starts += 1
            self.process = Process(self)
            self.process.begin()

    def kill(self, *, power: bool) -> None:
        """The process is gone; with `power`, so is what was not synced."""
        process, self.process = self.process, None
        if process is None:
            return
        process.end(power=power)
        self.root = process.backend.fs.root
        if power:
            self.root = self.root.after_crash("random", self.rng)
            self.raft_disk = self.raft_disk.after_power_cut()
        else:
            self.raft_disk = self.raft_disk.after_kill()

    def newest_root(self) -> Any:
        """The file system, as a process sees it or would."""
        return self.root if self.process is None else self.process.backend.fs.root

    def has_emptied(self, topic: Topic, sid: int) -> bool:
        """Of a segment whose records are deleted only the window is left here."""
        if self.process is None or not self.process.is_ready:
            return False
        log = self.process.store.log(topic.name, topic.topic_id)
        return log.is_emptied(sid) and log.get(sid) is None

    def lose_disk(self) -> None:
        """All that it had is gone, and another disk is put in: it comes back as a new member."""
        self.kill(power=True)
        self.lost_voters.add(self.voter)
        self._put_in_a_disk()
        self.joins = True

    def damage_indexes(self) -> None:
        self.kill(power=True)
        if self.root is not None:
            damage_indexes(self.root, self.rng)

    def leave(self) -> None:
        """It is taken away, with its disk."""
        self.kill(power=True)
        self.is_gone = True

    def restart_later(self, delay_s: float) -> None:
        self.world.loop.after(delay_s, self.start)


class Process:
    """One life of a node."""

    def __init__(self, machine: Machine) -> None:
        world = machine.world
        self.machine = machine
        self.node = machine.node
        self.voter = machine.voter
        self.world = world
        self.context = NOBODY.copy()
        self.context.run(OWNER.set, machine.node)
        self.context.run(LIFE.set, self)
        self.is_alive = True
        self.is_ready = False
        self.tasks: anyio.abc.TaskGroup | None = None
        self.requests: dict[int, Callable[[], None]] = {}
        """What to do with a client's request when the process dies."""
        self.backend = SimBackend(world.loop, machine.speed, machine.root, world.takes_quick_way)
        self.broker: LocalBroker
        self.controller: LocalController
        self.groups: Coordinator
        self.native: NativeApi
        self._raft: SimRaft
        self._tick_is_due = False
        self._idle: asyncio.TimerHandle | None = None

    # ---- life ------------------------------------------------------------------------------------

    def begin(self) -> None:
        self.context.run(self.world.tasks.start_soon, self._run)

    def end(self, *, power: bool) -> None:
        """From here on nothing it does reaches anything."""
        world = self.world
        self.is_alive = False
        world.loop.thaw(self.node)
        self.backend.stop()
        if self._idle is not None:
            self._idle.cancel()
        if world.raft.nodes.get(self.voter) is self:
            world.raft.detach(self.voter)
        if world.data.processes.get(self.node) is self:
            del world.data.processes[self.node]
        world.data.left(self, power=power)
        for answer in list(self.requests.values()):
            answer()
        if self.tasks is not None:
            self.tasks.cancel_scope.cancel()

    async def _run(self) -> None:
        try:
            async with anyio.create_task_group() as self.tasks:
                if self.is_alive:
                    await self._serve()
        except* (BrokerError, EngineError, OSError, StoredStateError) as group:
            self._gave_up(group.exceptions[0])
        except* Exception as group:  # noqa: BLE001  whatever it is, it is what we look for
            if self.is_alive:
                self.world.violated(f"node {self.node} failed: {_where(_first(group))}")
            self._gave_up(group.exceptions[0])

    def _gave_up(self, error: BaseException) -> None:
        """A start that cannot be finished now ends the process; somebody starts it again, perhaps
        with another disk."""
        if self.is_alive:
            self.machine.kill(power=False)
            self.world.ruin.refused(self.machine, _first(error))
            self.machine.restart_later(1.0)

    async def _serve(self) -> None:
        machine, world, loop = self.machine, self.world, self.world.loop
        self._raft = self._make_raft()
        self._raft.open()
        world.ruin.opened_raft(machine)
        world.raft.attach(self.voter, self)
        world.data.processes[self.node] = self
        self.store = store = Store(TOPICS, self.backend, FsyncPolicy.parse(world.fsync))
        store.attach()
        self.metadata = Metadata(self._raft, self._call_soon)
        clock = NodeClock(loop, machine)
        peers = SimPeers(self, world.data)
        self.broker = LocalBroker(
            node_id=self.node,
            disk=machine.disk_id,
            metadata=self.metadata,
            store=store,
            peers=peers,
            clock=clock,
            limits=world.limits,
            monitor_interval_ms=world.monitor_interval_ms,
            retention_interval_ms=world.retention_interval_ms,
            raft_leader=self._raft_leader,
            on_disk_failure=self._disk_failed,
            on_removed=self._removed,
        )
        self.controller = self.broker.controller
        self.groups = Coordinator(self.controller, clock)
        self.native = NativeApi(
            controller=self.controller,
            offsets=self.groups,
            peers=peers,
            clock=clock,
            status=_no_status,
            metrics=dict,
        )
        register = RegisterBroker(
            node=self.node, disk=machine.disk_id, raft_host="127.0.0.1", raft_port=6000 + self.node,
            listeners=(("PLAINTEXT", "127.0.0.1", 9000 + self.node),), rack=None, clean=True,
        )  # fmt: skip
        assert self.tasks is not None
        admission = Admission(
            node=self.node, raft=self._raft, metadata=self.metadata, call_soon=self._call_soon
        )
        await admission.take_part(joins=machine.joins)
        await self.broker.start(self.tasks, cluster_id=CLUSTER_ID, register=register)
        self.groups.start(self.tasks)
        await self.tasks.start(self.native.run)
        self.is_ready = True
        world.ruin.started(machine)
        await anyio.sleep_forever()

    def _disk_failed(self, error: OSError) -> None:
        """As the server: it ends the process."""
        self.world.loop.after(0.0, self._stop_for_disk)

    def _removed(self) -> None:
        """As the server: it ends, and nobody starts it again."""
        if self.is_alive:
            self.world.loop.after(0.0, self.machine.leave)

    def _stop_for_disk(self) -> None:
        if self.is_alive:
            self.machine.kill(power=False)
            self.machine.restart_later(self.world.rng.uniform(0.1, 3.0))

    # ---- network.Listener ------------------------------------------------------------------------

    def start(self, work: Callable[..., Coroutine[Any, Any, object]], *args: object) -> None:
        if self.is_alive and self.tasks is not None:
            self.context.run(self.tasks.start_soon, self._guarded, work, args)

    async def _guarded(self, work: Callable[..., Any], args: Sequence[object]) -> None:
        await work(*args)

    async def answer(self, call: messages.Call, batches: memoryview) -> Sequence[Buffer]:
        if isinstance(call, messages.TakeAsk):
            return await self.native.answer(call)
        return await self.broker.answer(call, batches)

    async def feed(self, node: int, conversation: Conversation) -> None:
        await self.broker.feed(node, conversation)

    # ---- raft ------------------------------------------------------------------------------------

    def _make_raft(self) -> SimRaft:
        machine, world = self.machine, self.world
        rng = random.Random(f"{world.seed} raft {self.node} {machine.starts}")
        raft = SimRaft(
            directory=Path("disk"),
            voter_id=self.voter,
            joins=machine.joins,
            link=self,
            clock=world.loop.time,
            rng=rng,
            disk=machine.raft_disk,
            compact_entries=rng.choice([20, 200, 4096]),
            trailing_entries=rng.choice([0, 20]),
            spawn=partial(self._spawn, rng),
            may_vote=is_registered,
        )
        raft.world = world
        raft._inbox = Inbox(self._wake)  # type: ignore[assignment]
        return raft

    def _spawn(self, rng: random.Random, work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            if self.is_alive:
                work()

        self.world.loop.call_later(rng.uniform(0.001, 0.3), run, context=self.context)
        return lambda: None

    def _wake(self) -> None:
        if not self._tick_is_due and self.is_alive:
            self._tick_is_due = True
            self.world.loop.call_later(0.0003, self._tick, context=self.context)

    def _tick(self) -> None:
        self._tick_is_due = False
        if not self.is_alive:
            return
        if self._idle is not None:
            self._idle.cancel()
        try:
            self._raft.tick()
        except Exception as error:  # noqa: BLE001  whatever it is, it is what we look for
            self.world.violated(f"raft of node {self.node} failed: {error!r}")
            return
        loop = self.world.loop
        wait_s = min(TICK_S, max(0.0003, self._raft._raft.wake_at() - loop.time()))
        self._idle = loop.call_later(wait_s, self._tick, context=self.context)

    def send(self, voter: str, data: bytes) -> bool:
        """`raft.machine.Link`."""
        return self.is_alive and self.world.raft.send(self.voter, voter, data)

    def receive(self, voter: str, data: bytes) -> None:
        self._raft.receive(voter, data)

    def connected(self, voter: str) -> None:
        self._raft.connected(voter)

    def disconnected(self, voter: str) -> None:
        self._raft.disconnected(voter)

    async def propose(self, command: AnyCommand) -> None:
        """On behalf of nobody: what becomes of it is not waited for."""
        with suppress(RequestError):
            await self.metadata.propose(command)

    async def delete_records(self, name: str, offset: int) -> None:
        """Below `offset`, if this node leads the topic."""
        with suppress(RequestError):
            await self.controller.delete_records(self.controller.topic(name), offset)

    async def hand_over(self) -> None:
        """What a server does between SIGTERM and its end."""
        self.groups.release()
        await self.broker.hand_over()
        self._raft.transfer()

    @property
    def members(self) -> Members | None:
        """Of Raft, if this node leads it."""
        return self._raft.members if self.is_ready and self._raft.is_leader else None

    def _raft_leader(self) -> int | None:
        """As the server finds it."""
        for node, broker in self.metadata.state.brokers.items():
            if broker.disk.hex() == self._raft.leader:
                return node
        return None

    def _call_soon(self, callback: Callable[[], object]) -> object:
        loop, hears_at = self.world.loop, self.machine.hears_at
        if hears_at > loop.time():
            return loop.call_at(hears_at, self._if_alive, callback, context=self.context)
        return loop.call_soon(self._if_alive, callback, context=self.context)

    def _if_alive(self, callback: Callable[[], object]) -> None:
        if self.is_alive:
            callback()


def _no_status() -> NodeStatus:
    raise LookupError("no client of a simulated node asks for its status")


def _where(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{error!r} in {frame.name}, {Path(frame.filename).name} line {frame.lineno}"


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
