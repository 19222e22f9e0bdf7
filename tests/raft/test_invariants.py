"""The checks notice what they are there for."""

from typing import Any

import msgspec
import pytest

from raft.invariants import InvariantViolated, check_invariants
from raft.state import ClusterState, SegmentState, Topic
from tests.raft.support import topic_id, world

replace = msgspec.structs.replace


def state_with(topic: Topic) -> ClusterState:
    at = world(2)
    at.create(1, "t", (1, 2))
    return replace(at.state, topics=at.state.topics.set(topic.topic_id, topic))


def good_topic() -> Topic:
    at = world(2)
    at.create(1, "t", (1, 2))
    at.roll(10)
    at.roll(20)
    return at.topic()


@pytest.mark.parametrize(
    ("at", "wrong"),
    [
        (0, {"end_offset": 11}),
        (1, {"sid": 1}),
        (1, {"epoch": 1}),
        (0, {"state": SegmentState.OPEN}),
        (0, {"holders": ()}),
        (0, {"size": 0}),
        (2, {"state": SegmentState.SEALED}),
        (2, {"size": 5}),
        (2, {"holders": ((1, b""),)}),
        (2, {"epoch": 99}),
        (2, {"writer": 3}),
        (2, {"replicas": (2,)}),
        (2, {"state": SegmentState.SEALING}),
        (2, {"seal_epoch": 3}),
    ],
    ids=str,
)
def test_a_broken_segment_is_noticed(at: int, wrong: dict[str, Any]) -> None:
    topic = good_topic()
    check_invariants(state_with(topic))
    segments = list(topic.segments)
    segments[at] = replace(segments[at], **wrong)
    with pytest.raises(InvariantViolated):
        check_invariants(state_with(replace(topic, segments=tuple(segments))))


@pytest.mark.parametrize(
    "wrong",
    [
        {"segments": ()},
        {"log_start_offset": -1},
        {"log_start_offset": 21},
        {"next_sid": 3},
        {"deleted_up_to_sid": 3},
        {"topic_id": topic_id(7)},
        {"name": "other"},
    ],
    ids=str,
)
def test_a_broken_topic_is_noticed(wrong: dict[str, Any]) -> None:
    topic = good_topic()
    state = state_with(topic)
    broken = replace(state, topics=state.topics.set(topic.topic_id, replace(topic, **wrong)))
    with pytest.raises(InvariantViolated):
        check_invariants(broken)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": 1},
        {"next_sid": 1},
        {"segments": ()},
        {"created_revision": 1},
    ],
    ids=str,
)
def test_a_step_back_is_noticed(wrong: dict[str, Any]) -> None:
    topic = good_topic()
    before = state_with(topic)
    after = replace(
        before,
        revision=before.revision + 1,
        topics=before.topics.set(topic.topic_id, replace(topic, **wrong)),
    )
    with pytest.raises(InvariantViolated):
        check_invariants(after, before)


def test_a_sealed_segment_never_changes() -> None:
    topic = good_topic()
    before = state_with(topic)
    first = replace(topic.segments[0], digest=99)
    changed = replace(topic, segments=(first, *topic.segments[1:]))
    after = replace(
        before,
        revision=before.revision + 1,
        topics=before.topics.set(topic.topic_id, changed),
    )
    with pytest.raises(InvariantViolated, match="sealed segment 1 changed"):
        check_invariants(after, before)
