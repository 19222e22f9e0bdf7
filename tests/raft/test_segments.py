"""Two writers of one segment: what seals and rolls refuse."""

from typing import Any

import msgspec
import pytest

from raft import commands as c
from raft.state import SegmentState
from tests.raft.support import DISKS, World, holders, sealed_end, topic_id, world


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
