"""A non-blocking socket as the connection wants it: one `recv_into` per wake-up (two inside a large
frame), one `sendmsg` per burst, and `sendfile` for what is in files.

The reader stays registered with the event loop between requests, and the bytes are taken inside the
loop's own callback. A request on an idle connection so costs one `epoll_wait` and one `recv`, not a
failed `recv` and two `epoll_ctl` more. Reading stops by itself while nobody asks for bytes, which
is how a busy connection pushes back.
"""

import asyncio
import socket
import struct
from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol, TypeVar

import anyio
import anyio.to_thread

from broker.ports import Buffer, Sendable

IOV_MAX = 1024
"""Buffers per `sendmsg`; the kernel's own limit (UIO_MAXIOV)."""

RECEIVE_COUNT_MAX = 2
"""Reads per wake-up, where the first one filled its buffer in the middle of a frame."""

CACHED_FOR_S = 0.05
"""A peer that takes nothing for longer finds the parts of files looked after before they are sent
on: their pages may have left the page cache."""

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class ReceiveOn(Enum):
    """What a sink says that has nothing to tell, but waits for the rest of something."""

    NOW = auto()
    """If the buffer is full, the rest is probably there."""


class Sink(Protocol[T_co]):
    """Where received bytes go. Both methods run inside one loop callback."""

    def buffer(self) -> memoryview | None:
        """Room for the bytes that have come; None to take none now."""

    def advance(self, size: int) -> T_co | ReceiveOn | None:
        """`size` bytes of `buffer()` are filled; 0 if there were none after all.

        What to tell the task that receives; None: nothing, receive on.
        """


class Stream(Protocol):
    """One connected peer. `SocketStream` in production; tests and simulations bring their own."""

    async def receive(self, sink: Sink[T]) -> T | None:
        """Wait for bytes and let `sink` take them until it has an answer; None if it had no room.

        Raises anyio.EndOfStream when the peer has finished sending or after `stop_receiving`, and
        anyio.BrokenResourceError when the connection is gone.
        """

    def stop_receiving(self) -> None:
        """End a `receive` that is waiting."""

    async def send(self, parts: Sequence[Sendable]) -> int:
        """Hand over as much as is taken at once, waiting until it is at least one byte. Returns
        bytes taken.

        Raises anyio.BrokenResourceError.
        """

    def send_now(self, parts: Sequence[Sendable]) -> int:
        """The same without waiting: 0 if the socket takes nothing now."""

    def finish_sending(self) -> None:
        """Tell the peer that nothing more will come."""

    def reset(self) -> None:
        """Make `close` drop what is not delivered yet, and tell the peer at once."""

    def close(self) -> None:
        """Never blocks. Nothing may be called afterwards."""


class SocketStream:
    """`Stream` over a connected TCP socket, on asyncio's loop."""

    __slots__ = (
        "_is_reading",
        "_loop",
        "_sink",
        "_socket",
        "_taken",
        "_waiter",
    )

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[bool] | None = None
        self._sink: Sink[object] | None = None
        self._taken: object = None
        self._is_reading = False

    async def receive(self, sink: Sink[T]) -> T | None:
        assert self._waiter is None, "two tasks receive on one stream"
        self._waiter = waiter = self._loop.create_future()
        self._sink = sink
        if not self._is_reading:
            self._loop.add_reader(self._socket, self._on_readable)
            self._is_reading = True
        try:
            has_room = await waiter
            return self._taken if has_room else None  # type: ignore[return-value]
        finally:
            self._waiter = self._sink = self._taken = None

    def stop_receiving(self) -> None:
        self._fail(anyio.EndOfStream())

    async def send(self, parts: Sequence[Sendable]) -> int:
        while not (size := self.send_now(parts)):
            since = self._loop.time()
            await anyio.wait_writable(self._socket)
            if self._loop.time() - since > CACHED_FOR_S:
                await _load(parts)
        return size

    def send_now(self, parts: Sequence[Sendable]) -> int:
        try:
            return self._socket.sendmsg(parts)  # type: ignore[arg-type]
        except (BlockingIOError, InterruptedError):
            return 0
        except TypeError:
            return self._send_mixed(parts)  # Nothing was sent: one of them is no buffer.
        except OSError as error:
            raise anyio.BrokenResourceError from error

    def _send_mixed(self, parts: Sequence[Sendable]) -> int:
        """`send_now` of buffers and parts of files."""
        sent_size = 0
        buffers: list[Buffer] = []
        try:
            for part in parts:
                if isinstance(part, Buffer):
                    buffers.append(part)
                    continue
                if buffers:
                    # What follows belongs to them: no packet for them alone.
                    taken_size = self._socket.sendmsg(buffers, (), socket.MSG_MORE)
                    sent_size += taken_size
                    if taken_size < sum(map(len, buffers)):
                        return sent_size
                    buffers = []
                taken_size = part.send(self._socket.fileno())
                sent_size += taken_size
                if taken_size < len(part):
                    return sent_size
            if buffers:
                sent_size += self._socket.sendmsg(buffers)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            raise anyio.BrokenResourceError from error
        return sent_size

    def finish_sending(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # The peer is gone already; that is the end we wanted.

    def reset(self) -> None:
        # Otherwise the kernel goes on offering its send buffer to a peer that does not read.
        no_linger = struct.pack("ii", 1, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)

    def close(self) -> None:
        self._pause()
        self._socket.close()

    def _on_readable(self) -> None:
        waiter, sink = self._waiter, self._sink
        if waiter is None or sink is None or waiter.done():
            self._pause()
            return
        try:
            reads_left = RECEIVE_COUNT_MAX
            while True:
                buffer = sink.buffer()
                if buffer is None:
                    self._pause()
                    waiter.set_result(False)
                    return
                try:
                    size = self._socket.recv_into(buffer)
                except (BlockingIOError, InterruptedError):
                    size = 0
                else:
                    if size == 0:
                        self._fail(anyio.EndOfStream())
                        return
                taken = sink.advance(size)
                if taken is None or waiter.done():
                    return
                if taken is not ReceiveOn.NOW:
                    self._taken = taken
                    waiter.set_result(True)
                    return
                reads_left -= 1
                if not reads_left or size < len(buffer):
                    return
        except OSError as error:
            broken = anyio.BrokenResourceError()
            broken.__cause__ = error
            self._fail(broken)
        except Exception as error:  # noqa: BLE001  It belongs to the task that gave the sink.
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._pause()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def _pause(self) -> None:
        if self._is_reading:
            self._loop.remove_reader(self._socket)
            self._is_reading = False


async def _load(parts: Sequence[Sendable]) -> None:
    files = [part for part in parts if not isinstance(part, Buffer)]
    try:
        for part in files:
            await anyio.to_thread.run_sync(part.load)
    except OSError as error:
        raise anyio.BrokenResourceError from error
