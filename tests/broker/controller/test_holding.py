"""What a node knows when it opens a copy of the next segment."""

from typing import cast

from broker.controller.holding import Holding
from broker.replication.copies import Copies
from broker.replication.follow import Followers, Following
from broker.replication.store import Store
from engine.backends._memory import MemoryBackend
from engine.batch import Offset, parse_header, patch
from engine.durability import FsyncPolicy
from engine.producer_state import Duplicate, ProducerState
from raft import commands as c
from tests.broker.one_node import TOPICS, batch
from tests.raft.support import World, holders, sealed_end, topic_id, world

NODE, WRITER = 1, 2


class NoFollowers:
    def follow(self, node: int, following: Following) -> None: ...

    def unfollow(self, node: int, topic_id: bytes, sid: int) -> None: ...


class Follower:
    """A node that holds copies of what another one writes."""

    def __init__(self) -> None:
        self.at: World = world(3)
        store = Store(TOPICS, MemoryBackend(), FsyncPolicy.parse("each"))
        self.copies = Copies(store, on_failed=lambda key, error: None)
        self._holding = Holding(
            node=NODE, store=store, copies=self.copies, followers=cast(Followers, NoFollowers())
        )
        self._seen = self.at.state
        self._holding.begin(self._seen)

    def hear(self) -> None:
        before, self._seen = self._seen, self.at.state
        self._holding.on_change(before, self._seen)

    def receive(self, sid: int, sequence: int) -> None:
        copy = self.copies.get(topic_id(1), sid)
        assert copy is not None
        data = bytearray(batch(b"v", producer=(7, 0, sequence)))
        patch(data, base_offset=Offset(copy.segment.end_offset), leader_epoch=copy.replica.epoch)
        copy.append([(parse_header(data), [bytes(data)])])

    def window(self, sid: int) -> ProducerState | None:
        copy = self.copies.get(topic_id(1), sid)
        assert copy is not None
        return copy.window


def _verdict(window: ProducerState, sequence: int) -> object:
    return window.check(parse_header(batch(b"v", producer=(7, 0, sequence))))


def test_what_a_segment_ended_without_is_not_taken_for_stored_in_the_next_one() -> None:
    """Its only record never left the writer but for this copy, and the segment ended empty. The
    copy of the one before it waits for the disk all that time."""
    node = Follower()
    node.at.create(1, "t", (WRITER, NODE, 3))
    node.hear()
    node.receive(1, 0)
    node.at.roll(1)
    node.hear()
    known = node.window(2)
    assert known is not None and _verdict(known, 0) == Duplicate(0, 1)
    node.receive(2, 1)
    topic = node.at.topic()
    epoch = node.at.ok(c.BeginSeal(topic.topic_id, 2, topic.epoch, recoverer=3)).value
    others = (WRITER, 3)
    empty = sealed_end(1, 1)
    seal = c.SealItem(
        topic.topic_id, 2, epoch, empty, holders(others), node.at.next(WRITER, others + (NODE,))
    )
    node.at.ok(c.CommitSealMany((seal,)))
    assert node.at.topic().last.sid == 3
    node.hear()
    window = node.window(3)
    assert window is None or _verdict(window, 1) != Duplicate(1, 2)
