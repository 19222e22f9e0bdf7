"""One connection, over a real socket: order, backpressure, bad peers, slow peers, and the last
word."""

import errno
import random
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import pytest
from structlog.typing import EventDict

from broker.net import Budget, Limits
from broker.net.stream import SocketStream
from broker.ports import Buffer, Finish, Pending, Reply
from engine.backends._file_part import Lender
from tests.broker.net.harness import EchoSession, QuickSession, prefixed, running


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with running(lambda peer: EchoSession()) as server:
        client = await server.connect()
        await client.send(*(b"%d" % i for i in range(3_000)))
        assert [await client.receive() for _ in range(3_000)] == [b"%d" % i for i in range(3_000)]
        assert server.stats.requests == 3_000
        assert server.stats.sent_size == server.stats.received_size


async def test_a_parked_request_holds_back_later_replies_but_not_earlier_ones() -> None:
    gate = anyio.Event()
    session = EchoSession(gate)
    async with running(lambda peer: session) as server:
        client = await server.connect()
        await client.send(b"first", b"wait", b"last")
        assert await client.receive() == b"first"
        await server.until(lambda: session.begun == [b"first", b"wait", b"last"])
        gate.set()
        assert [await client.receive(), await client.receive()] == [b"wait", b"last"]


async def test_a_request_without_a_reply_sends_nothing_and_keeps_the_order() -> None:
    async with running(lambda peer: EchoSession()) as server:
        client = await server.connect()
        await client.send(b"a", b"none", b"none", b"b")
        assert [await client.receive(), await client.receive()] == [b"a", b"b"]


async def test_large_frames_and_replies_cross_whole() -> None:
    body = bytes(range(256)) * 8 * 1024
    async with running(lambda peer: EchoSession()) as server:
        client = await server.connect()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.send, body, b"small", b"big 5000000", body)
            assert await client.receive() == body
            assert await client.receive() == b"small"
            assert await client.receive() == b"x" * 5_000_000
            assert await client.receive() == body
        await server.until(lambda: server.budget.used_size == 0)


async def test_a_reply_of_thousands_of_buffers_is_sent_whole() -> None:
    class Shredder(EchoSession):
        async def begin(self, frame: memoryview) -> Finish:
            async def finish() -> Reply:
                return [(5_000).to_bytes(4, "big"), *(b"%d" % (i % 10) for i in range(5_000))]

            return finish

    async with running(lambda peer: Shredder()) as server:
        client = await server.connect()
        await client.send(b"go")
        assert await client.receive() == b"0123456789" * 500


async def test_replies_that_are_ready_together_leave_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    send = SocketStream.send

    async def counting(self: SocketStream, buffers: Sequence[Buffer]) -> int:
        sizes.append(await send(self, buffers))
        return sizes[-1]

    monkeypatch.setattr(SocketStream, "send", counting)
    gate = anyio.Event()
    session = EchoSession(gate)
    async with running(lambda peer: session) as server:
        client = await server.connect()
        await client.send(b"wait", *[b"x" * 10] * 500)
        await server.until(lambda: len(session.begun) == 501)
        gate.set()
        assert len([await client.receive() for _ in range(501)]) == 501
    assert len(sizes) <= 2


async def test_too_many_unanswered_requests_stop_the_reading() -> None:
    gate = anyio.Event()
    session = EchoSession(gate)
    limits = Limits(requests_in_flight_max=10)
    async with running(lambda peer: session, limits=limits) as server:
        client = await server.connect()
        await client.send(*[b"wait"] * 25)
        await server.until(lambda: len(session.begun) == 10)
        assert len(session.begun) == 10
        gate.set()
        assert [await client.receive() for _ in range(25)] == [b"wait"] * 25


async def test_a_peer_that_breaks_the_protocol_is_named_in_the_log_and_closed(
    logs: list[EventDict],
) -> None:
    async with running(lambda peer: EchoSession()) as server:
        for words in ([b"fine", b"peer", b"unseen"], [b"fine", b"late peer", b"unseen"]):
            client = await server.connect()
            port = client.raw.getsockname()[1]
            await client.send(*words)
            assert await client.receive() == b"fine"
            assert await client.at_end()
            assert logs.pop() == {
                "log_level": "warning",
                "event": "connection closed",
                "reason": "this peer is impossible",
                "listener": "echo",
                "peer": f"127.0.0.1:{port}",
                "client_id": "echo-client",
            }
        assert server.stats.peer_errors == 2


