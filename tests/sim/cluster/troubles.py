"""What befalls a cluster. Each run has some of these, at a pace of its own."""

import errno
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio

from broker.controller.retention import HIGH_WATERMARK
from raft.commands import BeginSeal, FenceBroker, MarkLeaving
from tests.sim.cluster.node import Machine, Process
from tests.sim.cluster.world import World

TOPIC = "t"
"""What clients write to, and DeleteRecords deletes from."""

REPLICAS = 3
"""Of a topic for which nothing else is asked."""

MACHINES_MAX = 5

PATIENCE_S = 10.0
"""How long a trouble waits for its moment."""

_Trouble = Callable[["Troubles"], Awaitable[None]]


class Troubles:
    """One after the other begins, until `heal`; those that last a while end in their own time."""

    def __init__(self, world: World, kinds: Sequence[str] | None = None) -> None:
        """`kinds`: these, and not those that the seed has."""
        self.world = world
        self.rng = _rng(world.seed)
        self.kinds = _draw(self.rng, world.seed) if kinds is None else list(kinds)
        self.quiet_s = self.rng.choice([0.2, 0.7, 2.0])
        if "slow network" in self.kinds:
            world.data.delay_s = (0.0001, self.rng.choice([0.02, 0.2]))
        if "loss" in self.kinds:
            world.data.loss_rate = self.rng.choice([0.001, 0.01])
        if "small windows" in self.kinds:
            world.data.buffer_size = self.rng.choice([1, 1000])
        if "retention" in self.kinds:
            world.retention_interval_ms = self.rng.choice([200, 2000])
        if "lost outcomes" in self.kinds:
            world.lost_outcomes_rate = self.rng.choice([0.05, 0.3])
        if "slow commands" in self.kinds:
            world.command_delay_s = self.rng.choice([0.05, 0.5, 2.0])

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await anyio.sleep(self.rng.expovariate(1 / self.quiet_s))
            await KINDS[self.rng.choice(self.kinds)](self)

    def heal(self) -> None:
        """Everything works again, and everybody is started again."""
        world = self.world
        world.data.cut.clear()
        world.raft.set_cut(set(), 0.0)
        world.data.loss_rate = world.lost_outcomes_rate = world.command_delay_s = 0.0
        world.lull_until = 0.0
        world.data.delay_s = (0.0001, 0.002)
        for machine in world.machines.values():
            world.loop.thaw(machine.node)
            machine.speed.slow_s = machine.hears_at = 0.0
            if machine.process is not None:
                machine.process.backend.fs.faults.clear()

    def _one(self) -> Machine:
        return self.world.machines[self.rng.choice(sorted(self.world.machines))]

    def _some_time(self) -> float:
        return self.rng.choice([0.02, 0.3, 1.5, 4.0]) * self.rng.uniform(0.5, 1.5)

    # ---- processes and machines ------------------------------------------------------------------

    async def kill(self) -> None:
        machine = self._one()
        machine.kill(power=False)
        machine.restart_later(self._some_time())

    async def power(self) -> None:
        machine = self._one()
        machine.kill(power=True)
        machine.restart_later(self._some_time())

    async def kill_leader(self) -> None:
        for machine in self.world.machines.values():
            process = machine.process
            if process is not None and process.is_ready and process.controller.led_partitions():
                machine.kill(power=self.rng.random() < 0.5)
                machine.restart_later(self._some_time())
                return

    async def blackout(self) -> None:
        for machine in self.world.machines.values():
            machine.kill(power=True)
            machine.restart_later(self.rng.uniform(0.0, 1.0))

    async def restart(self) -> None:
        """A planned one: what it leads is handed over first."""
        machine = self._one()
        process = machine.process
        if process is not None and process.is_ready:
            process.start(process.hand_over)
            self.world.loop.after(self.rng.uniform(0.0, 1.0), partial(_end, machine, process))

    async def pause(self) -> None:
        node = self._one().node
        self.world.loop.freeze(node)
        self.world.loop.after(self._some_time(), lambda: self.world.loop.thaw(node))

    # ---- networks --------------------------------------------------------------------------------

    async def partition(self) -> None:
        nodes = sorted(self.world.machines)
        alone = self.rng.choice(nodes)
        cut = {(alone, other) for other in nodes if other != alone}
        self._cut(cut | {(to, source) for source, to in cut})

    async def one_way(self) -> None:
        nodes = sorted(self.world.machines)
        if len(nodes) > 1:
            source, target = self.rng.sample(nodes, 2)
            self._cut({(source, target)})

    async def pieces(self) -> None:
        nodes = sorted(self.world.machines)
        links = [(one, other) for one in nodes for other in nodes if one != other]
        self._cut({link for link in links if self.rng.random() < 0.5})

    def _cut(self, cut: set[tuple[int, int]]) -> None:
        """In the data, in Raft, or in both; for a while."""
        world = self.world
        planes = self.rng.choice(["data", "raft", "both", "both"])
        if planes != "raft":
            world.data.cut = cut
            for connection in world.data.connections():
                if connection.is_cut():
                    world.loop.after(self.rng.uniform(0.0, 2.0), connection.reset)
        if planes != "data":
            voters = {node: machine.voter for node, machine in world.machines.items()}
            raft_cut = {(voters[source], voters[to]) for source, to in cut}
            world.raft.set_cut(raft_cut, self.rng.uniform(0.0, 1.0))
        world.loop.after(self._some_time(), self._mend)

    def _mend(self) -> None:
        self.world.data.cut = set()
        self.world.raft.set_cut(set(), 0.0)

    async def reset(self) -> None:
        self.world.raft.reset_all()
        for connection in self.world.data.connections():
            connection.reset()

    # ---- disks and clocks ------------------------------------------------------------------------

    async def slow_disk(self) -> None:
        self._slow_down(self._one())

    def _slow_down(self, machine: Machine) -> None:
        speed = machine.speed
        speed.slow_s = self.rng.choice([0.05, 0.5, 2.0])
        self.world.loop.after(self._some_time(), partial(setattr, speed, "slow_s", 0.0))

    async def disk_error(self) -> None:
        process = self._one().process
        if process is not None and process.is_ready:
            operation = self.rng.choice(["write", "sync", "read"])
            process.backend.fail_next(operation, errno.EIO, path="/topics")

    async def disk_full(self) -> None:
        machine = self._one()
        if machine.process is not None and machine.process.is_ready:
            partial = self.rng.choice([0, 10, 100])
            machine.process.backend.fail_next("write", errno.ENOSPC, path=".log", partial=partial)

    async def lost_disk(self) -> None:
        """As many as there are, but one at a time: two are more than is promised to survive. The
        new one may take its time with all that is to be made anew."""
        machine = self._one()
        if not self.world.may_lose(machine):
            return
        if "lull" in self.kinds:
            await self._lose_at_rest(machine)
            return
        self._lose(machine)
        if self.rng.random() < 0.5:
            self._slow_down(machine)

    def _lose(self, machine: Machine) -> None:
        machine.lose_disk()
        machine.restart_later(self._some_time())

    async def _lose_at_rest(self, machine: Machine) -> None:
        """Nobody writes before it is back. What the lost disk was the last to acknowledge is where
        segments end, while the new one begins to copy them, slowly."""
        world = self.world
        world.lull_until = until = world.loop.time() + PATIENCE_S
        with anyio.move_on_at(until):
            await anyio.sleep(self.rng.choice([0.1, 0.5]))
            if world.may_lose(machine):
                self._lose(machine)
                while not self._is_followed_by(machine):
                    await anyio.sleep(0.002)
                self._slow_down(machine)
                await anyio.sleep(self.rng.choice([0.0, 0.002, 0.02, 0.1]))
                await self.roll()
        world.lull_until = 0.0

    def _is_followed_by(self, machine: Machine) -> bool:
        """Has a writer heard of the disk that it has now?"""
        return any(
            partition.bucket is not None
            and partition.bucket.writer.disks.get(machine.node) == machine.disk_id
            for each in self.world.machines.values()
            if each is not machine and each.process is not None and each.process.is_ready
            for partition in each.process.controller.led_partitions()
        )

    async def damaged_indexes(self) -> None:
        machine = self._one()
        machine.damage_indexes()
        machine.restart_later(self._some_time())

    async def damaged_logs(self) -> None:
        """Bytes decay while a node is down."""
        machine = self._one()
        if machine.process is not None:
            machine.kill(power=True)
            for _ in range(self.rng.choice([1, 1, 3])):
                self.world.damage.befall(machine, self.rng)
            machine.restart_later(self._some_time())

    async def damaged_copies(self) -> None:
        """Of a node that is down, `meta` or `head` decays, of one copy or several."""
        machine = self._one()
        if machine.process is not None:
            may_refuse = self.world.may_lose(machine)
            machine.kill(power=True)
            for _ in range(self.rng.choice([1, 1, 3])):
                self.world.ruin.befall_copy(machine, self.rng, may_refuse=may_refuse)
                may_refuse = False
            machine.restart_later(self._some_time())

    async def damaged_metadata(self) -> None:
        """Raft's journal, or its snapshot."""
        machine = self._one()
        if machine.process is not None and self.world.may_lose(machine):
            machine.kill(power=True)
            self.world.ruin.befall_raft(machine, self.rng)
            machine.restart_later(self._some_time())

    async def too_many_disks(self) -> None:
        """More than a topic's last segment can lose."""
        await self.world.losses.befall(self.rng)

    async def join(self) -> None:
        """One more, as long as there are not too many. It may end before it is let in."""
        machines = self.world.machines
        node = max(machines) + 1
        if node <= MACHINES_MAX:
            machines[node] = machine = Machine(self.world, node, joins=True)
            machine.start()
            if "kill" in self.kinds:
                self.world.loop.after(self.rng.uniform(0.0, 0.3), partial(_start_again, machine))

    async def decommission(self) -> None:
        """An operator has a node taken out, and may think better of it."""
        process = self._ready()
        if process is not None:
            brokers = process.metadata.state.brokers
            leaving = [node for node, broker in sorted(brokers.items()) if broker.leaving]
            if leaving and self.rng.random() < 0.3:
                node = self.rng.choice(leaving)
                # Who has lost its vote is not told to stay: `Departures.mark`.
                if brokers[node].disk.hex() in process.metadata.members:
                    process.start(process.propose, MarkLeaving(node, leaving=False))
            elif not leaving and len(brokers) > 2:
                node = self.rng.choice(sorted(brokers))
                process.start(process.propose, MarkLeaving(node, leaving=True))

    async def leave(self) -> None:
        """For good, and without a word."""
        machine = self._one()
        others = [each for each in self.world.machines.values() if not each.is_gone]
        if len(others) > REPLICAS and self.world.may_lose(machine):
            machine.leave()

    async def wall_clock(self) -> None:
        self._one().wall_offset_ms = self.rng.choice([-3_600_000, 0, 1000, 86_400_000])

    # ---- the cluster's own doing -----------------------------------------------------------------

    async def roll(self) -> None:
        for machine in self.world.machines.values():
            process = machine.process
            if process is not None and process.is_ready:
                for partition in process.controller.led_partitions():
                    process.start(process.broker.leading.roll, partition, "forced")
        if "slow commands" in self.kinds:
            # The one that is to write next may be another process by the time that it is told.
            self.world.loop.after(self.rng.uniform(0.0, 0.1), partial(_start_again, self._one()))

    async def suspicion(self) -> None:
        """Somebody takes a writer that lives for dead, and has its segment sealed. Where answers
        take their time, so may the recoverer be, before it is through: at whatever it was."""
        if "slow network" not in self.kinds:
            self._suspect()
            return
        _, delay_s = self.world.data.delay_s
        for _ in range(self.rng.choice([1, 1, 2, 4])):
            self._suspect()
            await anyio.sleep(self.rng.uniform(0.0, self.rng.choice([0.01, 1.0, 8.0]) * delay_s))

    def _suspect(self) -> None:
        process = self._ready()
        topics = [] if process is None else sorted(process.metadata.state.topics.items())
        if process is not None and topics:
            _, topic = self.rng.choice(topics)
            recoverer = self.rng.choice(sorted(self.world.machines))
            command = BeginSeal(topic.topic_id, topic.last.sid, topic.epoch, recoverer)
            process.start(process.propose, command)

    async def fence(self) -> None:
        """A node is taken for dead that is not, as a rule one that writes; and it may be long in
        hearing of it, with one of those who follow it or alone."""
        process = self._ready()
        if process is None or not process.metadata.state.brokers:
            return
        state = process.metadata.state
        topic, node = state.topic_named(TOPIC), self.rng.choice(sorted(state.brokers))
        if topic is not None and self.rng.random() < 0.6:
            node = topic.last.writer
        if node in state.brokers:
            command = FenceBroker(node, state.brokers[node].incarnation)
            process.start(process.propose, command)
            if "late news" in self.kinds:
                self._keep_in_the_dark(self.world.machines[node])
                others = [] if topic is None else sorted({*topic.last.replicas} - {node})
                if others and self.rng.random() < 0.5:
                    self._keep_in_the_dark(self.world.machines[self.rng.choice(others)])

    async def late_news(self) -> None:
        """A node acts on metadata that is long outdated."""
        self._keep_in_the_dark(self._one())

    def _keep_in_the_dark(self, machine: Machine) -> None:
        machine.hears_at = self.world.loop.time() + self.rng.choice([0.02, 0.5, 2.0, 4.0])

    async def lull(self) -> None:
        """Nobody writes: what was acknowledged last is the end for a while."""
        world = self.world
        world.lull_until = max(world.lull_until, world.loop.time() + self._some_time())

    async def delete_records(self) -> None:
        for machine in self.world.machines.values():
            process = machine.process
            if process is not None and process.is_ready:
                end_offset = self.world.log_start_offset() + self.rng.choice([1, 20, 200])
                offset = self.rng.choice([HIGH_WATERMARK, end_offset])
                process.start(process.delete_records, TOPIC, offset)

    def _ready(self) -> Process | None:
        process = self._one().process
        return process if process is not None and process.is_ready else None

    async def nothing(self) -> None:
        """A condition that lasts the whole run: see `__init__`."""


