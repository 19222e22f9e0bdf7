"""A broker that leaves for good, and what would go with it."""

from raft import commands as c
from raft.leaving import Remaining, remaining
from tests.raft.support import DISKS, World, holders, sealed_end, topic_id, world


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


def test_the_last_one_stays() -> None:
    at = world(2)
    at.ok(c.MarkLeaving(1, True))
    assert at.refused(c.MarkLeaving(2, True)) == "last broker"
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