async def test_a_fault_of_ours_closes_that_connection_and_no_other(
    logs: list[EventDict],
) -> None:
    async with running(lambda peer: EchoSession()) as server:
        bystander = await server.connect()
        for word in (b"crash", b"late crash"):
            client = await server.connect()
            await client.send(word)
            await client.at_end()
            entry = logs.pop()
            assert entry["event"] == "connection closed by a fault of ours"
            assert entry["exc_info"]
        await bystander.send(b"still here")
        assert await bystander.receive() == b"still here"
        assert server.stats.faults == 2


async def test_an_oversize_frame_gets_its_answer_even_with_megabytes_unread() -> None:
    """A close with unread bytes is a reset, which would destroy the reply on its way."""
    async with running(lambda peer: EchoSession()) as server:
        client = await server.connect()
        await client.send(b"before")
        await client.stream.send(struct.pack(">I", 10**9) + b"x" * 1_000_000)
        assert await client.receive() == b"before"
        assert await client.receive() == b"refused 1000000000"
        assert await client.at_end()


async def test_a_half_closed_peer_still_gets_its_replies() -> None:
    gate = anyio.Event()
    session = EchoSession(gate)
    async with running(lambda peer: session) as server:
        client = await server.connect()
        await client.send(b"a", b"wait")
        await client.stream.send_eof()
        await server.until(lambda: len(session.begun) == 2)
        gate.set()
        assert [await client.receive(), await client.receive()] == [b"a", b"wait"]
        assert await client.at_end()
        await server.until(lambda: server.stats.connections == 0)


async def test_a_peer_that_vanishes_leaves_nothing_behind() -> None:
    gate = anyio.Event()
    async with running(lambda peer: EchoSession(gate)) as server:
        client = await server.connect()
        await client.send(b"big 3000000", b"wait")
        await client.stream.send(b"\0\0\1\0half")
        client.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.stream.aclose()
        gate.set()
        await server.until(lambda: server.stats.connections == 0)
        assert server.budget.used_size == 0


async def test_a_frame_that_stalls_is_closed_after_its_time() -> None:
    async with running(lambda peer: EchoSession()) as server:
        client = await server.connect()
        await client.stream.send(b"\0\0\1\0half a fra")
        await server.until(lambda: server.stats.received_size == 14)
        server.clock.now_s += 29
        server.server.sweep()
        assert server.stats.peer_errors == 0
        server.clock.now_s += 2
        server.server.sweep()
        await client.at_end()
        assert server.stats.peer_errors == 1


async def test_a_frame_that_drips_is_closed_although_it_never_stalls() -> None:
    async with running(lambda peer: EchoSession()) as server:
        client = await server.connect()
        await client.stream.send(b"\0\0\1\0")
        for count in range(4, 200):
            await server.until(lambda count=count: server.stats.received_size == count)  # type: ignore[misc]
            server.clock.now_s += 10
            server.server.sweep()
            if server.stats.peer_errors:
                break
            await client.stream.send(b"x")
        assert server.stats.peer_errors == 1
        assert server.stats.received_size < 10


async def test_an_idle_connection_is_closed_and_a_waiting_one_is_not() -> None:
    gate = anyio.Event()
    session = EchoSession(gate)
    async with running(lambda peer: session) as server:
        idle, waiting = await server.connect(), await server.connect()
        await waiting.send(b"wait")
        await server.until(lambda: len(session.begun) == 1 and server.stats.connections == 2)
        server.clock.now_s += 601
        server.server.sweep()
        assert await idle.at_end()
        gate.set()
        assert await waiting.receive() == b"wait"
        assert server.stats.peer_errors == 0


