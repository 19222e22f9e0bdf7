"""What makes a frame secret and sure: AES-256-GCM, the count of the frames as its nonce.

A module of its own, imported with the first connection to another node: a node that is alone has no
need of these nine megabytes."""

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.errors import FrameError
from broker.ports import Buffer

_NONCE = struct.Struct("<Q4x")


class Cipher:
    """One direction of one connection, at either end. Its key is used for nothing else, so no nonce
    is used twice under one key (NIST SP 800-38D, section 8)."""

    def __init__(self, key: bytes) -> None:
        self._aes = AESGCM(key)
        self._count = 0

    def seal(self, payload: Buffer) -> bytes:
        """The next frame's payload, encrypted, and its tag of 16 bytes."""
        return self._aes.encrypt(self._next_nonce(), payload, None)

    def open(self, sealed: Buffer) -> bytes:
        """The payload of the next frame. Raises FrameError if the other end did not seal it as
        such."""
        try:
            return self._aes.decrypt(self._next_nonce(), sealed, None)
        except InvalidTag:
            raise FrameError(f"frame {self._count} of a peer is not the one it sent") from None

    def _next_nonce(self) -> bytes:
        self._count += 1
        return _NONCE.pack(self._count)
