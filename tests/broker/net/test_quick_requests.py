"""Requests for which no task waits, on one connection: their order, limits and last words."""

import socket
import struct
from collections.abc import Sequence

import anyio
import pytest
from structlog.typing import EventDict

from broker.net import Budget, Limits
from broker.net.stream import SocketStream
from broker.ports import Buffer
from tests.broker.net.harness import QuickSession, Running, running


async def test_quick_and_other_requests_are_answered_in_the_order_they_came() -> None:
    async with running(lambda peer: QuickSession()) as server:
        client = await server.connect()
        bodies = [b"%d" % i for i in range(2_000)]
        quick = [i % 7 < 3 or 500 < i < 900 for i in range(len(bodies))]
        frames = [
            b"quick " + body if is_quick else body
            for body, is_quick in zip(bodies, quick, strict=True)
        ]
        await client.send(*frames)
        assert [await client.receive() for _ in bodies] == bodies
        assert server.stats.requests == len(bodies)
        await server.until(lambda: server.budget.used_size == 0)


async def test_a_quick_reply_that_is_ready_waits_for_the_one_before_it() -> None:
    session = QuickSession()
    async with running(lambda peer: session) as server:
        client = await server.connect()
        await client.send(b"quick wait 1", b"quick wait 2", b"wait 3", b"quick wait 4", b"quick 5")
        await server.until(lambda: len(session.begun) == 5)
        session.promises[2].settle()
        session.promises[1].settle()
        session.gate.set()
        await anyio.wait_all_tasks_blocked()
        assert server.stats.sent_size == 0
        session.promises[0].settle()
        assert [await client.receive() for _ in range(5)] == [
            b"wait 1",
            b"wait 2",
            b"wait 3",
            b"wait 4",
            b"5",
        ]


async def test_a_request_that_the_quick_way_refuses_is_not_offered_to_it_twice() -> None:
    """It may have cost a checksum of megabytes to see that it is refused."""
    session = QuickSession()
    async with running(lambda peer: session) as server:
        client = await server.connect()
        await client.send(b"quick 1", b"slow 2", b"quick 3", b"slow 4")
        assert [await client.receive() for _ in range(4)] == [b"1", b"slow 2", b"3", b"slow 4"]
        offered = [frame for frame, _ in session.offered]
        assert offered.count(b"slow 2") == 1


async def test_only_who_sends_one_by_one_and_has_no_company_is_alone() -> None:
    """Others would each pay for a write of their own."""
    session = QuickSession()
    async with running(lambda peer: session) as server:
        first, second = await server.connect(), await server.connect()
        turns = [first, first, second, first, second, second]
        for number, client in enumerate(turns):
            await client.send(b"quick %d" % number)
            assert await client.receive() == b"%d" % number
        assert [is_alone for _, is_alone in session.offered] == [
            False,
            True,
            False,
            False,
            False,
            True,
        ]
        session.offered.clear()
        await second.send(b"quick 7", b"quick 8")
        assert [await second.receive() for _ in range(2)] == [b"7", b"8"]
        assert not any(is_alone for _, is_alone in session.offered)


async def test_a_reply_is_not_made_early_while_others_are_owed_or_unsent() -> None:
    """It would wait behind them, in memory that nobody counts."""
    session = QuickSession()
    async with running(lambda peer: session) as server:
        client = await server.connect()
        await client.send(b"quick 1")
        assert await client.receive() == b"1"
        await client.send(b"quick wait")
        await server.until(lambda: len(session.promises) == 2)
        await client.send(b"quick 2")
        await server.until(lambda: len(session.promises) == 3)
        session.promises[1].settle()
        assert [await client.receive() for _ in range(2)] == [b"wait", b"2"]
        await client.send(b"quick 3")
        assert await client.receive() == b"3"
    assert session.nexts == [True, True, False, True]


