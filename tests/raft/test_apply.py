"""Each command: what it changes, and everything it must refuse."""

from typing import Any

import msgspec
import pytest

from raft import commands as c
from raft.apply import TRANSITIONS
from raft.pmap import PMap
from raft.state import (
    GROUPS_CONFIGURED_MAX,
    TOMBSTONES_MAX,
    SegmentState,
)
from tests.raft.support import (
    DISKS,
    World,
    create,
    holders,
    register,
    sealed_end,
    topic_id,
    world,
)


def seal_item(at: World, number: int, end: int) -> c.SealItem:
    topic = at.topic(number)
    return c.SealItem(
        topic_id=topic.topic_id,
        sid=topic.last.sid,
        seal_epoch=topic.epoch,
        end=sealed_end(topic.last.base_offset, end),
        holders=holders(topic.last.replicas),
        next=at.next(topic.last.writer, topic.last.replicas),
    )


def begin_seal(at: World, number: int = 1, **changes: Any) -> c.BeginSeal:
    topic = at.topic(number)
    command = c.BeginSeal(topic.topic_id, topic.last.sid, topic.epoch, recoverer=1)
    return msgspec.structs.replace(command, **changes)


def test_every_command_has_a_transition() -> None:
    assert set(TRANSITIONS) == set(c.AnyCommand.__args__)


# ---- cluster and brokers -----------------------------------------------------------------------


def test_a_cluster_gets_its_id_once() -> None:
    at = World()
    at.ok(c.FormCluster("one"))
    at.ok(c.FormCluster("one"))
    assert at.refused(c.FormCluster("two")) == "wrong cluster"
    assert at.state.cluster_id == "one"
    assert World().refused(c.FormCluster("")) == "bad command"


def test_a_restart_is_a_new_incarnation() -> None:
    at = world()
    first = at.state.brokers[1].incarnation
    assert at.register(1) > first
    assert at.state.brokers[1].incarnation == at.state.revision


def test_a_lost_disk_cannot_vouch_for_open_segments() -> None:
    at = world(3)
    at.create(1, "a", (1, 2))
    at.create(2, "b", (2, 3))
    at.ok(c.FenceBroker(1, at.state.brokers[1].incarnation))
    at.register(1, disk=b"n" * 16)
    assert at.topic(1).last.void == ((1, DISKS[1]),)
    assert at.topic(2).last.void == ()


def test_a_clean_restart_voids_nothing_and_an_unclean_one_does() -> None:
    at = world()
    at.create()
    at.register(1)
    assert at.topic().last.void == ()
    at.register(1, clean=False)
    at.register(1, clean=False)
    assert at.topic().last.void == ((1, DISKS[1]),)


def test_a_second_machine_cannot_take_a_live_nodes_id() -> None:
    at = world()
    assert at.refused(register(1, disk=b"n" * 16)) == "node id taken"


@pytest.mark.parametrize(
    "wrong",
    [{"node": -1}, {"node": 2**31}, {"disk": b"short"}, {"raft_port": 65536}],
    ids=str,
)
def test_a_broker_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    assert world().refused(msgspec.structs.replace(register(1), **wrong)) == "bad command"


def test_fencing_hits_only_the_incarnation_it_names() -> None:
    at = world()
    old = at.state.brokers[1].incarnation
    at.register(1)
    assert at.refused(c.FenceBroker(1, old)) == "stale incarnation"
    assert at.refused(c.FenceBroker(2, old)) == "unknown broker"
    at.ok(c.FenceBroker(1, at.state.brokers[1].incarnation))
    assert at.state.brokers[1].fenced


# ---- topics ------------------------------------------------------------------------------------


def test_a_topic_is_created_once_and_a_repeat_is_harmless() -> None:
    at = world()
    topic = at.create()
    assert (topic.last.state, topic.last.sid, topic.last.epoch) == (SegmentState.OPEN, 1, 1)
    assert topic.last.base_offset == topic.log_start_offset == 0
    assert at.ok(create(1, "t", at.next(1))).items == ((topic_id(1), 1, 1),)
    assert at.refused(create(2, "t", at.next(1))) == "topic exists"
    assert at.refused(create(1, "other", at.next(1))) == "topic exists"
    assert len(at.state.topics) == 1


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


