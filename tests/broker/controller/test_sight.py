"""A node that is left alone, and calls everybody alive who was so before."""

from types import SimpleNamespace
from typing import Any

from broker.controller.sight import Sight
from broker.controller.views import Views, topic_view
from raft.state import SegmentState
from tests.broker.server.test_overview import DISKS, TOPIC_ID, segment, state


def metadata(*, reaches_majority: bool, connected: tuple[int, ...]) -> Any:
    return SimpleNamespace(
        state=state(segment(1, SegmentState.OPEN, 0, -1)),
        reaches_majority=reaches_majority,
        connected=frozenset(DISKS[node].hex() for node in connected),
    )


def test_without_a_majority_those_who_are_not_reached_are_offline() -> None:
    alone = metadata(reaches_majority=False, connected=())
    sight = Sight(node=1, metadata=alone)
    view = topic_view(sight.state, sight.state.topics[TOPIC_ID])
    assert (view.in_sync, view.offline) == ((1,), (2, 3))
    alone.connected = frozenset({DISKS[3].hex()})
    view = topic_view(sight.state, sight.state.topics[TOPIC_ID])
    assert (view.in_sync, view.offline) == ((1, 3), (2,))


def test_with_a_majority_the_metadata_says_who_is_alive() -> None:
    among_others = metadata(reaches_majority=True, connected=(2,))
    sight = Sight(node=1, metadata=among_others)
    assert sight.state is among_others.state
    assert topic_view(sight.state, sight.state.topics[TOPIC_ID]).in_sync == (1, 2, 3)


def test_a_node_that_was_alone_does_not_go_on_saying_so() -> None:
    found, views = metadata(reaches_majority=False, connected=()), Views()
    sight = Sight(node=1, metadata=found)
    assert views.of(sight.state, sight.state.topics[TOPIC_ID]).offline == (2, 3)
    assert sight.state is sight.state  # views are made once, not at every question
    found.reaches_majority = True
    assert views.of(sight.state, sight.state.topics[TOPIC_ID]).offline == ()
