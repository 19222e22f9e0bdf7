"""Keyed state (pure): a mapping, the changes that made it, and its snapshot. Drawn in
docs/formats/state-log.md.

A state log is an internal topic whose records are changes: key and new value, or no value for a
removal. Its live keys at the base of a segment are kept in that segment's header, so nothing before
the segment is needed any more: no compaction, and loading costs one segment.
"""

from collections.abc import Iterable, Mapping

import msgspec

SNAPSHOT_VERSION = 1

Change = tuple[bytes, bytes | None]
"""A key and its new value; None removes it."""


class _Snapshot(msgspec.Struct, frozen=True, array_like=True):
    version: int
    live: dict[bytes, bytes]


_decoder = msgspec.msgpack.Decoder(_Snapshot)


def encode_snapshot(live: Mapping[bytes, bytes]) -> bytes:
    return msgspec.msgpack.encode(_Snapshot(SNAPSHOT_VERSION, dict(live)))


def decode_snapshot(data: bytes) -> dict[bytes, bytes]:
    """Empty data is an empty state. Raises ValueError for garbage and for versions newer than this
    code."""
    if not data:
        return {}
    snapshot = _decoder.decode(data)
    if snapshot.version != SNAPSHOT_VERSION:
        raise ValueError(
            f"state snapshot of version {snapshot.version}, this broker reads {SNAPSHOT_VERSION}"
        )
    return snapshot.live


def apply_changes(live: dict[bytes, bytes], changes: Iterable[Change]) -> None:
    """In order; the last change of a key wins."""
    for key, value in changes:
        if value is None:
            live.pop(key, None)
        else:
            live[key] = value
