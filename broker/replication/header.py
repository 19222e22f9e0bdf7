"""The header object of a segment (pure): everything a new leader must know from before its first
batch.

Written with the first append of a segment, so that nobody ever scans history: the idempotence
window, and, for an internal topic, the live keys of its state log. Stored in the segment's `head`
file; see docs/formats/segment.md.
"""

import msgspec

FORMAT_VERSION = 1


class SegmentHeader(msgspec.Struct, frozen=True, array_like=True):
    """Positional msgpack; fields are only ever appended."""

    version: int
    producers: bytes
    """`ProducerState.snapshot()` as of the segment's base offset."""
    keyed: bytes
    """Snapshot of the keyed state as of the base offset; b"" for ordinary topics."""


_decoder = msgspec.msgpack.Decoder(SegmentHeader)


def encode(*, producers: bytes, keyed: bytes = b"") -> bytes:
    return msgspec.msgpack.encode(SegmentHeader(FORMAT_VERSION, producers, keyed))


def decode(data: bytes) -> SegmentHeader:
    """Raises ValueError for garbage and for versions newer than this code."""
    header = _decoder.decode(data)
    if header.version != FORMAT_VERSION:
        raise ValueError(
            f"segment header of version {header.version}, this broker reads {FORMAT_VERSION}"
        )
    return header
