"""What was appended last, kept in memory so that followers are sent it without asking the disk
(pure).

Only a segment that somebody follows has anything here, and all of them together stay within one
bound: with thousands of topics, a bound for each would be none. What is no longer here is read from
the file, once it is durable.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from broker.ports import Buffer
from engine.batch import Placed

SIZE_MAX = 32 * 1024 * 1024
"""Bytes, of all segments of a node: what a few busy ones append while a follower takes a breath."""


class Tails:
    """Shares the bound among the tails. When it is reached, the one that was silent for longest
    gives way, its oldest batch first."""

    def __init__(self, *, size_max: int = SIZE_MAX) -> None:
        self._size_max = size_max
        self._tails: OrderedDict[Tail, None] = OrderedDict()
        """Those that hold something, by their last append."""
        self.size = 0
        """Bytes held."""

    def grew(self, tail: "Tail", size: int) -> None:
        self.size += size
        self._tails[tail] = None
        self._tails.move_to_end(tail)
        while self.size > self._size_max:
            longest_silent = next(iter(self._tails))
            self.size -= longest_silent.drop_oldest()
            if longest_silent.is_empty:
                del self._tails[longest_silent]

    def emptied(self, tail: "Tail", size: int) -> None:
        self.size -= size
        self._tails.pop(tail, None)


class Tail:
    """The last batches of one segment: contiguous, ending at the segment's end."""

    __slots__ = ("_batches", "_follower_count", "_tails", "end_offset")

    def __init__(self, end_offset: int, tails: Tails) -> None:
        self.end_offset = end_offset
        self._tails = tails
        self._batches: OrderedDict[int, tuple[int, Sequence[Buffer], int]] = OrderedDict()
        """(end offset, buffers, size) by base offset, oldest first: of ten thousand small batches
        the next one is found at once."""
        self._follower_count = 0

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Keep what is appended from now on; forget it when the last follower is gone."""
        self._follower_count += 1
        try:
            yield
        finally:
            self._follower_count -= 1
            if self._follower_count == 0:
                self._tails.emptied(self, sum(size for *_, size in self._batches.values()))
                self._batches.clear()

    @property
    def is_empty(self) -> bool:
        return not self._batches

    def push(self, batches: Sequence[Placed], end_offset: int) -> None:
        """They were appended, and end there."""
        first, _ = batches[0]
        assert first.base_offset == self.end_offset, (first.base_offset, self.end_offset)
        self.end_offset = end_offset
        if self._follower_count == 0:
            return
        for placed, buffers in batches:
            size = placed.size
            self._batches[placed.base_offset] = placed.next_offset, buffers, size
            self._tails.grew(self, size)

    def drop_oldest(self) -> int:
        """Its size."""
        return self._batches.popitem(last=False)[1][2]

    def since(self, offset: int, *, size_max: int) -> tuple[list[Buffer], int] | None:
        """Batches from the one that begins at `offset`, and where they end: about `size_max` bytes,
        at least one batch. None if they are no longer, or not yet, here."""
        found: list[Buffer] = []
        size = 0
        while batch := self._batches.get(offset):
            end_offset, buffers, batch_size = batch
            if found and size + batch_size > size_max:
                break
            found += buffers
            size += batch_size
            offset = end_offset
        return (found, offset) if found else None
