"""Small files that decay while their node is down: `meta` and `head` of a copy, Raft's journal and
snapshot. Nobody can start with what is left of them: a closed copy is made anew from another one,
and otherwise the node says which file it is, does not start, and is given another disk.

Such a disk counts as lost from the moment it is damaged, so this happens to one at a time, and only
where what was promised outlives it. What a start takes for a write that a power cut tore is left
alone (docs/limits.md): the last frame of the journal, and a journal that is merely shorter.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from engine.errors import CorruptSegmentError, FormatVersionError
from engine.format import HEAD_NAME, META_NAME, FormatError, unpack_meta
from raft.errors import StoredStateError
from raft.frames import FRAME, HEADER, frame_at
from raft.journal import JOURNAL_NAME
from raft.snapshot import SNAPSHOT_NAME
from raft.state import ClusterState, Segment, SegmentState, Topic
from tests.sim.cluster.copies import file_of, is_closed, kept, put_file, take_away
from tests.sim.cluster.damage import NEWEST
from tests.sim.cluster.model import Key
from tests.sim.cluster.node import Machine

BLOCK_SIZE = 512

HEADER_SIZE = 12
"""Most of what a file has before its contents."""

TRIES = 20
"""To change something: a byte of zeros may become one."""


class Ruined(Protocol):
    """What decays."""

    machines: dict[int, Machine]

    def newest_state(self) -> ClusterState: ...
    def may_lose(self, machine: Machine) -> bool: ...
    def is_elsewhere(self, machine: Machine, topic: Topic, segment: Segment) -> bool: ...
    def violated(self, what: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Harm:
    """One file of one copy that is closed."""

    machine: Machine
    name: str
    was: bytes


class Ruin:
    """All there was in one run."""

    def __init__(self, world: Ruined) -> None:
        self._world = world
        self._harms: dict[tuple[bytes, Key], Harm] = {}
        """(disk, segment) → what befell it, where it can be made anew."""
        self._doomed: dict[bytes, tuple[str, Key | None]] = {}
        """Disks that no process can use any more → the file that has to be named, and the segment
        of which it is."""
        self.refused_count = 0

    # ---- what befalls them -----------------------------------------------------------------------

    def befall_raft(self, machine: Machine, rng: random.Random) -> None:
        """A machine that has just lost power, whose disk `may_lose`."""
        name = rng.choice([JOURNAL_NAME, SNAPSHOT_NAME])
        data = machine.raft_disk.read(name)
        if data is None:
            name = JOURNAL_NAME
            data = machine.raft_disk.read(name)
        if data is None:
            return
        within, shorter_than = range(len(data)), len(data)
        if name == JOURNAL_NAME:
            frames = _frames(data)
            shorter_than = frames[1]
            # Below the last one, if there are several; half of them where a careless start could
            # take it for a torn write.
            within = range(max(frames[-2], frames[1]))
            if rng.random() < 0.5:
                within = within[frames[1] :] or within
        damaged = _decay(data, rng, within, shorter_than=shorter_than)
        if damaged is not None:
            machine.raft_disk.write(name, damaged)
            self._doomed[machine.disk_id] = machine.raft_disk.describe(name), None

    def befall_copy(self, machine: Machine, rng: random.Random, *, may_refuse: bool) -> None:
        """A machine that has just lost power. `may_refuse`: its disk may be lost."""
        found = [
            (topic, segment, name, 5 if segment in topic.segments[-NEWEST:] else 1)
            for topic, segment in kept(self._world.newest_state())
            if (machine.disk_id, (topic.topic_id, segment.sid)) not in self._harms
            if self._may_befall(machine, topic, segment, may_refuse=may_refuse)
            for name in (META_NAME, HEAD_NAME)
            if file_of(machine, topic, segment, name) is not None
        ]
        if not found:
            return
        ((topic, segment, name, _),) = rng.choices(found, [weight for *_, weight in found])
        file = file_of(machine, topic, segment, name)
        assert file is not None
        was = bytes(file.synced)
        damaged = _decay(was, rng, range(len(was)), shorter_than=len(was))
        if damaged is None:
            return
        put_file(machine, topic, segment, name, damaged)
        if segment.state is SegmentState.SEALED:
            self._harms[machine.disk_id, (topic.topic_id, segment.sid)] = Harm(machine, name, was)
        elif name == HEAD_NAME or not _is_meta(damaged):
            key = (topic.topic_id, segment.sid)
            self._doomed[machine.disk_id] = f"/{segment.sid}/{name}", key

    def _may_befall(
        self, machine: Machine, topic: Topic, segment: Segment, *, may_refuse: bool
    ) -> bool:
        if segment.state is SegmentState.SEALED:
            return self._world.is_elsewhere(machine, topic, segment)
        return may_refuse

    # ---- what comes of it ------------------------------------------------------------------------

    def is_doomed(self, machine: Machine) -> bool:
        """Is its disk as good as lost?"""
        return machine.disk_id in self._doomed

    def lasts(self, disk: bytes, topic: Topic, segment: Segment) -> bool:
        """Is this copy, which was damaged, not whole again?"""
        harm = self._harms.get((disk, (topic.topic_id, segment.sid)))
        if harm is None or harm.machine.is_gone or harm.machine.disk_id != disk:
            return False
        if topic.is_emptied(segment):
            return False
        file = file_of(harm.machine, topic, segment, harm.name)
        if file is None:
            return True
        if harm.name == META_NAME:
            return not _is_meta(bytes(file.synced))
        return bytes(file.synced) != harm.was

    def is_anywhere(self) -> bool:
        """Does any last?"""
        return bool(self._doomed) or any(
            self.lasts(disk, topic, segment)
            for topic, segment in kept(self._world.newest_state())
            for disk, key in self._harms
            if key == (topic.topic_id, segment.sid)
        )

    def opened_raft(self, machine: Machine) -> None:
        """A process believes Raft's files of its disk."""
        name, key = self._doomed.get(machine.disk_id, ("", None))
        if name and key is None:
            self._world.violated(f"node {machine.node} has opened {name}, which is damaged")

    def started(self, machine: Machine) -> None:
        """It does without what was damaged: others have closed the segment meanwhile."""
        name, key = self._doomed.pop(machine.disk_id, ("", None))
        topic = None if key is None else self._world.newest_state().topics.get(key[0])
        if topic is not None and key is not None and topic.last.sid == key[1]:
            self._world.violated(f"node {machine.node} has started, and {name} is damaged")

    def refused(self, machine: Machine, error: BaseException) -> bool:
        """A start was given up. Has an operator another disk put in?"""
        if not isinstance(error, CorruptSegmentError | FormatVersionError | StoredStateError):
            return False
        name, _ = self._doomed.get(machine.disk_id, (None, None))
        if name is None or name not in str(error):
            self._world.violated(f"node {machine.node} does not start: {error}")
        if name is None:
            return False
        self.refused_count += 1
        del self._doomed[machine.disk_id]
        machine.lose_disk()
        return True

    def mend(self) -> None:
        """An operator takes away what no start has noticed: the `head` of an old copy."""
        for topic, segment in kept(self._world.newest_state()):
            for machine in self._world.machines.values():
                if self.lasts(machine.disk_id, topic, segment) and is_closed(
                    machine, topic, segment
                ):
                    take_away(machine, topic, segment)


