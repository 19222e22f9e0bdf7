"""The last copy, forgotten."""

from raft import commands as c
from tests.raft.support import DISKS, holders, topic_id, world


def test_holders_come_and_go_but_never_below_what_the_topic_wants() -> None:
    at = world(4)
    at.create(1, "t", (1, 2))
    at.roll(10)
    one = topic_id(1)
    at.ok(c.AddHolder(one, 1, 3, DISKS[3]))
    at.ok(c.AddHolder(one, 1, 3, DISKS[3]))
    assert at.topic().segments[0].holders == holders((1, 2, 3))
    assert at.refused(c.RemoveHolder(one, 1, 1, DISKS[1])) == "too few holders"
    at.ok(c.AddHolder(one, 1, 4, DISKS[4]))
    at.ok(c.RemoveHolder(one, 1, 1, DISKS[1]))
    at.ok(c.RemoveHolder(one, 1, 1, DISKS[1]))
    assert at.topic().segments[0].holders == holders((2, 3, 4))
    assert at.refused(c.AddHolder(one, 1, 9, DISKS[9])) == "unknown broker"
    assert at.refused(c.AddHolder(one, 1, 1, DISKS[2])) == "stale disk"
    assert at.refused(c.AddHolder(one, 9, 1, DISKS[1])) == "stale segment"
    assert at.refused(c.AddHolder(one, 2, 1, DISKS[1])) == "not sealed"
    assert at.refused(c.AddHolder(topic_id(9), 1, 1, DISKS[1])) == "unknown topic"
    assert at.refused(c.RemoveHolder(one, 9, 1, DISKS[1])) == "stale segment"


def test_a_copy_on_a_replaced_disk_may_be_forgotten_but_not_the_last_one() -> None:
    at = world(2)
    at.create(1, "t", (1, 2))
    at.roll(10)
    at.ok(c.FenceBroker(2, at.state.brokers[2].incarnation))
    at.register(2, disk=b"n" * 16)
    at.ok(c.RemoveHolder(topic_id(1), 1, 2, DISKS[2]))
    assert at.refused(c.RemoveHolder(topic_id(1), 1, 1, DISKS[1])) == "too few holders"
