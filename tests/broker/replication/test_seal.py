"""The end of a segment whose writer is gone: exact, or not given at all."""

import random

import pytest

from broker.replication.quorum import ack_quorum, committed_offset, seal_quorum
from broker.replication.replica import Definite, Refused, Unknown
from broker.replication.seal import AskSeal, Commit, Copy, Recovery, Superseded
from engine.format import SegmentEnd


def end(offset: int) -> SegmentEnd:
    return SegmentEnd(offset, offset * 100, offset * 7, offset)


def test_a_single_node_seals_with_its_own_answer() -> None:
    recovery = Recovery(seal_epoch=4, replicas=(1,))
    assert recovery.begin() == [AskSeal(1, 4)]
    assert recovery.answered(1, Definite(end(12))) == [Commit(end(12), (1,))]


def test_one_answer_of_three_fixes_nothing() -> None:
    recovery = Recovery(seal_epoch=4, replicas=(1, 2, 3))
    assert recovery.answered(2, Definite(end(10))) == []
    assert recovery.answered(2, Definite(end(10))) == [], "the same replica twice is one answer"


def test_the_longest_answer_wins_and_the_shorter_copy_is_repaired_before_the_commit() -> None:
    recovery = Recovery(seal_epoch=4, replicas=(1, 2, 3))
    recovery.answered(2, Definite(end(10)))
    assert recovery.answered(3, Definite(end(15))) == [Copy(3, 2, end(15))]
    assert recovery.copied(2, 15) == [Commit(end(15), (2, 3))]


def test_equal_copies_commit_without_repair() -> None:
    recovery = Recovery(seal_epoch=4, replicas=(1, 2, 3))
    recovery.answered(1, Definite(end(9)))
    assert recovery.answered(2, Definite(end(9))) == [Commit(end(9), (1, 2))]


def test_an_empty_disk_never_says_that_there_was_nothing() -> None:
    recovery = Recovery(seal_epoch=4, replicas=(1, 2, 3))
    recovery.answered(1, Unknown("the disk was replaced"))
    assert recovery.answered(2, Definite(end(10))) == [], "one definite answer is not enough"
    assert Copy(2, 1, end(10)) not in recovery.begin()
    assert recovery.answered(3, Definite(end(10))) == [Copy(2, 1, end(10)), Commit(end(10), (2, 3))]


def test_a_disk_that_the_metadata_calls_void_does_not_count() -> None:
    recovery = Recovery(seal_epoch=4, replicas=(1, 2, 3), void=frozenset({1}))
    recovery.answered(1, Definite(end(3)))
    assert recovery.answered(2, Definite(end(10))) == []


def test_a_higher_promise_ends_this_attempt() -> None:
    recovery = Recovery(seal_epoch=4, replicas=(1, 2, 3))
    assert recovery.answered(1, Refused(6)) == [Superseded(6)]
    assert recovery.answered(2, Definite(end(10))) == []
    assert recovery.answered(3, Definite(end(10))) == []


@pytest.mark.parametrize("replica_count", [1, 2, 3, 4, 5, 7])
def test_any_seal_quorum_meets_any_ack_quorum(replica_count: int) -> None:
    assert seal_quorum(replica_count) + ack_quorum(replica_count) == replica_count + 1


def test_min_insync_replicas_never_lowers_the_majority_nor_exceeds_the_cluster() -> None:
    assert ack_quorum(3, min_insync_replicas=1) == 2
    assert ack_quorum(3, min_insync_replicas=3) == 3
    assert ack_quorum(1, min_insync_replicas=2, node_count=1) == 1
    with pytest.raises(ValueError, match="at least one"):
        ack_quorum(0)


def test_nothing_is_committed_while_fewer_copies_than_the_quorum_have_it() -> None:
    assert committed_offset([10, 0, 0], 2) == 0
    assert committed_offset([10, 7, 3], 2) == 7
    assert committed_offset([10], 2) == 0


