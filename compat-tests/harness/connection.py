"""A plain socket to a node: what both protocols' connections are before they say anything."""

import socket
from types import TracebackType
from typing import Self


class Connection:
    """To a port of this machine; `timeout_s` bounds connecting and each wait for bytes."""

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

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes. Raises ConnectionError at the end of the stream."""
        found = bytearray()
        while len(found) < size:
            chunk = self.socket.recv(min(size - len(found), 1 << 20))
            if not chunk:
                raise ConnectionError("the server closed the connection")
            found += chunk
        return bytes(found)
