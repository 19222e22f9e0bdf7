"""Bytes that decay in the logs of a node that is down, and where they still are.

Only where others have the same: what nobody else has nobody can make anew. In a copy that is open a
batch follows, for without one it looks like a tail that a power cut tore; and in one that is sealed
the CRC of the batch covers the byte, for clients are the first to look at it again, unless the
segment is one of the newest two (docs/limits.md).
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from engine.batch import HEADER_SIZE
from engine.format import log_name
from raft.state import ClusterState, Segment, SegmentState, Topic
from tests.sim.cluster.copies import file_of, is_closed, kept, put_file, take_away
from tests.sim.cluster.durable import read_on
from tests.sim.cluster.model import Key
from tests.sim.cluster.node import Machine

CRC_BEGINS = 17
"""Bytes of a batch before its CRC, and before what that covers."""

NEWEST = 2
"""Segments of a topic that are read back whole at a start."""


class Damaged(Protocol):
    """What decays."""

    machines: dict[int, Machine]

    def newest_state(self) -> ClusterState: ...

    def is_elsewhere(self, machine: Machine, topic: Topic, segment: Segment) -> bool:
        """Would what was promised outlive it if all of this copy were gone?"""

    def violated(self, what: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Harm:
    """One byte of one copy."""

    machine: Machine
    disk: bytes
    position: int
    was: int


class Damage:
    """All there was in one run."""

    def __init__(self, world: Damaged) -> None:
        self._world = world
        self.harms: dict[tuple[bytes, Key], Harm] = {}
        """(disk, segment) → what befell it."""

    def befall(self, machine: Machine, rng: random.Random) -> None:
        """One byte of the disk of a machine that has just lost power."""
        found = [
            (topic, segment, position, 5 if segment in topic.segments[-NEWEST:] else 1)
            for topic, segment in kept(self._world.newest_state())
            if (machine.disk_id, (topic.topic_id, segment.sid)) not in self.harms
            if self._world.is_elsewhere(machine, topic, segment)
            if (position := self._choose(machine, topic, segment, rng)) is not None
        ]
        if not found:
            return
        ((topic, segment, position, _),) = rng.choices(found, [weight for *_, weight in found])
        name = log_name(segment.base_offset)
        file = file_of(machine, topic, segment, name)
        assert file is not None
        data = bytearray(file.synced)
        was, data[position] = data[position], data[position] ^ 1 << rng.randrange(8)
        put_file(machine, topic, segment, name, data)
        key = (topic.topic_id, segment.sid)
        self.harms[machine.disk_id, key] = Harm(machine, machine.disk_id, position, was)

    def lasts(self, disk: bytes, topic: Topic, segment: Segment) -> bool:
        """Is this copy, which was damaged, not whole again? One that has no end yet never is."""
        harm = self.harms.get((disk, (topic.topic_id, segment.sid)))
        if harm is None or harm.machine.is_gone or harm.machine.disk_id != disk:
            return False
        if segment.state is not SegmentState.SEALED:
            return True
        if topic.is_emptied(segment):
            return False
        file = file_of(harm.machine, topic, segment, log_name(segment.base_offset))
        if file is None or len(file.synced) != segment.size:
            return True
        return harm.position < segment.size and file.synced[harm.position] != harm.was

    def is_anywhere(self) -> bool:
        """Does any last?"""
        return any(
            self.lasts(disk, topic, segment)
            for topic, segment in kept(self._world.newest_state())
            for disk, key in self.harms
            if key == (topic.topic_id, segment.sid)
        )

    def noticed(self, error: Exception) -> None:
        """A client was given a batch whose CRC does not hold."""
        if not self.harms:
            self._world.violated(f"a damaged batch was served: {error}")

    def mend(self) -> None:
        """An operator takes away what no start has noticed (docs/operations.md): a closed copy,
        below the newest, is made anew if its directory is gone."""
        for topic, segment in kept(self._world.newest_state()):
            for machine in self._world.machines.values():
                if self.lasts(machine.disk_id, topic, segment) and is_closed(
                    machine, topic, segment
                ):
                    take_away(machine, topic, segment)

    def _choose(
        self, machine: Machine, topic: Topic, segment: Segment, rng: random.Random
    ) -> int | None:
        file = file_of(machine, topic, segment, log_name(segment.base_offset))
        if file is None:
            return None
        bounds = list(_batches(file.synced, segment.base_offset))
        begin = 0
        if is_closed(machine, topic, segment):
            begin = CRC_BEGINS
        else:
            bounds = bounds[:-1]
        if not bounds:
            return None
        start, end = rng.choice(bounds)
        return rng.randrange(start + begin, end)


def _batches(data: bytearray, base_offset: int) -> Iterator[tuple[int, int]]:
    """Where each whole batch begins and ends."""
    size, _ = read_on(data, 0, base_offset)
    position = 0
    while position + HEADER_SIZE <= size:
        end = position + 12 + int.from_bytes(data[position + 8 : position + 12])
        yield position, end
        position = end
