"""Offsets, segments and timestamps of one topic (pure).

A topic is a chain of spans without gaps: each begins where the one before it ended, and only the
last may be open. Therefore `offset = base_offset + index`, where `index` counts from the start of
the segment and is never a rank: it stays true when compaction leaves holes.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """The offsets of one segment: `base_offset <= offset < end_offset`, or without end while it is
    open."""

    sid: int
    base_offset: int
    end_offset: int | None
    max_timestamp_ms: int
    """Largest record timestamp of a sealed segment; -1 if it has none. Not meaningful while
    open."""

    @property
    def is_open(self) -> bool:
        return self.end_offset is None


@dataclass(frozen=True, slots=True)
class Located:
    """One message: the segment that holds it and its place in there."""

    sid: int
    index: int
    """0-based, counted in offsets from the segment's base."""


class OffsetMap:
    """The chain of one topic at one moment. Build a new one when the metadata changes; it is cheap.

    Raises ValueError if the spans leave a gap, overlap, or an open one is not the last: metadata
    that says so must not be served from.
    """

    __slots__ = ("_bases", "_spans")

    def __init__(self, spans: Sequence[Span]) -> None:
        if not spans:
            raise ValueError("a topic has at least one segment")
        for before, after in zip(spans, spans[1:], strict=False):
            if before.end_offset != after.base_offset:
                raise ValueError(
                    f"segment {before.sid} ends at {before.end_offset}"
                    f" but segment {after.sid} begins at {after.base_offset}"
                )
        self._spans = tuple(spans)
        self._bases = [span.base_offset for span in spans]

    @property
    def start_offset(self) -> int:
        """First offset that any segment holds."""
        return self._bases[0]

    @property
    def last(self) -> Span:
        return self._spans[-1]

    def span_of(self, offset: int) -> Span | None:
        """The segment that holds, or will hold, `offset`. None below the first or beyond a sealed
        last one."""
        place = bisect_right(self._bases, offset) - 1
        if place < 0:
            return None
        span = self._spans[place]
        if span.end_offset is not None and offset >= span.end_offset:
            return None
        return span

    def locate(self, offset: int) -> Located | None:
        """offset → (segment, index)."""
        span = self.span_of(offset)
        return None if span is None else Located(span.sid, offset - span.base_offset)

    def offset(self, located: Located) -> int:
        """(segment, index) → offset. Raises KeyError for an unknown segment, IndexError beyond its
        end."""
        for span in self._spans:
            if span.sid == located.sid:
                offset = span.base_offset + located.index
                if located.index < 0 or (span.end_offset is not None and offset >= span.end_offset):
                    raise IndexError(f"segment {span.sid} has no index {located.index}")
                return offset
        raise KeyError(located.sid)

    def spans_from_timestamp(self, timestamp_ms: int) -> Iterator[Span]:
        """The segments that can hold a record of `timestamp_ms` or later, in order; the open one
        always may."""
        for span in self._spans:
            if span.is_open or span.max_timestamp_ms >= timestamp_ms:
                yield span

    def span_of_max_timestamp(self, open_max_timestamp_ms: int) -> Span | None:
        """The first segment that holds the largest timestamp (KIP-734); None if there is no record
        at all."""
        best: Span | None = None
        best_timestamp_ms = -1
        for span in self._spans:
            timestamp_ms = open_max_timestamp_ms if span.is_open else span.max_timestamp_ms
            if timestamp_ms > best_timestamp_ms:
                best, best_timestamp_ms = span, timestamp_ms
        return best
