"""The one writer of a segment: offsets once, acknowledgements never too early."""

import pytest

from broker.errors import (
    DuplicateSequence,
    FencedProducer,
    NotEnoughReplicas,
    NotLeader,
    OutOfOrderSequence,
)
from broker.replication.writer import Writer
from engine.batch import BatchHeader, parse_header, patch
from engine.producer_state import ProducerState
from engine.records import Record, build


def batch(
    offset: int, count: int = 1, producer: tuple[int, int, int] = (-1, -1, -1)
) -> BatchHeader:
    """The header of a batch of `count` records; `producer` is (id, epoch, first sequence)."""
    producer_id, epoch, sequence = producer
    data = build(
        [
            Record(offset_delta=n, timestamp_delta=0, key=None, value=b"x", headers=())
            for n in range(count)
        ],
        base_timestamp=1,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
    )
    patch(data, base_offset=offset, leader_epoch=1)
    return parse_header(data)


def accept(one: Writer, header: BatchHeader) -> None:
    """What the copy and the writer do together with an admitted batch."""
    one.window.update(header)
    one.accept(header.base_offset, header.next_offset)


def writer(replicas: tuple[int, ...] = (1,), quorum: int = 1, base_offset: int = 100) -> Writer:
    return Writer(
        node=1,
        disk=b"disk-1",
        epoch=1,
        base_offset=base_offset,
        replicas=replicas,
        quorum=quorum,
        window=ProducerState(),
    )


def test_offsets_follow_each_other_without_gap() -> None:
    one = writer()
    assert one.admit(batch(100, 3), acks=-1) is None
    one.accept(100, 103)
    assert one.next_offset == 103
    with pytest.raises(AssertionError):
        one.accept(100, 103)


def test_nothing_is_committed_before_the_disk_has_it() -> None:
    one = writer()
    one.accept(100, 103)
    assert one.high_watermark == 100
    assert not one.is_drained
    assert one.on_durable(1, 103)
    assert one.high_watermark == 103
    assert one.is_drained


def test_the_watermark_waits_for_the_second_copy_of_three() -> None:
    one = writer(replicas=(1, 2, 3), quorum=2)
    one.accept(100, 103)
    assert not one.on_durable(1, 103)
    assert one.high_watermark == 100
    assert one.on_durable(3, 102)
    assert one.high_watermark == 102


def test_a_late_or_foreign_acknowledgement_moves_nothing_back() -> None:
    one = writer()
    one.accept(100, 103)
    one.on_durable(1, 103)
    assert not one.on_durable(1, 101)
    assert not one.on_durable(9, 500)
    assert one.high_watermark == 103


def test_acks_all_is_refused_before_the_append_when_too_few_replicas_live() -> None:
    one = writer(replicas=(1, 2, 3), quorum=2)
    with pytest.raises(NotEnoughReplicas):
        one.admit(batch(100), acks=-1)
    assert one.admit(batch(100), acks=1) is None
    one.on_live(2, live=True)
    assert one.admit(batch(100), acks=-1) is None
    one.on_live(2, live=False)
    with pytest.raises(NotEnoughReplicas):
        one.admit(batch(100), acks=-1)


def test_another_quorum_is_in_force_at_once_and_takes_nothing_back() -> None:
    one = writer(replicas=(1, 2, 3), quorum=3)
    for node in (2, 3):
        one.on_live(node, live=True)
    accept(one, batch(100, 3))
    for node in (1, 2):
        one.on_durable(node, 103)
    assert one.high_watermark == 100
    one.require(2)
    assert one.high_watermark == 103
    one.on_live(3, live=False)
    assert one.admit(batch(103, 1), acks=-1) is None
    one.require(3)
    assert one.high_watermark == 103
    with pytest.raises(NotEnoughReplicas):
        one.admit(batch(103, 1), acks=-1)


def test_a_repeated_batch_is_answered_with_its_first_offsets() -> None:
    one = writer()
    accept(one, batch(100, 3, (7, 0, 0)))
    repeat = one.admit(batch(0, 3, (7, 0, 0)), acks=-1)
    assert repeat is not None
    assert (repeat.base_offset, repeat.end_offset) == (100, 103)


def test_a_gap_an_old_repeat_and_an_old_epoch_are_told_apart() -> None:
    one = writer()
    for number in range(7):
        accept(one, batch(100 + number, 1, (7, 1, number)))
    with pytest.raises(OutOfOrderSequence, match="expected 7"):
        one.admit(batch(0, 1, (7, 1, 9)), acks=-1)
    with pytest.raises(DuplicateSequence):
        one.admit(batch(0, 1, (7, 1, 0)), acks=-1)
    with pytest.raises(FencedProducer):
        one.admit(batch(0, 1, (7, 0, 7)), acks=-1)


def test_a_closed_writer_never_writes_again() -> None:
    one = writer()
    one.park()
    one.close()
    one.unpark()
    with pytest.raises(NotLeader):
        one.admit(batch(100), acks=-1)


def test_a_writer_outside_the_replica_set_cannot_exist() -> None:
    with pytest.raises(ValueError, match="not among"):
        writer(replicas=(2, 3))


def test_what_a_replaced_disk_acknowledged_went_with_it() -> None:
    """Else its node would be named as a holder of what its new disk has never seen."""
    one = writer(replicas=(1, 2, 3), quorum=2)
    accept(one, batch(100, 3))
    one.on_follow(2, 11, b"old", 100)
    one.on_follow(3, 21, b"disk-3", 100)
    for node in (1, 2):
        one.on_durable(node, 103)
    assert one.holders() == {1: b"disk-1", 2: b"old"}
    one.on_follow(2, 12, b"new", 100)
    assert one.holders() == {1: b"disk-1"}
    assert one.high_watermark == 103
    one.on_durable(2, 103)
    assert one.holders() == {1: b"disk-1", 2: b"new"}


def test_a_follower_that_begins_again_with_its_own_disk_loses_nothing() -> None:
    one = writer(replicas=(1, 2), quorum=2)
    accept(one, batch(100, 3))
    one.on_durable(1, 103)
    one.on_follow(2, 11, b"disk-2", 100)
    one.on_durable(2, 103)
    one.on_follow(2, 11, b"disk-2", 103)
    assert one.holders() == {1: b"disk-1", 2: b"disk-2"}


def test_a_follower_that_lost_power_holds_what_it_comes_back_with_and_no_more() -> None:
    """With `--fsync none` it may have acknowledged what its disk never got. Named as a holder of
    it, it would let the others be taken out of the cluster, or their copies be set aside."""
    one = writer(replicas=(1, 2, 3), quorum=2)
    accept(one, batch(100, 3))
    one.on_follow(2, 11, b"disk-2", 100)
    for node in (1, 2):
        one.on_durable(node, 103)
    one.on_follow(2, 12, b"disk-2", 101)
    assert one.holders() == {1: b"disk-1"}
    assert one.high_watermark == 103, "consumers have seen it"
    one.on_durable(2, 103)
    assert one.holders() == {1: b"disk-1", 2: b"disk-2"}


def test_a_stream_that_ends_after_its_successor_began_takes_no_follower_away() -> None:
    """A broken connection is noticed late: the follower is back on a new one by then."""
    one = writer(replicas=(1, 2, 3), quorum=2)
    one.on_live(2, live=True)
    one.on_live(2, live=True)
    one.on_live(2, live=False)
    assert one.has_quorum
    one.on_live(2, live=False)
    assert not one.has_quorum
