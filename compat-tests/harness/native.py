"""The native protocol on a plain socket: written from its description, not from our client."""

import json
import struct
from typing import Any

from harness.connection import Connection


class NativeError(Exception):
    """The server answered `ERR …`."""


class Native(Connection):
    """One connection: a frame out, a frame in."""

    def send(self, command: bytes) -> None:
        self.socket.sendall(struct.pack("<I", len(command)) + command)

    def receive(self) -> bytes:
        """The next reply. Raises ConnectionError at the end of the stream."""
        (size,) = struct.unpack("<I", self.exactly(4))
        return self.exactly(size)

    def ask(self, command: bytes) -> bytes:
        self.send(command)
        return self.receive()

    # ---- the five commands -----------------------------------------------------------------------

    def register(self, topic: str) -> None:
        self._ok(b"REGISTER " + topic.encode())

    def put(self, topic: str, payload: bytes) -> None:
        self._ok(b"PUT " + topic.encode() + b" " + payload)

    def get(self, topic: str) -> bytes | None:
        """The next payload of the shared cursor; None when there is none."""
        reply = self.ask(b"GET " + topic.encode())
        if reply == b"EMPTY":
            return None
        if not reply.startswith(b"OK "):
            raise NativeError(reply)
        return reply[3:]

    def get_all(self, topic: str) -> list[bytes]:
        found = []
        while (payload := self.get(topic)) is not None:
            found.append(payload)
        return found

    def state(self, topic: str) -> Any:
        return self._json(b"STATE " + topic.encode())

    def metrics(self) -> Any:
        return self._json(b"METRICS")

    def _ok(self, command: bytes) -> None:
        reply = self.ask(command)
        if reply != b"OK":
            raise NativeError(reply)

    def _json(self, command: bytes) -> Any:
        reply = self.ask(command)
        if reply.startswith(b"ERR"):
            raise NativeError(reply)
        return json.loads(reply)
