"""Offsets through rollovers, long batches and restarts: the map is exact in both directions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.offset_map import Located, OffsetMap, Span


def chain(*lengths: int, open_last: bool = True) -> OffsetMap:
    """Segments 1, 2, … of these lengths; the last one is open (its length is what was appended)."""
    spans = []
    base_offset = 0
    for number, length in enumerate(lengths, start=1):
        is_open = open_last and number == len(lengths)
        end_offset = None if is_open else base_offset + length
        spans.append(Span(number, base_offset, end_offset, max_timestamp_ms=1000 * number))
        base_offset += length
    return OffsetMap(spans)


def test_first_message_after_a_rollover_has_index_zero() -> None:
    assert chain(10, 10, 5).locate(10) == Located(sid=2, index=0)
    assert chain(10, 10, 5).locate(9) == Located(sid=1, index=9)


def test_offsets_beyond_the_end_of_the_open_segment_belong_to_it() -> None:
    assert chain(10, 5).locate(1_000_000) == Located(sid=2, index=999_990)


def test_offset_beyond_a_sealed_last_segment_is_nowhere() -> None:
    assert chain(10, 5, open_last=False).locate(15) is None


def test_offset_below_the_first_segment_is_nowhere() -> None:
    kept = OffsetMap([Span(7, 500, None, -1)])
    assert kept.start_offset == 500
    assert kept.locate(499) is None
    assert kept.locate(500) == Located(7, 0)


def test_index_beyond_a_sealed_segment_is_refused() -> None:
    with pytest.raises(IndexError):
        chain(10, 5).offset(Located(sid=1, index=10))
    with pytest.raises(KeyError):
        chain(10, 5).offset(Located(sid=9, index=0))


@pytest.mark.parametrize("second_base", [9, 11])
def test_a_gap_or_an_overlap_in_the_chain_is_never_served_from(second_base: int) -> None:
    with pytest.raises(ValueError, match="ends at 10"):
        OffsetMap([Span(1, 0, 10, -1), Span(2, second_base, None, -1)])


def test_an_open_segment_in_the_middle_is_never_served_from() -> None:
    with pytest.raises(ValueError, match="ends at None"):
        OffsetMap([Span(1, 0, None, -1), Span(2, 10, None, -1)])


def test_a_restart_that_replaces_an_empty_segment_changes_no_offset() -> None:
    before = OffsetMap([Span(1, 0, 10, 5), Span(2, 10, None, -1)])
    after = OffsetMap([Span(1, 0, 10, 5), Span(3, 10, None, -1)])
    for offset in range(10):
        assert before.locate(offset) == after.locate(offset)
    assert after.locate(10) == Located(3, 0)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.data())
def test_every_offset_goes_there_and_back(lengths: list[int], data: st.DataObject) -> None:
    offsets = chain(*lengths)
    offset = data.draw(st.integers(0, sum(lengths) + 10))
    located = offsets.locate(offset)
    assert located is not None
    assert offsets.offset(located) == offset


def test_a_timestamp_skips_segments_that_cannot_hold_it() -> None:
    offsets = chain(10, 10, 10)
    assert [span.sid for span in offsets.spans_from_timestamp(1001)] == [2, 3]
    assert [span.sid for span in offsets.spans_from_timestamp(9999)] == [3]


def test_timestamps_that_went_backwards_do_not_hide_an_older_segment() -> None:
    offsets = OffsetMap([Span(1, 0, 10, 9000), Span(2, 10, 20, 5), Span(3, 20, None, -1)])
    assert [span.sid for span in offsets.spans_from_timestamp(100)] == [1, 3]


def test_the_largest_timestamp_is_found_in_whichever_segment_holds_it() -> None:
    offsets = OffsetMap([Span(1, 0, 10, 9000), Span(2, 10, None, -1)])
    largest = offsets.span_of_max_timestamp(open_max_timestamp_ms=5)
    assert largest is not None
    assert largest.sid == 1
    assert OffsetMap([Span(1, 0, None, -1)]).span_of_max_timestamp(-1) is None