def _is_meta(data: bytes) -> bool:
    """Is one of its slots good?"""
    try:
        unpack_meta(data)
    except FormatError:
        return False
    return True


def _decay(data: bytes, rng: random.Random, within: range, *, shorter_than: int) -> bytes | None:
    """`data` with something `within` changed, or cut to less than `shorter_than`; None if there is
    nothing to be changed."""
    for _ in range(TRIES if within else 0):
        damaged = rng.choice(_WAYS)(bytearray(data), rng, within, shorter_than)
        if damaged != data:
            return bytes(damaged)
    return None


def _flip(data: bytearray, rng: random.Random, within: range, _: int) -> bytearray:
    """One bit, or one in each half: `meta` is there twice. Often where a file says what it is."""
    half = (len(within) + 1) // 2
    size = min(half, rng.choice([half, HEADER_SIZE]))
    for start in rng.choice([[rng.choice([0, len(within) - half])], [0, len(within) - half]]):
        data[within[start + rng.randrange(size)]] ^= 1 << rng.randrange(8)
    return data


def _zero(data: bytearray, rng: random.Random, within: range, _: int) -> bytearray:
    start = rng.choice(within[::BLOCK_SIZE])
    stop = min(within.stop, rng.choice([start + BLOCK_SIZE, within.stop]))
    data[start:stop] = bytes(stop - start)
    return data


def _cut(data: bytearray, rng: random.Random, _: range, shorter_than: int) -> bytearray:
    return data[: rng.randrange(shorter_than)]


_WAYS: tuple[Callable[[bytearray, random.Random, range, int], bytearray], ...] = (
    _flip,
    _zero,
    _cut,
)


def _frames(data: bytes) -> list[int]:
    """Where each frame of a journal begins, and where the last one ends."""
    generation = int.from_bytes(data[12:16], "little")
    positions = [HEADER.size]
    while (records := frame_at(data, positions[-1], generation)) is not None:
        positions.append(positions[-1] + FRAME.size + len(records))
    return positions
