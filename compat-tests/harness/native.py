"""The native protocol on a plain socket: written from its description, not from our client."""

import json
import socket
import struct
from types import TracebackType
from typing import Any, Self


class NativeError(Exception):
    """The server answered `ERR …`."""


class Native:
    """One connection: a frame out, a frame in."""

    def __init__(self, port: int, timeout_s: float = 30.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, command: bytes) -> None:
        self.socket.sendall(struct.pack("<I", len(command)) + command)

    def receive(self) -> bytes:
        """The next reply. Raises ConnectionError at the end of the stream."""
        (size,) = struct.unpack("<I", self._exactly(4))
        return self._exactly(size)

    def ask(self, command: bytes) -> bytes:
        self.send(command)
        return self.receive()

    def _exactly(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            chunk = self.socket.recv(min(size - len(found), 1 << 20))
            if not chunk:
                raise ConnectionError("the server closed the connection")
            found += chunk
        return bytes(found)

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