async def test_what_one_event_settles_leaves_in_one_system_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    send_now = SocketStream.send_now

    def counting(self: SocketStream, buffers: Sequence[Buffer]) -> int:
        sizes.append(send_now(self, buffers))
        return sizes[-1]

    monkeypatch.setattr(SocketStream, "send_now", counting)
    session = QuickSession()
    async with running(lambda peer: session) as server:
        client = await server.connect()
        await client.send(*[b"quick wait"] * 100)
        await server.until(lambda: len(session.promises) == 100)
        for promise in session.promises[:60]:
            promise.settle()
        assert [await client.receive() for _ in range(60)] == [b"wait"] * 60
        for promise in session.promises[60:]:
            promise.settle()
        assert [await client.receive() for _ in range(40)] == [b"wait"] * 40
        assert len(sizes) == 2


async def test_too_many_unanswered_quick_requests_stop_the_reading() -> None:
    session = QuickSession()
    limits = Limits(requests_in_flight_max=10)
    async with running(lambda peer: session, limits=limits) as server:
        client = await server.connect()
        await client.send(*[b"quick wait"] * 25)
        await server.until(lambda: len(session.begun) == 10)
        await anyio.wait_all_tasks_blocked()
        assert len(session.begun) == 10
        for count in range(1, 26):
            await server.until(lambda count=count: len(session.promises) >= count)  # type: ignore[misc]
            session.promises[count - 1].settle()
        assert [await client.receive() for _ in range(25)] == [b"wait"] * 25