def _start_again(machine: Machine) -> None:
    machine.kill(power=False)
    machine.restart_later(0.02)


def _end(machine: Machine, process: Process) -> None:
    """What has handed over lives no longer, whatever befell the cluster meanwhile."""
    if machine.process is process:
        machine.kill(power=False)
        machine.restart_later(0.1)


KINDS: dict[str, _Trouble] = {
    "kill": Troubles.kill,
    "power": Troubles.power,
    "kill leader": Troubles.kill_leader,
    "blackout": Troubles.blackout,
    "restart": Troubles.restart,
    "pause": Troubles.pause,
    "partition": Troubles.partition,
    "one way": Troubles.one_way,
    "pieces": Troubles.pieces,
    "reset": Troubles.reset,
    "slow disk": Troubles.slow_disk,
    "disk error": Troubles.disk_error,
    "disk full": Troubles.disk_full,
    "wall clock": Troubles.wall_clock,
    "roll": Troubles.roll,
    "suspicion": Troubles.suspicion,
    "fence": Troubles.fence,
    "late news": Troubles.late_news,
    "lost disk": Troubles.lost_disk,
    "damaged indexes": Troubles.damaged_indexes,
    "damaged logs": Troubles.damaged_logs,
    "damaged copies": Troubles.damaged_copies,
    "damaged metadata": Troubles.damaged_metadata,
    "too many disks": Troubles.too_many_disks,
    "join": Troubles.join,
    "leave": Troubles.leave,
    "decommission": Troubles.decommission,
    "lull": Troubles.lull,
    "delete records": Troubles.delete_records,
    "retention": Troubles.nothing,
    "slow network": Troubles.nothing,
    "loss": Troubles.nothing,
    "small windows": Troubles.nothing,
    "lost outcomes": Troubles.nothing,
    "slow commands": Troubles.nothing,
}