# ---- seal and roll -----------------------------------------------------------------------------


def test_a_seal_closes_one_segment_and_opens_the_next_in_its_epoch() -> None:
    at = world()
    at.create()
    assert at.ok(begin_seal(at)).value == 2
    assert at.topic().last.state is SegmentState.SEALING
    answer = at.ok(c.CommitSealMany((seal_item(at, 1, 10),)))
    assert answer.items == ((topic_id(1), 2, 2),)
    sealed, opened = at.topic().segments
    assert (sealed.end_offset, sealed.holders) == (10, holders((1,)))
    assert (opened.base_offset, opened.epoch, opened.state) == (10, 2, SegmentState.OPEN)


def test_a_second_attempt_to_seal_deposes_the_first() -> None:
    at = world()
    at.create()
    at.ok(begin_seal(at))
    late = seal_item(at, 1, 10)
    assert at.refused(begin_seal(at, expect_epoch=1)) == "stale epoch"
    at.ok(begin_seal(at))
    assert at.do(c.CommitSealMany((late,))).items == ((topic_id(1), -1, 3),)
    assert at.ok(c.CommitSealMany((seal_item(at, 1, 10),))).items == ((topic_id(1), 2, 3),)


def test_begin_seal_refuses_what_is_not_so() -> None:
    at = world()
    at.create()
    assert at.refused(begin_seal(at, topic_id=topic_id(9))) == "unknown topic"
    assert at.refused(begin_seal(at, sid=2)) == "stale segment"
    assert at.refused(begin_seal(at, expect_epoch=9)) == "stale epoch"
    assert at.refused(begin_seal(at, recoverer=9)) == "unknown broker"


def test_an_empty_segment_is_replaced_and_its_id_is_never_used_again() -> None:
    at = world()
    at.create()
    at.ok(begin_seal(at))
    at.ok(c.CommitSealMany((msgspec.structs.replace(seal_item(at, 1, 0), holders=()),)))
    (only,) = at.topic().segments
    assert (only.sid, only.base_offset, at.topic().deleted_up_to_sid) == (2, 0, 1)
    at.roll(0)
    assert (at.topic().last.sid, at.topic().deleted_up_to_sid) == (3, 2)


def test_a_restart_seals_everything_it_wrote_with_one_command() -> None:
    at = world(2)
    at.create(1, "a", (1,))
    at.create(2, "b", (1,))
    at.create(3, "c", (2,))
    assert at.ok(c.BeginSealMany(1, at.state.brokers[1].incarnation)).items == ()
    incarnation = at.register(1)
    answer = at.ok(c.BeginSealMany(1, incarnation))
    assert answer.items == ((topic_id(1), 1, 2), (topic_id(2), 1, 2))
    assert at.topic(3).last.state is SegmentState.OPEN
    # A restart in the middle of a restart takes up the half-sealed ones too.
    incarnation = at.register(1)
    assert at.ok(c.BeginSealMany(1, incarnation)).items == (
        (topic_id(1), 1, 3),
        (topic_id(2), 1, 3),
    )
    assert at.refused(c.BeginSealMany(1, incarnation - 1)) == "stale incarnation"
    assert at.refused(c.BeginSealMany(9, 1)) == "unknown broker"


def test_a_restart_begins_anew_what_it_was_sealing_for_others() -> None:
    """An epoch is one attempt: what the first one had chosen, the next process does not know."""
    at = world(2)
    at.create(1, "a", (2, 1))
    at.create(2, "b", (2, 1))
    at.ok(begin_seal(at, 1, recoverer=1))
    at.ok(begin_seal(at, 2, recoverer=2))
    incarnation = at.register(1)
    assert at.ok(c.BeginSealMany(1, incarnation)).items == ((topic_id(1), 1, 3),)


