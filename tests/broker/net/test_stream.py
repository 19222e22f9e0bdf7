"""How often the socket is read when the event loop says that there is something."""

import asyncio
import socket
from contextlib import closing

import pytest

from broker.net.stream import ReceiveOn, SocketStream

pytestmark = pytest.mark.anyio


class Sink:
    """Ends with `wanted_size` bytes. Notes each read: its size, and in which turn of the loop."""

    def __init__(self, buffer_size: int, *, wanted_size: int, frame_size: int) -> None:
        self._buffer_size = buffer_size
        self._wanted_size = wanted_size
        self._frame_size = frame_size
        self._turn = 0
        self.reads: list[tuple[int, int]] = []

    def buffer(self) -> memoryview:
        asyncio.get_running_loop().call_soon(self._next_turn)
        return memoryview(bytearray(self._buffer_size))

    def advance(self, size: int) -> int | ReceiveOn | None:
        self.reads.append((self._turn, size))
        received_size = sum(size for _, size in self.reads)
        if received_size == self._wanted_size:
            return size
        return ReceiveOn.NOW if received_size % self._frame_size else None

    def _next_turn(self) -> None:
        self._turn += 1


async def reads(sink: Sink, size: int) -> list[tuple[int, int]]:
    theirs, ours = socket.socketpair()
    stream = SocketStream(ours)
    with closing(theirs), closing(stream):
        theirs.sendall(b"x" * size)
        await stream.receive(sink)
    return sink.reads


async def test_the_rest_of_a_large_frame_is_read_at_once_and_others_have_their_turn() -> None:
    sink = Sink(100, wanted_size=300, frame_size=300)
    (first, a), (second, b), (third, c) = await reads(sink, 300)
    assert (a, b, c) == (100, 100, 100)
    assert first == second < third


async def test_a_frame_that_ends_where_the_buffer_does_is_not_read_on() -> None:
    sink = Sink(100, wanted_size=200, frame_size=100)
    (first, _), (second, _) = await reads(sink, 200)
    assert first < second


async def test_a_frame_of_which_no_more_has_come_is_waited_for() -> None:
    sink = Sink(100, wanted_size=150, frame_size=1_000)
    assert [size for _, size in await reads(sink, 150)] == [100, 50]