TOGETHER: tuple[tuple[str, ...], ...] = (
    ("suspicion", "slow network"),  # An attempt to seal is superseded while it repairs.
    ("suspicion", "slow network", "kill"),  # Or who makes it, or has promised, is started again.
    ("fence", "late news"),  # A leader has been deposed, and does not know.
    ("fence", "late news", "join"),  # Nor do those who follow it, and others do without them.
    ("join", "kill"),  # Who joins ends before it is let in.
    ("roll", "slow commands"),  # The next writer ends before it has begun.
    ("lost disk", "lull"),  # What a disk was the last to acknowledge goes with it.
    ("partition", "kill leader", "slow disk"),  # What is under way is lost.
)
"""Troubles that do more together than each alone."""

TOGETHER_RATE = 0.4
"""Of runs that have one of these."""


APART = {
    "damaged logs": 0.1,
    "damaged copies": 0.06,
    "damaged metadata": 0.06,
    "too many disks": 0.05,
}
"""Troubles that are dealt by themselves, and to which share of the runs: those that do not have
them are as they would be without."""


def kinds_of(seed: int) -> list[str]:
    """Those that a run of `seed` has."""
    return _draw(_rng(seed), seed)


def _rng(seed: int) -> random.Random:
    return random.Random(f"{seed} troubles")


def _draw(rng: random.Random, seed: int) -> list[str]:
    kinds = rng.sample(sorted(KINDS.keys() - APART), rng.randint(1, 6))
    if rng.random() < TOGETHER_RATE:
        kinds = [*rng.choice(TOGETHER), *kinds[: rng.randint(0, 2)]]
    for kind, share in APART.items():
        if random.Random(f"{seed} {kind}").random() < share:
            kinds.append(kind)
    return sorted(set(kinds))