async def slow_reader(server: Running) -> socket.socket:
    """A peer with little room, which reads nothing."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.setblocking(False)
    try:
        peer.connect(("127.0.0.1", server.port))
    except BlockingIOError:
        await anyio.wait_writable(peer)
    return peer


async def test_a_peer_that_reads_no_quick_replies_makes_no_more_of_them() -> None:
    session = QuickSession()
    limits = Limits(reply_queue_size_max=100_000)
    body = b"x" * 50_000
    async with running(lambda peer: session, limits=limits) as server:
        with await slow_reader(server) as peer:
            frame = struct.pack(">I", 6 + len(body)) + b"quick " + body
            sent = 0
            with anyio.move_on_after(0.5):
                while sent < 400 * len(frame):
                    await anyio.wait_writable(peer)
                    sent += peer.send((frame * 2)[sent % len(frame) :])
            unsent = server.budget.reply_size
            assert unsent <= limits.reply_queue_size_max + len(frame)
            taken = 0
            with anyio.fail_after(20):
                while taken < len(session.begun) * (4 + len(body)):
                    await anyio.wait_readable(peer)
                    taken += len(peer.recv(1 << 20))
            assert taken >= sent // len(frame) * (4 + len(body))
        await server.until(lambda: server.stats.connections == 0)
        assert server.budget.used_size == 0


@pytest.mark.parametrize("word", [b"quick peer", b"quick late peer"])
async def test_a_peer_that_breaks_the_protocol_gets_what_was_said_before_it(
    word: bytes, logs: list[EventDict]
) -> None:
    async with running(lambda peer: QuickSession()) as server:
        client = await server.connect()
        await client.send(b"quick fine", word, b"quick unseen")
        assert await client.receive() == b"fine"
        assert await client.at_end()
        assert logs.pop()["reason"] == "this peer is impossible"
        assert server.stats.peer_errors == 1


async def test_what_turns_out_to_need_a_task_is_answered_by_one_in_its_turn() -> None:
    session = QuickSession()
    async with running(lambda peer: session) as server:
        client = await server.connect()
        await client.send(b"quick wait for a task", b"quick behind it", b"quick task", b"quick end")
        await server.until(lambda: len(session.promises) == 4)
        session.promises[0].settle()
        replies = [await client.receive() for _ in range(4)]
        assert replies == [b"wait for a task", b"behind it", b"task", b"end"]


async def test_what_waits_is_told_that_its_peer_is_gone() -> None:
    """What it holds on to would else stay until its time is over."""
    session = QuickSession()
    async with running(lambda peer: session) as server:
        client = await server.connect()
        await client.send(b"quick wait for ever")
        await server.until(lambda: len(session.promises) == 1)
        client.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.stream.aclose()
        await server.until(lambda: session.promises[0].is_dropped)


@pytest.mark.parametrize("word", [b"quick crash", b"quick late crash"])
async def test_a_fault_of_ours_ends_that_connection_and_no_other(
    word: bytes, logs: list[EventDict]
) -> None:
    async with running(lambda peer: QuickSession()) as server:
        bystander = await server.connect()
        client = await server.connect()
        await client.send(word)
        await client.at_end()
        assert logs.pop()["event"] == "connection closed by a fault of ours"
        await bystander.send(b"quick still here")
        assert await bystander.receive() == b"still here"
        assert server.stats.faults == 1


async def test_a_peer_that_is_gone_before_its_reply_is_ready_harms_nobody() -> None:
    session = QuickSession()
    async with running(lambda peer: session) as server:
        client = await server.connect()
        await client.send(b"quick wait", b"quick wait")
        await server.until(lambda: len(session.promises) == 2)
        client.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.stream.aclose()
        session.promises[0].settle()
        await server.until(lambda: server.stats.connections == 0)
        session.promises[1].settle()
        assert server.budget.used_size == 0


async def test_a_drain_answers_the_quick_requests_that_were_begun() -> None:
    session = QuickSession()
    async with running(lambda peer: session) as server:
        client = await server.connect()
        await client.send(b"quick wait")
        await server.until(lambda: len(session.promises) == 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.server.drain, 20)
            await anyio.wait_all_tasks_blocked()
            session.promises[0].settle()
            assert await client.receive() == b"wait"
            assert await client.at_end()


async def test_a_connection_of_quick_requests_is_idle_only_when_nothing_is_owed() -> None:
    session = QuickSession()
    async with running(lambda peer: session) as server:
        idle, waiting = await server.connect(), await server.connect()
        await idle.send(b"quick hello")
        assert await idle.receive() == b"hello"
        await waiting.send(b"quick wait")
        await server.until(lambda: len(session.promises) == 2)
        server.clock.now_s += 601
        server.server.sweep()
        assert await idle.at_end()
        session.promises[1].settle()
        assert await waiting.receive() == b"wait"


async def test_a_frame_that_stalls_behind_a_quick_request_is_closed_after_its_time() -> None:
    async with running(lambda peer: QuickSession()) as server:
        client = await server.connect()
        await client.send(b"quick hello")
        assert await client.receive() == b"hello"
        server.clock.now_s += 100
        await client.stream.send(b"\0\0\1\0half a fra")
        await server.until(lambda: server.stats.received_size == 15 + 14)
        server.clock.now_s += 29
        server.server.sweep()
        assert server.stats.peer_errors == 0
        server.clock.now_s += 2
        server.server.sweep()
        await client.at_end()
        assert server.stats.peer_errors == 1


async def test_spent_memory_holds_back_quick_requests_too() -> None:
    budget = Budget(100_000)
    session = QuickSession()
    async with running(lambda peer: session, budget=budget) as server:
        clients = [await server.connect() for _ in range(6)]
        async with anyio.create_task_group() as tasks:
            for client in clients:
                tasks.start_soon(client.send, b"quick wait " + b"x" * 30_000)
            await server.until(lambda: budget.wait_count > 0)
            assert len(session.promises) < 6
            for count in range(1, 7):
                await server.until(lambda count=count: len(session.promises) >= count)  # type: ignore[misc]
                session.promises[count - 1].settle()
        for client in clients:
            assert (await client.receive()).startswith(b"wait x")
        await server.until(lambda: budget.used_size == 0)
        assert budget.used_size_peak < 200_000
