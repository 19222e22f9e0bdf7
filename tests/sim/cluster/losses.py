"""Too many disks are gone, and an operator accepts what is left (docs/operations.md).

Of three replicas of a topic's last segment two are lost, or away for so long that nobody expects
them any more, at a moment when all else that was promised outlives it. What may then be missing is
known exactly: what was acknowledged at or behind the end of the copies that are left. The disks
that were only away come back, with more than that.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Protocol

import anyio
import anyio.abc

from broker.errors import InvalidRequest, RequestError
from raft.state import ClusterState, Segment, SegmentState, Topic
from tests.sim.cluster.model import Key
from tests.sim.cluster.network import DataNetwork
from tests.sim.cluster.node import Machine, Process
from tests.sim.cluster.troubles import REPLICAS, TOPIC
from tests.sim.cluster.watch import Watch
from tests.sim.history import History
from tests.sim.loop import SimLoop

MACHINES = 5
"""Two of them leave a majority of the metadata's disks."""

LOOK_S = 0.05

PATIENCE_S = 30.0
"""How long the topic may wait for its operator, and then for a leader."""

SETTLE_S = 1.5
"""For what other troubles have begun."""


SLOW_S = 6.0
"""What the disk that is left may take for something: longer than new ones do."""


class Losing(Protocol):
    """What loses them."""

    loop: SimLoop
    data: DataNetwork
    tasks: anyio.abc.TaskGroup
    machines: dict[int, Machine]
    history: History
    watch: Watch

    def newest_state(self) -> ClusterState: ...
    def is_whole(self) -> bool: ...
    def may_lose_copies(self, nodes: frozenset[int], topic: Topic, segment: Segment) -> bool: ...
    def violated(self, what: str) -> None: ...


@dataclass(slots=True)
class Loss:
    """Of one topic's last segment."""

    key: Key
    given_up: frozenset[bytes]
    """Disks that nobody waits for any more."""
    end_offset: int | None = None
    """Where the segment ended, once it has."""


