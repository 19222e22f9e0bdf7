"""Who may write what."""

from raft import commands as c
from raft.leases import Lease, leases_of
from tests.raft.support import topic_id, world


def test_a_process_may_write_the_open_segments_it_was_given() -> None:
    at = world(2)
    at.create(1, "a", (1, 2))
    at.create(2, "b", (2, 1))
    mine = at.state.brokers[1].incarnation
    assert leases_of(at.state, 1, mine) == {topic_id(1): Lease(topic_id(1), 1, 1)}
    at.roll(10, writer=2)
    assert leases_of(at.state, 1, mine) == {}
    assert set(leases_of(at.state, 2, at.state.brokers[2].incarnation)) == {
        topic_id(1),
        topic_id(2),
    }


def test_a_sealing_segment_belongs_to_nobody() -> None:
    at = world()
    at.create()
    at.ok(c.BeginSeal(topic_id(1), 1, 1, 1))
    assert leases_of(at.state, 1, at.state.brokers[1].incarnation) == {}


def test_a_restarted_process_does_not_inherit() -> None:
    at = world()
    at.create()
    old = at.state.brokers[1].incarnation
    new = at.register(1)
    assert leases_of(at.state, 1, old) == leases_of(at.state, 1, new) == {}


def test_a_fenced_or_unknown_process_has_nothing() -> None:
    at = world()
    at.create()
    incarnation = at.state.brokers[1].incarnation
    at.ok(c.FenceBroker(1, incarnation))
    assert leases_of(at.state, 1, incarnation) == leases_of(at.state, 9, 1) == {}