@pytest.mark.parametrize("seed", range(200))
def test_whatever_the_order_of_answers_no_acknowledged_record_is_cut(seed: int) -> None:
    """Random copies of one log: whatever was on an ack quorum is below the committed end."""
    rng = random.Random(seed)
    replica_count = rng.choice([1, 3, 5])
    replicas = tuple(range(1, replica_count + 1))
    ends = {node: rng.randrange(0, 20) for node in replicas}
    acknowledged = committed_offset(ends.values(), ack_quorum(replica_count))
    recovery = Recovery(seal_epoch=1, replicas=replicas)
    answers = list(replicas)
    rng.shuffle(answers)
    for node in answers:
        for effect in recovery.answered(node, Definite(end(ends[node]))):
            if isinstance(effect, Copy):
                ends[effect.target] = effect.end.end_offset
                for inner in recovery.copied(effect.target, effect.end.end_offset):
                    _check(inner, acknowledged, ends, replica_count, seed)
            else:
                _check(effect, acknowledged, ends, replica_count, seed)


def _check(
    effect: object, acknowledged: int, ends: dict[int, int], replica_count: int, seed: int
) -> None:
    if isinstance(effect, Commit):
        assert effect.end.end_offset >= acknowledged, f"seed {seed}"
        assert len(effect.holders) >= ack_quorum(replica_count), f"seed {seed}"
        assert all(ends[node] >= effect.end.end_offset for node in effect.holders), f"seed {seed}"


class TestAcceptedLoss:
    """Two disks of three are gone for good, and an operator says so."""

    def test_what_is_left_is_enough_when_it_is_said(self) -> None:
        recovery = Recovery(seal_epoch=4, replicas=(1, 2, 3))
        assert recovery.answered(1, Definite(end(10))) == []
        assert recovery.answered(2, Unknown("replaced", end(0))) == []
        assert recovery.accept_loss() == [Copy(1, 2, end(10))]
        assert recovery.copied(2, 10) == [Commit(end(10), (1, 2))]

    def test_what_a_doubtful_disk_still_has_is_taken(self) -> None:
        recovery = Recovery(seal_epoch=4, replicas=(1, 2, 3), void=frozenset({2}))
        recovery.answered(1, Unknown("replaced", end(0)))
        recovery.answered(2, Definite(end(7)))
        assert recovery.accept_loss() == [Copy(2, 1, end(7))]
        assert recovery.copied(1, 7) == [Commit(end(7), (1, 2))]

    def test_a_copy_that_is_there_and_slow_is_not_given_up(self) -> None:
        recovery = Recovery(seal_epoch=4, replicas=(1, 2, 3), void=frozenset({1, 2}))
        recovery.answered(1, Unknown("replaced", end(0)))
        assert recovery.accept_loss(frozenset({3})) == []
        assert recovery.answered(2, Unknown("replaced", end(0))) == []
        assert recovery.answered(3, Definite(end(10))) == [
            Copy(3, 1, end(10)),
            Copy(3, 2, end(10)),
        ]

    def test_nobody_has_answered_yet(self) -> None:
        recovery = Recovery(seal_epoch=4, replicas=(1, 2, 3), spares=(4,))
        assert recovery.accept_loss() == []
        assert recovery.answered(3, Definite(end(5))) == [Copy(3, 4, end(5))]
        assert recovery.copied(4, 5) == [Commit(end(5), (3, 4))]

    def test_it_comes_too_late_to_change_anything(self) -> None:
        recovery = Recovery(seal_epoch=4, replicas=(1, 2, 3))
        recovery.answered(1, Definite(end(10)))
        recovery.answered(2, Definite(end(10)))
        assert recovery.accept_loss() == []

    def test_an_answer_that_names_no_end_decides_nothing(self) -> None:
        recovery = Recovery(seal_epoch=4, replicas=(1, 2, 3))
        recovery.answered(1, Unknown("no idea"))
        assert recovery.accept_loss() == []
