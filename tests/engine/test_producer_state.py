"""A producer that repeats itself must not be stored twice, and one that skips must be told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import SEQUENCE_MAX, BatchHeader, parse_header
from engine.producer_state import (
    EXPIRY_AGE_MS_MIN,
    Duplicate,
    Fenced,
    Fresh,
    Gap,
    OldDuplicate,
    ProducerState,
    SnapshotError,
)
from engine.records import Record, build

DAY_MS = EXPIRY_AGE_MS_MIN


def batch(
    sequence: int,
    count: int = 1,
    *,
    base_offset: int = 0,
    producer_id: int = 1,
    epoch: int = 0,
    timestamp: int = 0,
    attributes: int = 0,
) -> BatchHeader:
    data = build(
        [Record(i, 0, None, b"") for i in range(count)],
        base_offset=base_offset,
        base_timestamp=timestamp,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
        attributes=attributes,
    )
    return parse_header(data)


def after(*headers: BatchHeader) -> ProducerState:
    state = ProducerState()
    for header in headers:
        assert state.check(header) == Fresh()
        state.update(header)
    return state


def test_retry_gets_the_offsets_of_the_original() -> None:
    state = after(*(batch(10 * i, 10, base_offset=100 + 10 * i) for i in range(5)))
    for i in range(5):
        assert state.check(batch(10 * i, 10)) == Duplicate(100 + 10 * i, 110 + 10 * i)


def test_retry_below_the_window_of_five() -> None:
    state = after(*(batch(i) for i in range(6)))
    assert state.check(batch(0)) == OldDuplicate()
    assert state.check(batch(1)) == Duplicate(0, 1)


def test_lost_batch_shows_as_a_gap() -> None:
    state = after(batch(0, 3))
    assert state.check(batch(4)) == Gap(3)
    assert state.check(batch(3)) == Fresh()


def test_batch_that_overlaps_the_window_is_not_taken_twice() -> None:
    state = after(batch(0, 3))
    assert state.check(batch(1, 2)) == OldDuplicate()
    assert state.check(batch(2, 2)) == Gap(3)


def test_sequence_wraps_to_zero() -> None:
    state = after(batch(SEQUENCE_MAX - 1, 3), batch(1, 2, base_offset=3))
    assert state.check(batch(3)) == Fresh()
    assert state.check(batch(SEQUENCE_MAX - 1, 3)) == Duplicate(0, 3)
    assert state.check(batch(SEQUENCE_MAX)) == OldDuplicate()
    assert state.check(batch(SEQUENCE_MAX - 5)) == Gap(3)
    assert state.check(batch(4)) == Gap(3)
    for sequence in (3, 4, 5):
        state.update(batch(sequence, base_offset=sequence + 2))
    assert state.check(batch(SEQUENCE_MAX - 5)) == OldDuplicate()
    exactly = after(batch(SEQUENCE_MAX))
    assert exactly.check(batch(0)) == Fresh()


def test_unknown_producer_may_start_anywhere() -> None:
    assert ProducerState().check(batch(12345, epoch=7)) == Fresh()


def test_refused_first_batch_is_not_taken_for_stored_when_the_second_was_quicker() -> None:
    """Five requests are under way; the first finds no leader yet, those behind it do. Clients take
    a repeat that is called an old duplicate for acknowledged."""
    state = after(batch(3, 2), batch(5), batch(6), batch(7))
    assert state.check(batch(0, 3)) == Gap(8)
    assert state.check(batch(0, 5)) == Gap(8)


def test_zombie_of_an_older_epoch_is_fenced() -> None:
    state = after(batch(0), batch(0, epoch=1))
    assert state.check(batch(1)) == Fenced(1)


def test_new_epoch_starts_at_zero_and_forgets_the_old_window() -> None:
    state = after(batch(0, 5))
    assert state.check(batch(5, epoch=1)) == Gap(0)
    state.update(batch(0, 5, epoch=1, base_offset=5))
    assert state.check(batch(0, 5, epoch=1)) == Duplicate(5, 10)


def test_batches_without_a_producer_have_no_window() -> None:
    state = ProducerState()
    plain = batch(-1, producer_id=-1, epoch=-1)
    for _ in range(2):
        assert state.check(plain) == Fresh()
        state.update(plain)
    assert len(state) == 0


def test_control_batch_carries_an_epoch_and_no_sequence() -> None:
    marker = batch(-1, epoch=1, attributes=0x30)
    state = after(batch(0, 5), marker)
    assert state.check(batch(1)) == Fenced(1)
    assert state.check(batch(77, epoch=1)) == Fresh(), "nothing is known of this epoch yet"


def test_producers_silent_for_a_day_are_forgotten_and_no_sooner() -> None:
    state = after(batch(0, timestamp=1000), batch(0, producer_id=2, timestamp=2000))
    assert state.expire(1000 + DAY_MS, DAY_MS) == 0
    assert state.expire(1001 + DAY_MS, DAY_MS) == 1
    assert state.check(batch(99)) == Fresh()
    assert state.check(batch(0, producer_id=2)) == Duplicate(0, 1)
    with pytest.raises(ValueError, match="remembered"):
        state.expire(0, DAY_MS - 1)


def test_ten_thousand_and_one_producers_cost_no_more_than_ten_thousand() -> None:
    state = ProducerState(producer_count_max=3)
    for producer_id in (1, 2, 3, 1, 4):
        state.update(batch(len(state), producer_id=producer_id))
    assert len(state) == 3
    assert state.check(batch(99, producer_id=2)) == Fresh(), "silent for longest, so forgotten"
    assert state.check(batch(99, producer_id=1)) != Fresh()


GOLDEN_SNAPSHOT = (
    "5750524400010000000200000000000000010002000000000000138802000000000000000400000000000003"
    "e800000000000003ed000000050000000600000000000003ed00000000000003ef00000000000000090000ff"
    "ffffffffffffff017ffffffe0000000000000000000007d000000000000007d3d52a47da"
)


def test_snapshot_of_an_older_program_is_read() -> None:
    """If this fails, old segments cannot be opened: raise SNAPSHOT_VERSION and read both."""
    state = after(
        batch(0, 5, base_offset=1000, epoch=2, timestamp=5000),
        batch(5, 2, base_offset=1005, epoch=2, timestamp=4000),
        batch(SEQUENCE_MAX - 1, 3, base_offset=2000, producer_id=9, timestamp=-1),
    )
    assert state.snapshot().hex() == GOLDEN_SNAPSHOT


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, SEQUENCE_MAX)), max_size=30
    )
)
def test_snapshot_answers_as_the_original(appends: list[tuple[int, int, int]]) -> None:
    state = ProducerState()
    for offset, (producer_id, epoch, sequence) in enumerate(appends):
        state.update(batch(sequence, producer_id=producer_id, epoch=epoch, base_offset=offset))
    again = ProducerState.restore(state.snapshot())
    assert again.snapshot() == state.snapshot()
    for producer_id, epoch, sequence in appends:
        header = batch(sequence, producer_id=producer_id, epoch=epoch)
        assert again.check(header) == state.check(header)


def test_damaged_snapshot_is_refused() -> None:
    data = after(batch(0, 5)).snapshot()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(SnapshotError):
            ProducerState.restore(bytes(damaged))
        with pytest.raises(SnapshotError):
            ProducerState.restore(data[:position])