@dataclass(slots=True)
class Losses:
    """All there were in one run."""

    world: Losing
    accepted: list[Loss] = field(default_factory=list)

    async def befall(self, rng: random.Random) -> None:
        """Wait for a moment, lose two, have an operator decide, and wait until there is a leader
        again."""
        world = self.world
        with anyio.move_on_after(PATIENCE_S):
            await anyio.sleep(SETTLE_S)
            while True:
                found = self._victims()
                if found is not None and await self._leave_behind(*found, rng):
                    break
                await anyio.sleep(LOOK_S)
            topic, pairs = found
            nodes = pairs[0]
            machines = [world.machines[node] for node in sorted(nodes)]
            gone = frozenset(machine.disk_id for machine in machines)
            loss = Loss((topic.topic_id, topic.last.sid), gone)
            self.accepted.append(loss)
            away = self._lose(machines, rng)
            if rng.random() < 0.3:
                (left,) = set(topic.last.replicas) - nodes
                speed = world.machines[left].speed
                speed.slow_s = SLOW_S
                world.loop.after(2 * SLOW_S, partial(setattr, speed, "slow_s", 0.0))
            decided = anyio.Event()
            back_s = rng.choice([0.0, 1.0, 5.0])
            # Also when there is no more trouble: what waits for an operator waits.
            world.tasks.start_soon(self._decide, loss, away, back_s, decided)
            await decided.wait()

    async def _leave_behind(
        self, topic: Topic, pairs: list[frozenset[int]], rng: random.Random
    ) -> bool:
        """The one that is to be left hears nothing for a moment. May the others still go, after
        that? The first of the pairs is taken."""
        rng.shuffle(pairs)
        if rng.random() < 0.8:
            pairs.sort(key=lambda pair: topic.last.writer not in pair)
        (left,) = set(topic.last.replicas) - pairs[0]
        links = {(node, left) for node in pairs[0]}
        self.world.data.cut |= links
        await anyio.sleep(rng.choice([0.1, 0.4, 0.8]))
        found = self._victims()
        self.world.loop.after(0.2, partial(self.world.data.cut.difference_update, links))
        return found is not None and found[0].last == topic.last and pairs[0] in found[1]

    def _victims(self) -> tuple[Topic, list[frozenset[int]]] | None:
        """And which two. None while it cannot lose two, and nothing else with it."""
        world = self.world
        topic = world.newest_state().topic_named(TOPIC)
        machines = world.machines.values()
        is_calm = all(each.process is not None and each.process.is_ready for each in machines)
        if topic is None or not is_calm or not world.is_whole():
            return None
        last = topic.last
        if last.state is not SegmentState.OPEN or last.void or len(last.replicas) != REPLICAS:
            return None
        if world.watch.is_rolling((topic.topic_id, last.sid)):
            return None  # Once it is closed, no command makes up for all its holders.
        pairs = [frozenset(pair) for pair in combinations(last.replicas, 2)]
        pairs = [pair for pair in pairs if self._outlives(topic, pair)]
        return (topic, pairs) if pairs else None

    def _outlives(self, victim: Topic, nodes: frozenset[int]) -> bool:
        """Everything but the victim's last segment."""
        return all(
            self.world.may_lose_copies(nodes, topic, segment)
            for topic in self.world.newest_state().topics.values()
            for segment in topic.segments
            if segment is not victim.last
        )

    def _lose(self, machines: list[Machine], rng: random.Random) -> list[Machine]:
        """Those that are only away."""
        away = []
        for machine in machines:
            if rng.random() < 0.5:
                machine.lose_disk()
                machine.restart_later(rng.choice([0.1, 2.0, 8.0]))
            else:
                machine.kill(power=rng.random() < 0.5)
                machine.is_away = True
                away.append(machine)
        return away

    async def _decide(
        self, loss: Loss, away: list[Machine], back_s: float, decided: anyio.Event
    ) -> None:
        """What an operator does who knows that they do not come back: look, ask, say it again. And
        then some do."""
        while self._is_unfinished(loss):
            await anyio.sleep(LOOK_S)
            process = self._somebody()
            if process is not None:
                process.start(_accept, process)
        for machine in away:
            machine.is_away = False
            machine.restart_later(back_s)
        decided.set()

    def _is_unfinished(self, loss: Loss) -> bool:
        topic = self.world.newest_state().topics.get(loss.key[0])
        return topic is not None and topic.last.sid == loss.key[1]

    def _somebody(self) -> Process | None:
        processes = [machine.process for machine in self.world.machines.values()]
        return next((each for each in processes if each is not None and each.is_ready), None)

    # ---- what the checkers ask -------------------------------------------------------------------

    def given_up(self, key: Key) -> Iterator[bytes]:
        """Disks whose copies of this segment do not count."""
        for loss in self.accepted:
            if loss.key == key:
                yield from loss.given_up

    def ended(self, key: Key, end_offset: int) -> None:
        """A segment of which a loss was accepted has ended: from here on what lay behind its end is
        gone for good, and its offsets are given out anew."""
        for loss in self.accepted:
            if loss.key == key:
                loss.end_offset = end_offset
                self.world.history.lost(end_offset)

    def end_before(self, position: int) -> int | None:
        """Where a reader at `position` goes on if what it had read is gone; None if it is not."""
        ends = [loss.end_offset for loss in self.accepted if loss.end_offset is not None]
        return min((end for end in ends if end < position), default=None)


async def _accept(process: Process) -> None:
    """Nobody is asked twice who did not see first what is at stake."""
    for force in ("", TOPIC):
        try:
            await process.controller.unclean_seal(TOPIC, force=force)
        except InvalidRequest as error:
            if "--force" not in str(error):
                return  # Not stuck, or not yet: nobody has noticed that they are gone.
        except RequestError:
            return
