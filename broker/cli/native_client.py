"""A blocking client of the native protocol: the standard library and a socket.

One connection, one command at a time. The protocol itself is docs/native-protocol.md.
"""

import json
import select
import socket
import struct
from types import TracebackType
from typing import Any, Self

REPLY_SIZE_MAX = 1 << 30
"""Bytes. No reply is near it: something else answers on that port."""


class NativeError(Exception):
    """The node answered `ERR`; the text is what came after it."""


class NoAnswer(Exception):
    """The node cannot be reached, went away, or does not speak the native protocol."""


class NativeClient:
    """`with NativeClient("127.0.0.1", 8080) as client: client.put("logs", b"hello")`.

    `timeout_s` bounds connecting and each wait for bytes. Raises NoAnswer where there is none,
    after which the connection is of no use, and NativeError where the node refuses.
    """

    def __init__(self, host: str, port: int, *, timeout_s: float = 30.0) -> None:
        try:
            self._socket = socket.create_connection((host, port), timeout=timeout_s)
        except OSError as error:
            raise NoAnswer(f"cannot connect to {host}:{port}: {_reason(error)}") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer = f"{host}:{port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def has_hung_up(self) -> bool:
        """Whether the node closed the connection meanwhile. Between commands it has nothing to
        say."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def register(self, topic: str) -> None:
        """Create the topic unless it exists."""
        self.request(b"REGISTER " + topic.encode())

    def put(self, topic: str, payload: bytes) -> None:
        """Append one message; it is durable when this returns."""
        self.request(b"PUT %b %b" % (topic.encode(), payload))

    def get(self, topic: str) -> bytes | None:
        """Take the next message at the topic's shared cursor; None if there is none yet."""
        reply = self.request(b"GET " + topic.encode())
        return None if reply == b"EMPTY" else reply.removeprefix(b"OK ")

    def state(self, topic: str) -> dict[str, Any]:
        """The topic's chain of segments."""
        state: dict[str, Any] = json.loads(self.request(b"STATE " + topic.encode()))
        return state

    def metrics(self) -> dict[str, Any]:
        """What the node says about itself."""
        metrics: dict[str, Any] = json.loads(self.request(b"METRICS"))
        return metrics

    def request(self, command: bytes) -> bytes:
        """Send one command as it is; the reply as it came, unless it is an ERR."""
        try:
            self._socket.sendall(struct.pack("<I", len(command)) + command)
            reply = self._receive()
        except OSError as error:
            raise NoAnswer(f"no answer from {self._peer}: {_reason(error)}") from error
        if reply.startswith(b"ERR"):
            raise NativeError(reply[3:].strip().decode("utf-8", "replace"))
        return reply

    def _receive(self) -> bytes:
        (size,) = struct.unpack("<I", self._receive_exactly(4))
        if size > REPLY_SIZE_MAX:
            raise NoAnswer(f"{self._peer} does not speak the native protocol")
        return self._receive_exactly(size)

    def _receive_exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            chunk = self._socket.recv(min(size - len(data), 1 << 20))
            if not chunk:
                raise NoAnswer(f"{self._peer} closed the connection")
            data += chunk
        return bytes(data)


def _reason(error: OSError) -> str:
    return "timed out" if isinstance(error, TimeoutError) else error.strerror or str(error)