@pytest.mark.parametrize(
    "wrong",
    [
        {"topic_id": topic_id(9)},
        {"sid": 9},
        {"seal_epoch": 9},
        {"end": sealed_end(5, 4)},
        {"end": c.SealedEnd(10, 0, 0, -1)},
        {"end": c.SealedEnd(10, 5, 2**32, -1)},
        {"end": c.SealedEnd(2**63, 5, 0, -1)},
        {"end": c.SealedEnd(10, 5, 0, -1, 2**63)},
        {"holders": ()},
        {"holders": holders((1,))},
        {"holders": ((1, DISKS[1]), (1, b"x" * 16))},
        {"holders": ((1, DISKS[1]), (2, b"x" * 16))},
        {"next": c.Next(1, 1, (1,))},
        {"next": c.Next(9, 1, (9,))},
    ],
    ids=str,
)
def test_a_seal_that_does_not_hold_is_refused_alone(wrong: dict[str, Any]) -> None:
    at = world(3)
    at.create(1, "a", (1, 2, 3))
    at.create(2, "b", (1, 2, 3))
    at.ok(begin_seal(at, 1))
    at.ok(begin_seal(at, 2))
    good = seal_item(at, 2, 10)
    bad = msgspec.structs.replace(seal_item(at, 1, 10), **wrong)
    before = at.topic(1)
    answer = at.ok(c.CommitSealMany((bad, good)))
    assert [sid for _, sid, _ in answer.items] == [-1, 2]
    assert at.topic(1) == before
    assert at.topic(2).last.sid == 2


def test_a_roll_opens_the_next_segment_in_a_new_epoch() -> None:
    at = world(2)
    at.create(1, "t", (1, 2))
    assert at.roll(10, writer=2).items == ((topic_id(1), 2, 2),)
    assert (at.topic().last.writer, at.topic().last.epoch, at.topic().epoch) == (2, 2, 2)


def test_a_roll_loses_against_a_seal() -> None:
    at = world()
    topic = at.create()
    roll = c.CommitRoll(topic.topic_id, 1, 1, sealed_end(0, 10), holders((1,)), at.next(1))
    replace = msgspec.structs.replace
    assert at.refused(replace(roll, sid=2)) == "stale segment"
    assert at.refused(replace(roll, open_epoch=2)) == "stale epoch"
    assert at.refused(replace(roll, topic_id=topic_id(9))) == "unknown topic"
    assert at.refused(replace(roll, holders=())) == "too few holders"
    assert at.refused(replace(roll, end=sealed_end(3, 2))) == "bad end"
    at.ok(begin_seal(at))
    assert at.refused(roll) == "not open"


# ---- holders -----------------------------------------------------------------------------------


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


# ---- ids, and answers given twice --------------------------------------------------------------


def test_no_producer_id_is_given_twice() -> None:
    at = world()
    first = at.ok(c.AllocateProducerIds(1000)).value
    assert first > 0
    assert at.ok(c.AllocateProducerIds(1)).value == first + 1000
    assert at.refused(c.AllocateProducerIds(0)) == "bad command"
    assert at.refused(c.AllocateProducerIds(10_001)) == "bad command"
    at.state = msgspec.structs.replace(at.state, next_producer_id=2**62)
    assert at.refused(c.AllocateProducerIds(1)) == "ids exhausted"


def test_nobody_gives_up_what_only_has_to_be_waited_for() -> None:
    at = world(3)
    at.create(replicas=(1, 2, 3))

    def accept() -> c.AcceptLoss:
        return c.AcceptLoss(topic_id(1), at.topic().last.sid, at.topic().epoch, 1)

    assert at.refused(accept()) == "not sealing"
    at.ok(begin_seal(at))
    assert at.refused(accept()) == "not stuck"
    at.ok(c.FenceBroker(2, at.state.brokers[2].incarnation))
    assert at.refused(accept()) == "not stuck", "two of three can say where it ends"
    at.ok(c.FenceBroker(3, at.state.brokers[3].incarnation))
    at.register(3, disk=b"n" * 16)
    assert at.ok(accept()).value == 3
    assert at.topic().last.accepts_loss
    at.ok(begin_seal(at))
    assert at.topic().last.accepts_loss, "it is said once"
    assert at.refused(msgspec.structs.replace(accept(), expect_epoch=1)) == "stale epoch"
