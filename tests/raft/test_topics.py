"""A topic made twice, a name that stays taken, configs changed from what nobody had seen."""

from typing import Any

import msgspec
import pytest

from raft import commands as c
from raft.pmap import PMap
from raft.state import GROUPS_CONFIGURED_MAX, TOMBSTONES_MAX, SegmentState
from tests.raft.support import create, topic_id, world


def test_a_topic_is_created_once_and_a_repeat_is_harmless() -> None:
    at = world()
    topic = at.create()
    assert (topic.last.state, topic.last.sid, topic.last.epoch) == (SegmentState.OPEN, 1, 1)
    assert topic.last.base_offset == topic.log_start_offset == 0
    assert at.ok(create(1, "t", at.next(1))).items == ((topic_id(1), 1, 1),)
    assert at.refused(create(2, "t", at.next(1))) == "topic exists"
    assert at.refused(create(1, "other", at.next(1))) == "topic exists"
    assert len(at.state.topics) == 1


def test_of_two_names_that_no_metric_could_tell_apart_the_first_is_taken() -> None:
    """Two nodes that have not heard of each other's topic yet."""
    at = world()
    at.ok(create(1, "a.b", at.next(1)))
    second = msgspec.structs.replace(create(2, "a_b", at.next(1)), unlike_others=True)
    assert at.refused(second) == "name collides"
    assert at.refused(msgspec.structs.replace(second, name="a.b")) == "topic exists"
    at.ok(msgspec.structs.replace(second, name="a-b"))
    at.ok(c.DeleteTopic(topic_id(1)))
    at.ok(msgspec.structs.replace(create(3, "a_b", at.next(1)), unlike_others=True))


def test_a_log_from_before_the_rule_of_names_is_read_as_it_was_written() -> None:
    at = world()
    at.ok(create(1, "a.b", at.next(1)))
    at.ok(create(2, "a_b", at.next(1)))


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        ({"name": ""}, "bad command"),
        ({"name": "x" * 250}, "bad command"),
        ({"topic_id": b"short"}, "bad command"),
        ({"replication_factor": 0}, "bad command"),
        ({"configs": {str(n): "" for n in range(129)}}, "too many configs"),
        ({"configs": {"k": "v" * 40_000}}, "too many configs"),
        ({"next": c.Next(2, 1, (2,))}, "unknown broker"),
        ({"next": c.Next(1, 1, (1,))}, "stale incarnation"),
        ({"next": c.Next(1, 2, (1, 9))}, "unknown broker"),
        ({"next": c.Next(1, 2, ())}, "bad command"),
        ({"next": c.Next(1, 2, (1, 1))}, "bad command"),
    ],
    ids=str,
)
def test_a_topic_that_cannot_be_is_refused(wrong: dict[str, Any], refusal: str) -> None:
    at = world()
    assert at.refused(msgspec.structs.replace(create(1, "t", at.next(1)), **wrong)) == refusal


def test_a_fenced_broker_opens_nothing() -> None:
    at = world()
    at.ok(c.FenceBroker(1, at.state.brokers[1].incarnation))
    assert at.refused(create(1, "t", at.next(1))) == "fenced broker"


def test_a_deleted_topic_leaves_a_tombstone_and_frees_its_name() -> None:
    at = world()
    at.create()
    at.ok(c.DeleteTopic(topic_id(1)))
    at.ok(c.DeleteTopic(topic_id(1)))
    assert at.state.deleted_topics == {topic_id(1): "t"}
    assert at.refused(create(1, "t", at.next(1))) == "topic deleted"
    at.create(2, "t")
    assert at.refused(c.DeleteTopic(topic_id(9))) == "unknown topic"


def test_tombstones_are_bounded_and_the_oldest_goes() -> None:
    at = world()
    graves = {topic_id(n): "old" for n in range(100, 100 + TOMBSTONES_MAX)}
    at.state = msgspec.structs.replace(at.state, deleted_topics=graves)
    at.create()
    at.ok(c.DeleteTopic(topic_id(1)))
    assert len(at.state.deleted_topics) == TOMBSTONES_MAX
    assert topic_id(100) not in at.state.deleted_topics
    assert topic_id(1) in at.state.deleted_topics


