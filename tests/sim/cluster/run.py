"""One run: a cluster in trouble, then healed, read to its end, and looked at on its disks."""

import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import cast
from unittest.mock import patch

import anyio

from broker.controller import housekeeping
from broker.controller.monitor import RollLimits
from broker.errors import RequestError, TopicExists
from broker.replication import feed, repair
from engine import write_queue
from raft.members import Members
from raft.state import EMPTY, ClusterState, Segment, SegmentState, Topic
from tests.sim.cluster.clients import (
    Client,
    Consumer,
    PlainProducer,
    Producer,
    Unanswered,
    ask,
)
from tests.sim.cluster.damage import Damage
from tests.sim.cluster.inspect import check_disks
from tests.sim.cluster.keepers import Keeper
from tests.sim.cluster.losses import MACHINES, Losses
from tests.sim.cluster.native import Ledger, NativeClient
from tests.sim.cluster.network import DataNetwork
from tests.sim.cluster.node import Machine, Process
from tests.sim.cluster.onlookers import Onlooker
from tests.sim.cluster.ruin import Ruin
from tests.sim.cluster.scratch import ScratchTopic
from tests.sim.cluster.troubles import REPLICAS, TOPIC, Troubles
from tests.sim.cluster.watch import Watch
from tests.sim.history import History
from tests.sim.loop import NOBODY, SimLoop, Stuck, deterministic
from tests.sim.raft.network import Network as RaftNetwork
from tests.sim.raft.network import Scheduler

HEAL_S = 60.0
"""Virtual seconds in which a healed cluster must have everything in order."""

SETTLE_S = 1.0

QUICK_SHARE = 0.25
"""Of runs in which requests are tried without a task first, as servers do. By a die of their own:
the others are as they would be without."""

QUICK_RATE = 0.7
"""Of the requests of such a run."""

ZEROS_SHARE = 0.25
"""Of runs in which every lone write takes zeros along, as only those of a larger log do. By a die
of their own as well."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run was worth. `violations` is empty when nothing went wrong."""

    seed: int
    violations: tuple[str, ...]
    troubles: tuple[str, ...]
    acknowledged: int
    polled: int
    segments: int
    digest: str
    """Of everything clients saw: equal for equal seeds, or the run is not deterministic."""


