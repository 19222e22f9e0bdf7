"""What is known of a run without asking the code that is watched.

What is durable is read off the disks; what was promised, acknowledged and chosen is remembered, by
the model and here.
"""

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from broker.replication.copies import LocalCopy
from broker.replication.quorum import ack_quorum
from engine.format import parse_topic_directory
from raft.state import EMPTY, ClusterState, Segment, Topic
from tests.sim.cluster.durable import DurableDisks
from tests.sim.cluster.model import Key, Model, NotAllowed
from tests.sim.cluster.node import LIFE, Machine, Process

Steps = tuple[tuple[Any, str, Callable[[Any], Any]], ...]
"""Of the product: an object, the name of what it does, and what is put around that."""


class Watched(Protocol):
    """What is looked at."""

    machines: dict[int, Machine]

    def violated(self, what: str) -> None: ...


class Facts:
    """One run's."""

    def __init__(self, world: Watched, harmed: Container[tuple[bytes, Key]]) -> None:
        self._world = world
        self.violated = world.violated
        self.harmed = harmed
        """(disk, segment) of copies that were damaged."""
        self._disks = DurableDisks(world.machines)
        self.state: ClusterState = EMPTY
        """`meta`, `registered`: after the newest command that anybody applied."""
        self.model = Model(self.durable_end)
        self.topics: dict[bytes, Topic] = {}
        """As last known, deleted ones too."""
        self.disks_at_first: dict[Key, dict[int, bytes]] = {}
        """Those that were there when the segment was opened."""
        self._durable: dict[tuple[bytes, Key], int] = {}
        """`durable`, at the last look."""

    @contextmanager
    def step(self, key: Key) -> Iterator[None]:
        """What the model is asked in here was done; it says if that is no step."""
        try:
            yield
        except NotAllowed as error:
            process = actor()
            who = "somebody" if process is None else f"node {process.node}"
            self.violated(f"{self.name(key)}: {who} took no step of the specification: {error}")

    def disk(self, node: int) -> bytes:
        """The one that it has now."""
        return self._world.machines[node].disk_id

    def durable_end(self, node: int, key: Key) -> int:
        """What a power cut would leave of a copy; TruncatedOnlyToCommitted."""
        topic, segment = self.topics[key[0]], self.model.segments[key]
        disk = self.disk(node)
        end = self._disks.end_offset(node, topic, segment)
        before = self._durable.get((disk, key), end)
        self._durable[disk, key] = end
        is_cut = end < min(before, self.model.ends.get(key, before))
        if is_cut and self.is_kept(key) and (disk, key) not in self.harmed:
            self.violated(f"node {node} cut {self.name(key)} from {before} to {end}")
        return end

    def promised_epoch(self, node: int, key: Key) -> int:
        """The highest promise that a power cut would leave."""
        return self._disks.promised_epoch(node, self.topics[key[0]], key[1])

    def is_known(self, key: Key) -> bool:
        return key[0] in self.state.topics and key in self.model.segments

    def is_kept(self, key: Key) -> bool:
        topic = self.state.topics.get(key[0])
        return topic is not None and key[1] in {segment.sid for segment in topic.kept}

    def name(self, key: Key) -> str:
        return name_of(self.topics[key[0]], key[1])


def actor() -> Process | None:
    """Who takes this step; None for what a dead process still does, which reaches nothing."""
    process = LIFE.get()
    return process if process is not None and process.is_alive else None


def majority(segment: Segment) -> int:
    return ack_quorum(len(segment.replicas))


def name_of(topic: Topic, sid: int) -> str:
    return f"{topic.name} segment {sid}"


def key_of(copy: LocalCopy) -> Key:
    parsed = parse_topic_directory(copy.log.directory.name)
    assert parsed is not None
    return parsed[1], copy.segment.sid