async def test_a_peer_that_never_reads_is_closed_sooner_when_others_need_its_memory() -> None:
    budget = Budget(1_000_000)
    session = EchoSession()
    async with running(lambda peer: session, budget=budget) as server:
        deaf = await server.connect()
        await deaf.send(*[b"big 8000000"] * 10)
        await server.until(lambda: budget.used_size > budget.size_max)
        server.clock.now_s += 6
        server.server.sweep()
        assert server.stats.peer_errors == 0
        other = await server.connect()
        await other.send(b"hello")
        await server.until(lambda: budget.is_spent)
        server.clock.now_s += 6
        server.server.sweep()
        assert server.stats.peer_errors == 1
        assert await other.receive() == b"hello"
        await server.until(lambda: server.stats.connections == 1)
        assert deaf.raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
        assert session.begun.count(b"big 8000000") == 10


async def test_unsent_replies_of_a_deaf_peer_are_bounded() -> None:
    session = EchoSession()
    async with running(lambda peer: session) as server:
        deaf = await server.connect()
        await deaf.send(*[b"big 1000000"] * 200)
        await server.until(lambda: len(session.begun) == 200 and server.budget.used_size > 10**6)
        await anyio.lowlevel.checkpoint()
        assert server.budget.used_size < 4_000_000


async def test_memory_in_flight_is_bounded_under_many_half_sent_frames() -> None:
    budget = Budget(500_000)
    async with running(lambda peer: EchoSession(), budget=budget) as server:
        clients = [await server.connect() for _ in range(20)]
        body = b"z" * 300_000

        async def exchange(number: int) -> None:
            client = clients[number]
            await client.stream.send(prefixed(body)[:100_000])
            await client.stream.send(prefixed(body)[100_000:])
            assert await client.receive() == body

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(exchange, number)
        # The budget, one frame of overdraft, one read, and the replies that were made meanwhile.
        assert budget.used_size_peak < 500_000 + 3 * 300_000
        await server.until(lambda: budget.used_size == 0)


# ---- requests that no task waits for, among those that one does


class FileSession(QuickSession):
    """As its base, but `file` and `quick file` are answered with a file of three megabytes."""

    def __init__(self, file: int, size: int) -> None:
        super().__init__()
        self._file = file
        self._size = size
        self._lender = Lender()

    def _reply(self) -> Reply:
        part = self._lender.lend(self._file, 0, self._size)
        assert part is not None
        return ((self._size + 3).to_bytes(4, "big"), part, b"end")

    async def begin(self, frame: memoryview) -> Finish:
        finish = await super().begin(frame)

        async def finish_file() -> Reply:
            return self._reply()

        return finish_file if bytes(frame) == b"file" else finish

    def begin_now(self, frame: memoryview, *, is_alone: bool, is_next: bool) -> Pending | None:
        pending = super().begin_now(frame, is_alone=is_alone, is_next=is_next)
        if bytes(frame) == b"quick file":
            assert pending is not None
            pending.take = self._reply  # type: ignore[method-assign]
        return pending


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[tuple[int, bytes]]:
    """A file, and what is in it."""
    path = tmp_path / "data"
    path.write_bytes(random.Random(1).randbytes(3_000_000))
    with path.open("rb") as opened:
        yield opened.fileno(), path.read_bytes()


async def test_replies_from_files_keep_their_place_among_the_others(
    stored: tuple[int, bytes],
) -> None:
    file, data = stored
    async with running(lambda peer: FileSession(file, len(data))) as server:
        client = await server.connect()
        names = [b"a", b"file", b"quick b", b"quick file", b"file", b"quick file", b"c"] * 3
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.send, *names)
            for name in names:
                expected = data + b"end" if name.endswith(b"file") else name.removeprefix(b"quick ")
                assert await client.receive() == expected
        await server.until(lambda: server.budget.used_size == 0)


async def test_a_peer_that_leaves_in_the_middle_of_a_file_leaves_no_descriptor(
    stored: tuple[int, bytes],
) -> None:
    file, data = stored

    def descriptor_count() -> int:
        own = Path("/proc/self/fd")
        name = (own / str(file)).readlink()
        return sum(one.is_symlink() and one.readlink() == name for one in own.iterdir())

    async with running(lambda peer: FileSession(file, len(data))) as server:
        client = await server.connect()
        await client.send(b"quick file", b"file", b"file")
        await server.until(lambda: descriptor_count() > 1)
        await anyio.aclose_forcefully(client.stream)
        await server.until(lambda: server.stats.connections == 0)
        await server.until(lambda: descriptor_count() == 1)