def test_configs_change_only_from_the_revision_that_was_seen() -> None:
    at = world()
    at.create()
    assert at.ok(c.ChangeConfig(topic_id(1), 0, {"a": "1", "retention.ms": None})).value == 1
    assert at.topic().configs == {"a": "1"}
    assert at.refused(c.ChangeConfig(topic_id(1), 0, {"a": "2"})) == "stale revision"
    assert at.refused(c.ChangeConfig(topic_id(9), 0, {})) == "unknown topic"
    many: dict[str, str | None] = {str(n): "" for n in range(129)}
    assert at.refused(c.ChangeConfig(topic_id(1), 1, many)) == "too many configs"


def test_configs_of_a_group_change_only_from_those_that_were_seen() -> None:
    at = world()
    at.ok(c.ChangeGroupConfig("g", {}, {"a": "1"}))
    assert at.refused(c.ChangeGroupConfig("g", {}, {"a": "2"})) == "stale configs"
    at.ok(c.ChangeGroupConfig("g", {"a": "1"}, {"a": "2", "b": "3"}))
    assert dict(at.state.group_configs) == {"g": {"a": "2", "b": "3"}}
    at.ok(c.ChangeGroupConfig("g", {"a": "2", "b": "3"}, {}))
    at.ok(c.ChangeGroupConfig("g", {}, {}))
    assert not at.state.group_configs


def test_configs_of_groups_are_bounded() -> None:
    at = world()
    assert at.refused(c.ChangeGroupConfig("", {}, {"a": "1"})) == "bad command"
    assert at.refused(c.ChangeGroupConfig("g" * 1025, {}, {"a": "1"})) == "bad command"
    many = {str(n): "" for n in range(17)}
    assert at.refused(c.ChangeGroupConfig("g", {}, many)) == "too many configs"
    assert at.refused(c.ChangeGroupConfig("g", {}, {"a": "x" * 1024})) == "too many configs"
    full = PMap((str(n), {"a": "1"}) for n in range(GROUPS_CONFIGURED_MAX))
    at.state = msgspec.structs.replace(at.state, group_configs=full)
    assert at.refused(c.ChangeGroupConfig("g", {}, {"a": "1"})) == "too many configs"
    at.ok(c.ChangeGroupConfig("0", {"a": "1"}, {"a": "2"}))
    at.ok(c.ChangeGroupConfig("1", {"a": "1"}, {}))
    at.ok(c.ChangeGroupConfig("g", {}, {"a": "1"}))


def test_the_log_start_never_passes_into_the_open_segment() -> None:
    at = world()
    at.create()
    for end in (10, 20, 30):
        at.roll(end)
    assert at.ok(c.DeletePrefix(topic_id(1), 15)).value == 15
    assert [s.sid for s in at.topic().segments] == [2, 3, 4]
    assert at.ok(c.DeletePrefix(topic_id(1), 3)).value == 15
    assert at.ok(c.DeletePrefix(topic_id(1), 99)).value == 30
    assert [s.sid for s in at.topic().kept] == [4]
    assert at.topic().deleted_up_to_sid == 2
    assert at.refused(c.DeletePrefix(topic_id(9), 1)) == "unknown topic"


def test_the_newest_segment_stays_emptied_until_its_successor_has_ended_with_records() -> None:
    at = world()
    at.create()
    at.roll(10)
    at.roll(20)
    at.ok(c.DeletePrefix(topic_id(1), 20))
    assert [s.sid for s in at.topic().segments] == [2, 3]
    assert at.topic().is_emptied(at.topic().segments[0])
    at.ok(c.DeletePrefix(topic_id(1), 20))
    at.roll(20)
    assert [s.sid for s in at.topic().segments] == [2, 4], "an empty successor says nothing"
    at.roll(30)
    assert [s.sid for s in at.topic().segments] == [4, 5]
    assert at.topic().deleted_up_to_sid == 3
