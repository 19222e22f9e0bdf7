"""A broker that leaves for good, and what would go with it."""

import msgspec

from raft import commands as c
from raft import snapshot
from raft.leaving import Remaining, remaining
from raft.members import Members
from raft.pmap import _bucket_of
from raft.snapshot import Snapshot
from tests.raft.support import DISKS, World, create, holders, sealed_end, topic_id, world


def rolled(count: int = 4) -> World:
    """Segment 1 on brokers 1 to 3, the open one on 1, 2 and 4."""
    at = world(count)
    at.create(replicas=(1, 2, 3))
    last = at.topic().last
    at.ok(
        c.CommitRoll(
            topic_id(1), last.sid, 1, sealed_end(0, 10), holders((1, 2, 3)), at.next(1, (1, 2, 4))
        )
    )
    return at


def test_what_only_it_has_keeps_it() -> None:
    at = rolled()
    at.ok(c.MarkLeaving(3, True))
    assert remaining(at.state, 3) == Remaining(unsealed=0, sealed=1)
    assert at.refused(c.RemoveBroker(3, DISKS[3])) == "still needed"
    at.ok(c.AddHolder(topic_id(1), 1, 4, DISKS[4]))
    assert not remaining(at.state, 3)
    at.ok(c.RemoveBroker(3, DISKS[3]))
    assert sorted(at.state.brokers) == [1, 2, 4]
    assert at.topic().segments[0].holders == holders((1, 2, 4))
    assert at.refused(c.RemoveBroker(3, DISKS[3])) == "unknown broker"


def test_an_open_segment_keeps_it() -> None:
    at = rolled()
    at.ok(c.MarkLeaving(4, True))
    assert remaining(at.state, 4) == Remaining(unsealed=1, sealed=0)
    assert at.refused(c.RemoveBroker(4, DISKS[4])) == "still needed"
    at.ok(c.MarkLeaving(4, False))
    assert not at.state.brokers[4].leaving


def test_copies_on_dead_or_replaced_disks_do_not_count() -> None:
    at = rolled()
    at.ok(c.AddHolder(topic_id(1), 1, 4, DISKS[4]))
    at.ok(c.MarkLeaving(3, True))
    at.ok(c.FenceBroker(4, at.state.brokers[4].incarnation))
    assert remaining(at.state, 3).sealed == 1
    at.register(4, disk=b"n" * 16)
    assert remaining(at.state, 3).sealed == 1


def test_two_that_leave_do_not_wait_for_each_other() -> None:
    """Of two who stay, both have it: more copies than brokers cannot be."""
    at = rolled()
    at.ok(c.MarkLeaving(3, True))
    at.ok(c.MarkLeaving(4, True))
    assert remaining(at.state, 3) == Remaining(unsealed=0, sealed=0)


def test_two_that_leave_do_not_count_each_others_copies() -> None:
    """They would go together, and what they alone have with them."""
    at = world(4)
    at.create(replicas=(3, 4))
    last = at.topic().last
    at.ok(
        c.CommitRoll(
            topic_id(1), last.sid, 1, sealed_end(0, 10), holders((3, 4)), at.next(1, (1, 2))
        )
    )
    for node in (3, 4):
        at.ok(c.MarkLeaving(node, True))
    for node in (3, 4):
        assert remaining(at.state, node) == Remaining(unsealed=0, sealed=1)
        assert at.refused(c.RemoveBroker(node, DISKS[node])) == "still needed"


def test_who_has_no_copy_is_not_kept_by_others_who_lack_some() -> None:
    at = world(4)
    at.create(replicas=(1, 2))
    at.roll(10)
    at.ok(c.MarkLeaving(4, True))
    assert remaining(at.state, 4) == Remaining(unsealed=0, sealed=0)


def test_nobody_is_kept_for_more_copies_than_the_topic_has() -> None:
    """They would never be made."""
    at = world(4)
    single = create(1, "t", at.next(3, (3,)))
    at.ok(msgspec.structs.replace(single, replication_factor=1))
    last = at.topic().last
    at.ok(
        c.CommitRoll(topic_id(1), last.sid, 1, sealed_end(0, 10), holders((3,)), at.next(1, (1,)))
    )
    at.ok(c.AddHolder(topic_id(1), 1, 1, DISKS[1]))
    at.ok(c.MarkLeaving(3, True))
    assert remaining(at.state, 3) == Remaining(unsealed=0, sealed=0)


def test_a_node_that_began_with_a_snapshot_removes_a_broker_as_those_with_the_log_do() -> None:
    """Down to the trail: else it would stop, because its state is not the leader's."""
    with_log = world(3)
    neighbours = [n for n in range(2000) if _bucket_of(topic_id(n)) == _bucket_of(topic_id(1))]
    for number in reversed(neighbours):
        topic = with_log.create(number, f"t{number}", (1, 3))
        end, opens = sealed_end(0, 10), with_log.next(1, (1, 2))
        with_log.ok(c.CommitRoll(topic_id(number), topic.last.sid, 1, end, holders((1, 3)), opens))
        with_log.ok(c.AddHolder(topic_id(number), topic.last.sid, 2, DISKS[2]))
    with_log.ok(c.MarkLeaving(3, True))
    data = b"".join(snapshot.encode(Snapshot(9, 1, Members(("x",)), with_log.state)))
    with_snapshot = World(snapshot.decode(data, "test").state)
    with_snapshot.sequence = with_log.sequence
    for each in (with_log, with_snapshot):
        each.ok(c.RemoveBroker(3, DISKS[3]))
    assert with_snapshot.state.trail == with_log.state.trail


def test_the_last_one_stays() -> None:
    at = world(2)
    at.ok(c.MarkLeaving(1, True))
    assert at.refused(c.MarkLeaving(2, True)) == "last broker"
    at.ok(c.MarkLeaving(2, False))
    assert at.refused(c.MarkLeaving(9, True)) == "unknown broker"


def test_a_restart_does_not_take_it_back() -> None:
    at = rolled()
    at.ok(c.MarkLeaving(3, True))
    at.register(3)
    assert at.state.brokers[3].leaving


def test_only_who_is_leaving_is_removed_and_only_with_its_disk() -> None:
    at = world(3)
    assert at.refused(c.RemoveBroker(3, DISKS[3])) == "not leaving"
    at.ok(c.MarkLeaving(3, True))
    assert at.refused(c.RemoveBroker(3, DISKS[2])) == "stale disk"
    at.ok(c.RemoveBroker(3, DISKS[3]))
