"""The data directory of a node whose cluster has lost its majority, made without a cluster."""

from pathlib import Path

import msgspec

from broker.controller.data_dir import DataDir
from engine.format import log_name, topic_directory
from raft import commands as c
from raft import snapshot
from raft.disk import OsDisk
from raft.ground import REGULAR
from raft.journal import Journal
from raft.members import Members
from raft.snapshot import Snapshot
from tests.raft.support import World, create, register, topic_id

OLD_CLUSTER = "old-cluster"

_OTHERS = {1: b"1" * 16, 2: b"2" * 16}


def make_survivor(path: Path, *, sizes: dict[int, int] | None = None) -> None:
    """Node 3 of three: a topic `t` with two closed segments and an open one, all on nodes 1 to 3;
    `t2` on node 2 alone; `t3` on node 3 alone; and one command that is not known to be committed.
    `sizes`: bytes of each segment of `t` on this disk.
    """
    data = DataDir(path, node_id=3, joins=True)
    data.joined(OLD_CLUSTER)
    me = data.identity.disk_id
    data.release()
    world = _world(bytes.fromhex(me))
    index = world.state.revision
    members = Members(tuple(sorted((me, *(disk.hex() for disk in _OTHERS.values())))))
    disk = OsDisk(path / "raft")
    journal = Journal(disk)
    journal.setCurrentTerm(7, None)
    journal.reset(index, 7)
    snapshot.write(disk, Snapshot(index, 7, members, world.state))
    command = c.Envelope(c.FORMAT_VERSION, b"c" * 16, 10_000, c.AllocateProducerIds(5))
    journal.add(REGULAR + c.encode(command), index + 1, 7)
    journal.sync()
    journal.close()
    for sid, size in (sizes or {}).items():
        topic = world.topic(1)
        segment = next(one for one in topic.segments if one.sid == sid)
        folder = path / "topics" / topic_directory("t", topic_id(1)) / str(sid)
        folder.mkdir(parents=True)
        (folder / log_name(segment.base_offset)).write_bytes(bytes(size))


def _world(me: bytes) -> World:
    world = World()
    world.ok(c.FormCluster(OLD_CLUSTER))
    for node, disk in (*_OTHERS.items(), (3, me)):
        world.ok(register(node, disk=disk))
    world.create(1, "t", (1, 2, 3))
    for end in (10, 20):
        _roll(world, end)
    world.ok(create(2, "t2", world.next(2, (2,))))
    world.ok(create(3, "t3", world.next(3, (3,))))
    return world


def _roll(world: World, end: int) -> None:
    """Closed by nodes 1 and 2 before node 3 had all of it."""
    topic = world.topic(1)
    command = c.CommitRoll(
        topic_id=topic.topic_id,
        sid=topic.last.sid,
        open_epoch=topic.epoch,
        end=c.SealedEnd(end, (end - topic.last.base_offset) * 100, 7, 5),
        holders=tuple(_OTHERS.items()),
        next=world.next(1, (1, 2, 3)),
    )
    assert msgspec.structs.asdict(world.ok(command))["refusal"] == ""
