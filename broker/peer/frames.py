"""Frames between nodes: length, then the payload, encrypted and sealed (pure).

    frame := size(u32) sealed          size = bytes of `sealed`; little-endian
    sealed := AES-256-GCM of the payload (as long as the payload) and its tag(16)

Each direction of each connection has a key of its own, made from the cluster's secret and what both
ends contributed to the handshake, and counts its frames. So nobody without the secret can read a
frame, and one that was changed, repeated, left out, or carried over from another connection does
not open."""

import struct
from typing import TYPE_CHECKING

from broker.errors import FrameError
from broker.ports import Buffer

if TYPE_CHECKING:
    from broker.peer.cipher import Cipher

FRAME_SIZE_MAX = 4 * 1024 * 1024
"""Bytes of a payload. Raft's batches are far smaller; streams cut theirs."""

TAG_SIZE = 16
_PREFIX = struct.Struct("<I")


class Sealer:
    """One direction of one connection, at its sending end."""

    def __init__(self, key: bytes) -> None:
        """`key` has 32 bytes."""
        self._cipher = _cipher(key)

    def seal(self, *parts: Buffer) -> bytes:
        """The frame whose payload is these parts. Raises ValueError for one that no receiver would
        take."""
        payload = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(payload) > FRAME_SIZE_MAX:
            raise ValueError(f"a frame of {len(payload)} bytes, above {FRAME_SIZE_MAX}")
        sealed = self._cipher.seal(payload)
        return _PREFIX.pack(len(sealed)) + sealed


class Opener:
    """One direction of one connection, at its receiving end: bytes in, payloads out."""

    def __init__(self, key: bytes) -> None:
        self._cipher = _cipher(key)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are complete now. Raises FrameError; the connection is then of no
        use."""
        self._buffer += data
        payloads = []
        at = 0
        with memoryview(self._buffer) as view:
            while len(view) - at >= _PREFIX.size:
                (size,) = _PREFIX.unpack_from(view, at)
                if not TAG_SIZE <= size <= TAG_SIZE + FRAME_SIZE_MAX:
                    raise FrameError(f"a peer announces a frame of {size} bytes")
                begin, end = at + _PREFIX.size, at + _PREFIX.size + size
                if len(view) < end:
                    break
                with view[begin:end] as sealed:
                    payloads.append(self._cipher.open(sealed))
                at = end
        del self._buffer[:at]
        return payloads


def _cipher(key: bytes) -> "Cipher":
    from broker.peer.cipher import Cipher

    return Cipher(key)
