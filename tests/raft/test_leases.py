"""Who may write what."""

from raft import commands as c
from raft.leases import Lease, leases_of
from tests.raft.support import World, topic_id, world


def held(at: World, node: int, incarnation: int) -> dict[bytes, Lease]:
    return leases_of(at.state, node, incarnation, at.state.topics)


def test_a_process_may_write_the_open_segments_it_was_given() -> None:
    at = world(2)
    at.create(1, "a", (1, 2))
    at.create(2, "b", (2, 1))
    mine = at.state.brokers[1].incarnation
    assert held(at, 1, mine) == {topic_id(1): Lease(topic_id(1), 1, 1)}
    at.roll(10, writer=2)
    assert held(at, 1, mine) == {}
    assert set(held(at, 2, at.state.brokers[2].incarnation)) == {
        topic_id(1),
        topic_id(2),
    }


def test_a_sealing_segment_belongs_to_nobody() -> None:
    at = world()
    at.create()
    at.ok(c.BeginSeal(topic_id(1), 1, 1, 1))
    assert held(at, 1, at.state.brokers[1].incarnation) == {}


def test_a_restarted_process_does_not_inherit() -> None:
    at = world()
    at.create()
    old = at.state.brokers[1].incarnation
    new = at.register(1)
    assert held(at, 1, old) == held(at, 1, new) == {}


def test_a_fenced_or_unknown_process_has_nothing() -> None:
    at = world()
    at.create()
    incarnation = at.state.brokers[1].incarnation
    at.ok(c.FenceBroker(1, incarnation))
    assert held(at, 1, incarnation) == held(at, 9, 1) == {}
