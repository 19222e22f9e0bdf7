"""The two ends of a Raft connection, used by the thread that Raft runs on.

A commit takes several messages, one after the other; handing each from thread to thread would cost
more than everything else about it. So, once the handshake is over, Raft's thread writes to the
socket and reads from it by itself, and the event loop only does what may take long: it connects,
and it writes out what a peer is slow to take."""

import asyncio
import threading
from collections.abc import Callable

import anyio

from broker.errors import FrameError
from broker.peer.channel import RECEIVE_SIZE, Channel

BACKLOG_SIZE_MAX = 16 * 1024 * 1024
"""Bytes waiting for one peer; beyond it messages are dropped."""


class Sender:
    """The sending end of a connection that this node dialled."""

    def __init__(self, channel: Channel) -> None:
        """On the event loop."""
        self._socket = channel.share()
        self._seal = channel.sealer.seal
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._backlog = bytearray()
        self._has_backlog = asyncio.Event()

    def send(self, data: bytes) -> bool:
        """Never blocks. False: dropped. Thread safe."""
        with self._lock:
            if len(self._backlog) + len(data) > BACKLOG_SIZE_MAX:
                return False
            must_wake = not self._backlog
            self._backlog += self._seal(data)
            try:
                self._write()
            except OSError:
                # The connection is gone, and its end is noticed elsewhere.
                return False
            must_wake = must_wake and bool(self._backlog)
        if must_wake:
            self._loop.call_soon_threadsafe(self._has_backlog.set)
        return True

    def _write(self) -> None:
        try:
            del self._backlog[: self._socket.send(self._backlog)]
        except BlockingIOError:
            pass

    async def flush(self) -> None:
        """Write out what did not go at once, until cancelled. Raises OSError."""
        while True:
            await self._has_backlog.wait()
            await anyio.wait_writable(self._socket)
            with self._lock:
                self._write()
                if not self._backlog:
                    self._has_backlog.clear()

    def close(self) -> None:
        """On the event loop, after `flush` has ended."""
        with self._lock:
            self._socket.close()


class Receiver:
    """The receiving end of a connection that this node accepted."""

    def __init__(self, channel: Channel, on_payload: Callable[[bytes], None]) -> None:
        """On the event loop. `on_payload` gets what arrives, on the thread that calls `read`."""
        self._socket = channel.share()
        self._open = channel.opener.feed
        self._on_payload = on_payload
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._ended = asyncio.Event()
        self._is_open = True
        self._failure: FrameError | None = None

    def fileno(self) -> int:
        """To wait for something to read."""
        return self._socket.fileno()

    def read(self) -> bool:
        """Hand on what has arrived; never blocks. False: that was the end."""
        payloads: list[bytes] = []
        with self._lock:
            if self._is_open:
                self._is_open = self._read(payloads)
                if not self._is_open:
                    self._loop.call_soon_threadsafe(self._ended.set)
        for payload in payloads:
            self._on_payload(payload)
        return self._is_open

    def _read(self, payloads: list[bytes]) -> bool:
        try:
            data = self._socket.recv(RECEIVE_SIZE)
            payloads += self._open(data)
        except BlockingIOError:
            return True
        except FrameError as wrong:
            self._failure = wrong
            return False
        except OSError:
            return False
        return bool(data)

    async def ended(self) -> None:
        """Return when the connection is over. Raises FrameError when it was for that."""
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """On the event loop, when nobody waits for something to read any more."""
        with self._lock:
            self._is_open = False
            self._socket.close()
