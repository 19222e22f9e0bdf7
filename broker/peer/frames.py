"""Frames between nodes: length, seal, payload (pure).

    frame := size(u32) seal(16) payload          size = bytes of seal and payload; little-endian

The seal is a keyed BLAKE2b over the frame's number and its payload. Each direction of each
connection has a key of its own, made from the cluster's secret and what both ends contributed to
the handshake, and counts its frames. So a frame that was changed, repeated, left out, or carried
over from another connection does not open."""

import hashlib
import struct

from broker.errors import FrameError

FRAME_SIZE_MAX = 4 * 1024 * 1024
"""Bytes of a payload. Raft's batches are far smaller; streams cut theirs."""

SEAL_SIZE = 16
_PREFIX = struct.Struct("<I")
_NUMBER = struct.Struct("<Q")


class Sealer:
    """One direction of one connection, at its sending end."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._count = 0

    def seal(self, payload: bytes) -> bytes:
        """The frame. Raises ValueError for a payload that no receiver would take."""
        if len(payload) > FRAME_SIZE_MAX:
            raise ValueError(f"a frame of {len(payload)} bytes, above {FRAME_SIZE_MAX}")
        self._count += 1
        return (
            _PREFIX.pack(SEAL_SIZE + len(payload))
            + _seal(self._key, self._count, payload)
            + payload
        )


class Opener:
    """One direction of one connection, at its receiving end: bytes in, payloads out."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._count = 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are complete now. Raises FrameError; the connection is then of no
        use."""
        self._buffer += data
        payloads = []
        at = 0
        while len(self._buffer) - at >= _PREFIX.size:
            (size,) = _PREFIX.unpack_from(self._buffer, at)
            if not SEAL_SIZE <= size <= SEAL_SIZE + FRAME_SIZE_MAX:
                raise FrameError(f"a peer announces a frame of {size} bytes")
            if len(self._buffer) - at - _PREFIX.size < size:
                break
            at += _PREFIX.size
            payloads.append(self._open(bytes(self._buffer[at : at + size])))
            at += size
        del self._buffer[:at]
        return payloads

    def _open(self, body: bytes) -> bytes:
        self._count += 1
        seal, payload = body[:SEAL_SIZE], body[SEAL_SIZE:]
        if not _equal(seal, _seal(self._key, self._count, payload)):
            raise FrameError(f"frame {self._count} of a peer is not the one it sent")
        return payload


def _seal(key: bytes, number: int, payload: bytes) -> bytes:
    digest = hashlib.blake2b(_NUMBER.pack(number), key=key, digest_size=SEAL_SIZE)
    digest.update(payload)
    return digest.digest()


def _equal(one: bytes, other: bytes) -> bool:
    """In constant time: how long it takes must not tell how much of a forgery was right."""
    difference = 0
    for left, right in zip(one, other, strict=True):
        difference |= left ^ right
    return difference == 0