class _Scheduler:
    """The raft network's view of the loop."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.after = loop.after

    @property
    def now(self) -> float:
        return self._loop.time()

    def at(self, time: float, callback: object) -> None:
        self._loop.after(time - self.now, callback)  # type: ignore[arg-type]


class Run:
    """`seed` decides everything, but for the `kinds` of trouble if they are given; `duration_s` is
    the time of trouble."""

    def __init__(
        self, seed: int, *, duration_s: float = 10.0, kinds: Sequence[str] | None = None
    ) -> None:
        self.seed = seed
        self.duration_s = duration_s
        self.rng = random.Random(f"{seed} run")
        self.loop = SimLoop(seed, shuffles=self.rng.random() < 0.8)
        self.data = DataNetwork(self.loop, seed)
        self.raft = RaftNetwork(cast(Scheduler, _Scheduler(self.loop)), seed)
        self.limits = RollLimits(self.rng.choice([5, 30, 1000]), self.rng.choice([500, 1 << 30]))
        self.monitor_interval_ms = self.rng.choice([50, 300, 2000])
        self.ways = random.Random(f"{seed} ways")
        self.quick_rate = QUICK_RATE if self.ways.random() < QUICK_SHARE else 0.0
        self.fsync = "each"
        self.retention_interval_ms = 300_000
        self.lost_outcomes_rate = 0.0
        self.command_delay_s = 0.0
        self.lull_until = 0.0
        """Nobody writes anything before that."""
        self.machines: dict[int, Machine] = {}
        self.troubles = Troubles(self, kinds)
        for node in range(1, self._first_machines() + 1):
            self.machines[node] = Machine(self, node, joins=node > 1)
        self.damage = Damage(self)
        self.ruin = Ruin(self)
        self.history = History()
        self.losses = Losses(self)
        self.watch = Watch(self, harmed=self.damage.harms, losses=self.losses)
        self.ledger = Ledger()
        self.clients: list[Client] = []
        self.violations: list[str] = []
        self.tasks: anyio.abc.TaskGroup
        self._segments = 0

    def _first_machines(self) -> int:
        """Where others join, it may begin with fewer than a segment has replicas, or more."""
        if "too many disks" in self.troubles.kinds:
            return MACHINES
        if "join" in self.troubles.kinds:
            return self.rng.choice([1, 2, REPLICAS])
        may_leave = {"leave", "decommission"} & set(self.troubles.kinds)
        return REPLICAS + 1 if may_leave else REPLICAS

    def takes_quick_way(self) -> bool:
        return self.quick_rate > 0 and self.ways.random() < self.quick_rate

    def violated(self, what: str) -> None:
        if what not in self.violations:
            self.violations.append(what)

    def committed(self, topic_id: bytes, end_offset: int, what: str) -> None:
        self.watch.committed(topic_id, end_offset, what)

    def log_start_offset(self) -> int:
        topic = self.watch.state.topic_named(TOPIC)
        return 0 if topic is None else topic.log_start_offset

    def go(self) -> Outcome:
        with self._bounds(), deterministic(self.loop), self.watch.looking():
            try:
                self.loop.run_until_complete(NOBODY.copy().run(self.loop.create_task, self._main()))
            except Stuck as error:
                self.violated(f"stuck: {error}")
            self.loop.close()
        found = (*self.violations, *self.history.anomalies)
        return Outcome(
            self.seed,
            tuple(dict.fromkeys(found)),
            tuple(self.troubles.kinds),
            self.history.acknowledged_count,
            self.history.polled_count,
            self._segments,
            self.history.digest,
        )

    @contextmanager
    def _bounds(self) -> Iterator[None]:
        """Other bounds than the product's, for troubles that ask for them."""
        small: tuple[tuple[object, str, Sequence[float]], ...] = ()
        if "small windows" in self.troubles.kinds:
            sizes = (1, 200, 2000)
            small = (
                (feed, "WINDOW_SIZE_MAX", sizes),
                (feed, "FRAME_SIZE_MAX", sizes),
                (feed, "CAUGHT_UP_SIZE_MAX", sizes),
                (repair, "CHUNK_SIZE", sizes),
            )
        if "leave" in self.troubles.kinds:
            small += ((housekeeping, "AWAY_S", (0.3, 3.0, 20.0)),)
        with ExitStack() as stack:
            if random.Random(f"{self.seed} zeros").random() < ZEROS_SHARE:
                stack.enter_context(patch.object(write_queue, "LONE_COUNT_MIN", 1))
                stack.enter_context(patch.object(write_queue, "ZEROS_SIZE_MIN", 1))
            for module, name, values in small:
                stack.enter_context(patch.object(module, name, self.rng.choice(values)))
            yield

    async def _main(self) -> None:
        async with anyio.create_task_group() as self.tasks:
            for machine in self.machines.values():
                machine.start()
            is_formed = await self._within("form a cluster", self._form)
            if is_formed and await self._within("make a topic", self._create_topic):
                await self._live()
            for machine in self.machines.values():
                machine.kill(power=False)
            self.tasks.cancel_scope.cancel()

    async def _live(self) -> None:
        self.make_clients()
        with anyio.move_on_after(self.duration_s + HEAL_S) as patience:
            async with anyio.create_task_group() as work:
                for client in self.clients:
                    work.start_soon(client.run)
                with anyio.move_on_after(self.duration_s):
                    await self.troubles.run()
                self._heal()
                for client in self.clients:
                    client.is_stopping = True
        if patience.cancelled_caught:
            self.violated("unavailable: clients could not finish after everything was healed")
        await self._within("have lost disks leave", self._lost_disks_leave)
        await self._within("ask the groups", self._ask_groups)
        await self._within("take every native record", self._drain_native)
        if await self._within("read everything", self._read_all):
            await self._within("complete all copies", self._complete)
            self._look_at_disks()

    def _heal(self) -> None:
        """Everything works again. Sometimes everything is also started again, or loses power."""
        self.troubles.heal()
        end = self.rng.choice(["go on", "restart", "blackout"])
        if end == "go on" and "disk full" in self.troubles.kinds:
            end = "restart"
        for machine in self.machines.values():
            if end != "go on":
                machine.kill(power=end == "blackout")
        self.damage.mend()
        self.ruin.mend()
        for machine in self.machines.values():
            machine.start()

    async def _within(self, what: str, work: Callable[[], Awaitable[None]]) -> bool:
        with anyio.move_on_after(HEAL_S) as patience:
            await work()
        if patience.cancelled_caught:
            self.violated(f"unavailable: cannot {what}")
        return not patience.cancelled_caught

    def make_clients(self) -> None:
        """As the seed has them."""
        rng = self.rng
        several: tuple[tuple[int, int, str, Callable[[str], Client]], ...] = (
            (1, 3, "p", partial(Producer, self, self.history)),
            (0, 1, "q", partial(PlainProducer, self, self.history)),
            (1, 2, "c", partial(Consumer, self, self.history)),
            (0, 1, "k", partial(Keeper, self, self.history)),
            (0, 2, "n", partial(NativeClient, self, self.history, ledger=self.ledger)),
            (0, 1, "s", partial(ScratchTopic, self, self.history)),
        )
        self.clients = [
            make(f"{letter}{number}")
            for least, most, letter, make in several
            for number in range(rng.randint(least, most))
        ]
        keepers = [client for client in self.clients if isinstance(client, Keeper)]
        self.clients += [
            Onlooker(self, self.history, f"o{number}", keepers)
            for number in range(rng.randint(1, 2))
        ]

    async def _form(self) -> None:
        """Wait for everybody: else the first segments would have the first node only."""
        while len(self.state().brokers) < len(self.machines):
            await anyio.sleep(0.05)

    async def _create_topic(self) -> None:
        configs = {"retention.bytes": "2000"} if "retention" in self.troubles.kinds else {}

        async def create(process: Process) -> None:
            with suppress(TopicExists):
                await process.controller.create_topic(TOPIC, configs=configs)

        while True:
            try:
                await ask(self, 1, create, timeout_s=5.0)
                return
            except (Unanswered, RequestError):
                await anyio.sleep(0.1)

    async def _lost_disks_leave(self) -> None:
        """Raft counts on none that was replaced."""
        there = [machine for machine in self.machines.values() if not machine.is_gone]
        lost = {voter for machine in there for voter in machine.lost_voters}
        while not any(lost.isdisjoint(members.voters) for members in self._members()):
            await anyio.sleep(0.05)

    async def _ask_groups(self) -> None:
        for client in self.clients:
            if isinstance(client, Keeper):
                await client.check_all()

    async def _drain_native(self) -> None:
        for client in self.clients:
            if isinstance(client, NativeClient):
                await client.drain()
                self.ledger.check(self.history)
                return

    async def _read_all(self) -> None:
        """From the beginning to a high watermark that does not move any more."""
        reader = Consumer(self, History(), "reader")
        end_offset = -1
        while True:
            high_watermark = await reader.poll()
            if high_watermark is None or reader.position < high_watermark:
                continue
            if high_watermark == end_offset:
                break
            end_offset = high_watermark
            await anyio.sleep(SETTLE_S)
        self.history.check(sorted(reader.history.seen.items()), self.log_start_offset())
        self.history.anomalies += reader.history.anomalies

    async def _complete(self) -> None:
        """Wait until every sealed segment has all the copies it is to have, on disks that are
        there."""
        while not all(
            self._is_complete(topic, segment)
            for topic in self.state().topics.values()
            for segment in topic.segments
            if segment.state is SegmentState.SEALED
        ):
            await anyio.sleep(0.2)

    def _is_complete(self, topic: Topic, segment: Segment) -> bool:
        holders = self.good_holders(topic, segment)
        there = {node for node, machine in self.machines.items() if not machine.is_gone}
        # A node that is to leave, and cannot while others are away, is given no more copies.
        leaving = {node for node, broker in self.state().brokers.items() if broker.leaving}
        count = min(topic.replication_factor, len(there - leaving))
        if topic.is_emptied(segment) and not all(
            self.machines[node].has_emptied(topic, segment.sid) for node in holders
        ):
            return False
        return holders >= there & set(segment.replicas) and len(holders) >= count

    def good_holders(self, topic: Topic, segment: Segment) -> set[int]:
        """On the disks that they have now, and whole."""
        disks = self._disks()
        return {
            node
            for node, disk in segment.holders
            if disks.get(node) == disk
            and not self.damage.lasts(disk, topic, segment)
            and not self.ruin.lasts(disk, topic, segment)
        }

    def _disks(self) -> dict[int, bytes]:
        """That can be used."""
        return {
            node: machine.disk_id
            for node, machine in self.machines.items()
            if not machine.is_gone and not self.ruin.is_doomed(machine)
        }

    def may_lose(self, machine: Machine) -> bool:
        """Would everything that was promised outlive its disk, if that were gone now? Each record
        survives the loss of one of its copies, and so does each entry of Raft's log: until what
        was lost before has been made anew, no other one may go."""
        others = {self.machines[node].voter for node in self._disks()}
        members = self._members()
        return (
            not machine.is_gone
            and not self.damage.is_anywhere()
            and not self.ruin.is_anywhere()
            and len(members) == 1
            and len(members[0].voters) >= REPLICAS
            and others.issuperset(members[0].voters)
            and all(
                self._may_lose(machine.node, topic, segment)
                for topic in self.watch.state.topics.values()
                for segment in topic.segments
            )
        )

    def _may_lose(self, node: int, topic: Topic, segment: Segment) -> bool:
        if segment.state is SegmentState.SEALED:
            return bool(self.good_holders(topic, segment) - {node})
        disks = self._disks()
        at_first = self.watch.disks_at_first(topic.topic_id, segment.sid)
        are_there = all(disks.get(each) == disk for each, disk in at_first.items())
        return node not in at_first or (are_there and len(at_first) > 1)

    def is_whole(self) -> bool:
        """Has nothing that was damaged or lost still to be made anew, and may two voters go?"""
        members = self._members()
        voters = {self.machines[node].voter for node in self._disks()}
        return (
            not (self.damage.is_anywhere() or self.ruin.is_anywhere())
            and len(members) == 1
            and len(members[0].voters) == MACHINES
            and voters == set(members[0].voters)
        )

    def may_lose_copies(self, nodes: frozenset[int], topic: Topic, segment: Segment) -> bool:
        """Would what was promised of this segment outlive all of them?"""
        if segment.state is SegmentState.SEALED:
            return bool(self.good_holders(topic, segment) - nodes)
        disks = self._disks()
        at_first = self.watch.disks_at_first(topic.topic_id, segment.sid)
        are_there = all(disks.get(each) == disk for each, disk in at_first.items())
        return len(nodes & at_first.keys()) <= 1 and are_there and len(at_first) > 2

    def is_elsewhere(self, machine: Machine, topic: Topic, segment: Segment) -> bool:
        """Would what was promised outlive this copy? A node that finds an unsealed one damaged
        vouches for none of them any more."""
        if segment.state is SegmentState.SEALED:
            return self._may_lose(machine.node, topic, segment)
        return not (self.damage.is_anywhere() or self.ruin.is_anywhere()) and all(
            self._may_lose(machine.node, each, each.last) and not each.last.void
            for each in self.watch.state.topics.values()
            if each.last.state is not SegmentState.SEALED
        )

    def newest_state(self) -> ClusterState:
        """After the newest command that anybody has applied."""
        return self.watch.state

    def _members(self) -> list[Members]:
        """Of Raft, by each that believes that it leads it."""
        members = [process.members for process in self._processes()]
        return [each for each in members if each is not None]

    def _processes(self) -> list[Process]:
        processes = [machine.process for machine in self.machines.values()]
        return [each for each in processes if each is not None and each.is_ready]

    def state(self) -> ClusterState:
        """The newest that any node has."""
        states = [process.metadata.state for process in self._processes()]
        return max(states, key=lambda state: state.revision, default=EMPTY)

    def _look_at_disks(self) -> None:
        disks = self._disks()
        roots = {node: self.machines[node].newest_root() for node in disks}
        state = self.state()
        self._segments = sum(len(topic.segments) for topic in state.topics.values())
        self.violations += check_disks(state, roots, disks)
