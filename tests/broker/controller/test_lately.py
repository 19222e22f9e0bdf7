"""A broker that dies does not leave the list in the moment in which its partitions get a leader."""

from broker.controller.lately import LATELY_S, Lately
from broker.controller.views import broker_addresses
from raft import commands as c
from tests.raft.support import world


def test_who_was_fenced_is_listed_for_a_moment_more() -> None:
    at, now = world(3), 100.0
    lately = Lately(lambda: now)
    before = at.state
    at.ok(c.FenceBroker(2, before.brokers[2].incarnation))
    lately.on_change(before, at.state)
    listener = at.state.brokers[2].listeners[0][0]

    def listed() -> list[int]:
        found = broker_addresses(at.state, listener, besides=lately.nodes())
        return [broker.node_id for broker in found]

    assert listed() == [1, 2, 3]
    lately.on_change(at.state, at.state)
    now += LATELY_S + 0.1
    assert listed() == [1, 3]


def test_who_is_back_is_listed_once_and_who_left_for_good_is_not() -> None:
    at = world(3)
    lately = Lately(lambda: 100.0)
    alive = at.state
    at.ok(c.FenceBroker(2, alive.brokers[2].incarnation))
    lately.on_change(alive, at.state)
    listener = at.state.brokers[2].listeners[0][0]
    back = broker_addresses(alive, listener, besides=lately.nodes())
    assert [broker.node_id for broker in back] == [1, 2, 3]
    gone = type(at.state)(brokers=at.state.brokers.remove(2))
    left = broker_addresses(gone, listener, besides=lately.nodes())
    assert [broker.node_id for broker in left] == [1, 3]
