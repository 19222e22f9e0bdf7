"""How long a topic is without a writer after its writer was killed, in virtual time.

`python -m tests.sim.cluster.failover --seeds 50` prints how long it takes from the end of a process
until a record sent after it is acknowledged by whoever writes next, and what the slowest were made
of. Exit status 1 if anything took longer than it may. Clients' own pauses are apart from that:
whoever asks here asks all nodes all the time.
"""

import argparse
import logging
import os
import sys
from dataclasses import dataclass, field
from functools import partial

import anyio
import structlog

from broker.errors import RequestError
from broker.ports import ACKS_ALL
from raft.state import SegmentState, Topic
from tests.sim.cluster.clients import make_batch
from tests.sim.cluster.node import Process
from tests.sim.cluster.run import Run
from tests.sim.cluster.troubles import TOPIC

DOWN_S = (0.5, 6.0)
"""How long a killed process is away."""

LOOK_S = 0.001
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Loss:
    """A writer is lost."""

    name: str
    within_s: float
    """The most that it may take: what is waited for in the worst case, one after the other."""
    power: bool = False
    """Its machine goes, too: nobody refuses connections for it."""
    with_raft: bool = False
    """It led Raft, too."""


LOSSES = (
    # A heartbeat is late, and two looks find that it is refused.
    Loss("killed", 0.7),
    # Before that a new leader, perhaps in a second election.
    Loss("killed, Raft's leader", 2.5, with_raft=True),
    # Its time to live.
    Loss("without power", 1.6, power=True),
    Loss("without power, Raft's leader", 3.5, power=True, with_raft=True),
)


@dataclass
class Takeover:
    """Seconds from the loss, by what had happened then."""

    seed: int
    loss: Loss
    down_s: float
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def took_s(self) -> float:
        return self.phases.get("acknowledged", float("inf"))

    def __str__(self) -> str:
        phases = ", ".join(f"{name} {at:.2f}" for name, at in self.phases.items())
        return f"seed {self.seed}, away for {self.down_s:.1f} s: {phases}"


class Failovers(Run):
    """Three nodes without any other trouble; a writer is lost in each of the ways."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, kinds=())
        self.takeovers: list[Takeover] = []

    async def _live(self) -> None:
        for loss in LOSSES:
            if not await self._within("be whole", self._whole):
                return
            takeover = Takeover(self.seed, loss, self.rng.uniform(*DOWN_S))
            if await self._within("begin", partial(self._meet, takeover)):
                await self._take_over(takeover)

    async def _whole(self) -> None:
        """Until all are there, and whoever writes has all of them as followers."""
        while not self._is_whole():
            await anyio.sleep(0.05)
        await anyio.sleep(self.rng.uniform(1.0, 2.0))

    def _is_whole(self) -> bool:
        topic = self._topic()
        brokers = self.state().brokers.values()
        return (
            all(machine.process and machine.process.is_ready for machine in self.machines.values())
            and not any(broker.fenced for broker in brokers)
            and topic.last.state is SegmentState.OPEN
            and len(topic.last.replicas) == len(self.machines)
        )

    async def _meet(self, takeover: Takeover) -> None:
        """Until the writer leads Raft, or does not, as it is asked for, and takes records."""
        while True:
            await self._write()
            leading = [process for process in self._processes() if process.members is not None]
            if (
                leading
                and (leading[0].node == self._topic().last.writer) == takeover.loss.with_raft
            ):
                await anyio.sleep(self.rng.uniform(0.0, 0.5))
                return
            if leading and self.rng.random() < 0.5:
                leading[0]._raft.transfer()
            else:
                await self.troubles.roll()
            await anyio.sleep(0.3)

    async def _take_over(self, takeover: Takeover) -> None:
        before = self._topic().last
        machine = self.machines[before.writer]
        lost_at = self.loop.time()
        machine.kill(power=takeover.loss.power)
        machine.restart_later(takeover.down_s)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._note_phases, takeover, machine.node, before.sid, lost_at)
            with anyio.move_on_after(PATIENCE_S):
                await self._write()
                takeover.phases["acknowledged"] = self.loop.time() - lost_at
            tasks.cancel_scope.cancel()
        self.takeovers.append(takeover)

    async def _note_phases(self, takeover: Takeover, node: int, sid: int, lost_at: float) -> None:
        while True:
            state, topic = self.state(), self._topic()
            is_over = topic.last.sid != sid
            leading = [each for each in self._processes() if each.members is not None]
            for name, has_happened in (
                ("a Raft leader", any(each.node != node for each in leading)),
                ("fenced", state.brokers[node].fenced),
                ("seal begun", is_over or topic.last.state is SegmentState.SEALING),
                ("seal committed", is_over),
                (f"back as node {node}", self._is_ready(node)),
            ):
                if has_happened and name not in takeover.phases:
                    takeover.phases[name] = self.loop.time() - lost_at
            await anyio.sleep(LOOK_S)

    def _is_ready(self, node: int) -> bool:
        process = self.machines[node].process
        return process is not None and process.is_ready

    async def _write(self) -> None:
        """One record, to whoever takes it first. Each attempt ends for itself: one that waits for
        what was lost does not hold up the others."""
        done = anyio.Event()

        async def attempt(process: Process) -> None:
            try:
                partition = process.controller.partition(process.controller.topic(TOPIC))
                written = await partition.append(make_batch([b"x"]), acks=ACKS_ALL)
                await partition.committed(written.end_offset, acks=ACKS_ALL, timeout_s=5.0)
            except RequestError:
                return
            if process.is_alive:
                done.set()

        while not done.is_set():
            for process in self._processes():
                process.start(attempt, process)
            with anyio.move_on_after(5 * LOOK_S):
                await done.wait()

    def _topic(self) -> Topic:
        topic = self.state().topic_named(TOPIC)
        assert topic is not None
        return topic


def measure(seed: int) -> list[Takeover]:
    """Of one seed. Raises AssertionError if anything else went wrong."""
    run = Failovers(seed)
    outcome = run.go()
    assert not outcome.violations, outcome.violations
    return run.takeovers


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.cluster.failover")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--slowest", type=int, default=3, help="how many to describe")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        module = ["-m", "tests.sim.cluster.failover"]
        os.execv(sys.executable, [sys.executable, *module, *sys.argv[1:]])
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    seeds = range(options.first, options.first + options.seeds)
    found = [takeover for seed in seeds for takeover in measure(seed)]
    is_late = False
    for loss in LOSSES:
        some = sorted((each for each in found if each.loss is loss), key=lambda each: each.took_s)
        figures = ", ".join(f"p{at} {_percentile(some, at):.2f} s" for at in (50, 90, 99, 100))
        print(f"{loss.name} ({len(some)}): {figures}; at most {loss.within_s} s")
        for each in some[-options.slowest :]:
            print("   ", each)
        is_late |= not some or some[-1].took_s > loss.within_s
    return int(is_late)


def _percentile(some: list[Takeover], percent: int) -> float:
    return some[max(0, -(-len(some) * percent // 100) - 1)].took_s


if __name__ == "__main__":
    sys.exit(main())
