"""How often the socket is read when the event loop says that there is something; what it takes from
files."""

import asyncio
import errno
import os
import random
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from broker.net.stream import ReceiveOn, SocketStream
from broker.ports import Buffer, Sendable
from engine.backends._file_part import Lender

DATA = random.Random(1).randbytes(700_000)

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


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    with path.open("rb") as opened:
        yield opened.fileno()


async def send_all(stream: SocketStream, parts: list[Sendable]) -> None:
    left = list(parts)
    while left:
        size = await stream.send(left)
        assert size > 0
        while left and size >= len(left[0]):
            size -= len(left.pop(0))
        if size:
            first = left[0]
            left[0] = memoryview(first)[size:] if isinstance(first, Buffer) else first.after(size)


@pytest.mark.parametrize("seed", range(10))
async def test_parts_of_files_between_buffers_arrive_in_order(file: int, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    lender = Lender()
    parts: list[Sendable] = []
    expected = bytearray()
    for _ in range(rng.randint(1, 30)):
        position = rng.randrange(len(DATA) - 1)
        data = DATA[position : position + rng.choice((1, 1_000, len(DATA)))]
        part = lender.lend(file, position, len(data)) if rng.random() < 0.5 else None
        parts.append(data if part is None else part)
        expected += data
    theirs, ours = socket.socketpair()
    stream = SocketStream(ours)
    theirs.setblocking(False)
    received = bytearray()

    async def receive() -> None:
        while len(received) < len(expected):
            await anyio.wait_readable(theirs)
            received.extend(theirs.recv(rng.randrange(1, 300_000)))

    with closing(theirs), closing(stream), anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await send_all(stream, parts)
    assert received == expected


class Evicted:
    """A part of a file, as `ports.FilePart`, whose pages have left the page cache."""

    def __init__(self, error: OSError | None = None) -> None:
        self.load_count = 0
        self._error = error

    def __len__(self) -> int:
        return 1

    def after(self, size: int) -> "Evicted":
        raise AssertionError("it is one byte")

    def load(self) -> None:
        self.load_count += 1
        if self._error is not None:
            raise self._error

    def send(self, socket: int) -> int:
        return os.write(socket, b"x")


async def sent_behind_a_peer_that_sleeps(part: Evicted) -> None:
    theirs, ours = socket.socketpair()
    stream = SocketStream(ours)
    with closing(theirs), closing(stream):
        while stream.send_now([b"x" * 100_000]):
            pass
        async with anyio.create_task_group() as tasks:
            parts: list[Sendable] = [part, b"end"]
            tasks.start_soon(stream.send, parts)
            await anyio.wait_all_tasks_blocked()
            theirs.recv(10_000_000)


async def test_a_peer_that_slept_does_not_make_us_wait_for_the_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.net.stream.CACHED_FOR_S", 60.0)
    part = Evicted()
    await sent_behind_a_peer_that_sleeps(part)
    assert part.load_count == 0
    monkeypatch.setattr("broker.net.stream.CACHED_FOR_S", 0.0)
    await sent_behind_a_peer_that_sleeps(part)
    assert part.load_count == 1


async def test_a_file_that_cannot_be_read_any_more_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, file: int
) -> None:
    monkeypatch.setattr("broker.net.stream.CACHED_FOR_S", 0.0)
    with pytest.raises(BaseExceptionGroup) as caught:
        await sent_behind_a_peer_that_sleeps(Evicted(OSError(errno.EIO, "the disk is gone")))
    assert caught.group_contains(anyio.BrokenResourceError)
    part = Lender().lend(file, len(DATA), 1)
    assert part is not None
    theirs, ours = socket.socketpair()
    stream = SocketStream(ours)
    with closing(theirs), closing(stream), pytest.raises(anyio.BrokenResourceError):
        stream.send_now([b"head", part])
