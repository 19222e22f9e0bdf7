"""The records of one stored batch, decoded one at a time as they are asked for (pure).

A batch of a million records is not turned into a million objects because somebody wants the first.
"""

from typing import NamedTuple

from broker.codecs import records_section
from broker.errors import CorruptBatch, StorageFailed, UnsupportedCompression
from broker.ports import Buffer
from engine.batch import BatchHeader, CorruptBatchError, check_batch
from engine.records import iter_records


class Unreadable(Exception):
    """A batch whose CRC holds and whose records nobody can read: its producer's fault, and for
    good."""


class Found(NamedTuple):
    """One record."""

    offset: int
    value: bytes
    """b"" for a null value."""


class Unpacked:
    """A batch that is being read forwards."""

    __slots__ = ("_next_offset", "_records", "header", "size")

    def __init__(self, batch: Buffer, header: BatchHeader, *, size_max: int) -> None:
        """Check the CRC and decompress; costs time in proportion to the batch.

        Raises Unreadable if the records do not decompress to at most `size_max` bytes,
        StorageFailed if the stored bytes are not those that were acknowledged.
        """
        try:
            check_batch(batch, header)
        except CorruptBatchError as error:
            raise StorageFailed(
                f"the stored batch at offset {header.base_offset} is damaged: {error}"
            ) from error
        try:
            section = records_section(batch, header, size_max=size_max)
        except (CorruptBatch, UnsupportedCompression) as error:
            raise Unreadable(str(error)) from error
        self.header = header
        self.size = len(section)
        """Bytes it occupies."""
        self._records = iter_records(section, header.record_count)
        self._next_offset = header.base_offset

    def covers(self, offset: int) -> bool:
        """Whether `at(offset)` can be asked: the offset is in the batch and not behind us."""
        return self._next_offset <= offset < self.header.next_offset

    def at(self, offset: int) -> Found | None:
        """The first record at or after `offset`.

        None if the batch has none, which in a control batch is always so. Raises Unreadable.
        """
        if self.header.is_control:
            return None
        base_offset = self.header.base_offset
        try:
            for record in self._records:
                found = base_offset + record.offset_delta
                self._next_offset = found + 1
                if found >= offset:
                    return Found(found, record.value or b"")
        except CorruptBatchError as error:
            raise Unreadable(str(error)) from error
        self._next_offset = self.header.next_offset
        return None
