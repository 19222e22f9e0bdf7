"""Listeners: taken ports, full houses, exhausted descriptors, and the end."""

import dataclasses
import errno
import socket

import anyio
import pytest
from structlog.typing import EventDict

from broker.net import Budget, Limits, ListenError, NetServer
from tests.broker.net.harness import Client, EchoSession, ManualClock, listener, running


def new_server() -> NetServer:
    return NetServer(limits=Limits(), budget=Budget(), clock=ManualClock())


async def test_a_port_that_is_taken_is_an_error_that_names_the_flag() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{port}.*in use.*--echo-port"):
            await new_server().bind(listener(lambda peer: EchoSession(), port=port))


async def test_a_connection_too_many_is_closed_and_the_others_live(
    logs: list[EventDict],
) -> None:
    async with running(lambda peer: EchoSession(), limits=Limits(connections_max=2)) as server:
        first, second = await server.connect(), await server.connect()
        await server.until(lambda: server.stats.connections == 2)
        for _ in range(5):
            await (await server.connect()).at_end()
        assert server.stats.refused == 5
        assert [entry["reason"] for entry in logs] == ["too many connections"]
        await first.send(b"hello")
        assert await first.receive() == b"hello"
        await second.stream.aclose()
        await server.until(lambda: server.stats.connections == 1)
        third = await server.connect()
        await third.send(b"room again")
        assert await third.receive() == b"room again"


async def test_running_out_of_descriptors_pauses_accepting_and_says_so(
    monkeypatch: pytest.MonkeyPatch, logs: list[EventDict]
) -> None:
    monkeypatch.setattr("broker.net.listener.ACCEPT_PAUSE_S", 0.001)
    accept = socket.socket.accept
    failures = [errno.EMFILE, errno.ENFILE, errno.ENOMEM]

    def failing(self: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise OSError(failures.pop(), "none left")
        return accept(self)

    async with running(lambda peer: EchoSession()) as server:
        monkeypatch.setattr(socket.socket, "accept", failing)
        client = await server.connect()
        await client.send(b"hello")
        assert await client.receive() == b"hello"
    complaints = [entry for entry in logs if "raise the limit of open files" in entry["event"]]
    assert len(complaints) == 3


async def test_a_session_that_cannot_be_made_costs_one_connection() -> None:
    sessions = iter([None, EchoSession()])

    def make(peer: str) -> EchoSession:
        session = next(sessions)
        if session is None:
            raise ZeroDivisionError
        return session

    async with running(make) as server:
        await (await server.connect()).at_end()
        client = await server.connect()
        await client.send(b"hello")
        assert await client.receive() == b"hello"


async def test_drain_answers_what_was_begun_and_takes_nothing_new() -> None:
    gate = anyio.Event()
    session = EchoSession(gate)
    async with running(lambda peer: session) as server:
        busy, idle = await server.connect(), await server.connect()
        await busy.send(b"wait")
        await server.until(lambda: len(session.begun) == 1 and server.stats.connections == 2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.server.drain, 20.0)
            assert await idle.at_end()
            await busy.send(b"too late")
            with pytest.raises(OSError):
                await server.connect()
            gate.set()
            assert await busy.receive() == b"wait"
            assert await busy.at_end()
            await busy.stream.aclose()
        assert session.begun == [b"wait"]
        assert server.stats.connections == 0


async def test_drain_cuts_off_what_does_not_end_in_time() -> None:
    session = EchoSession()
    async with running(lambda peer: session) as server:
        stuck = await server.connect()
        await stuck.send(b"wait")
        await server.until(lambda: len(session.begun) == 1)
        await server.server.drain(0.01)
        await stuck.at_end()
        assert server.stats.connections == 0


async def test_a_thousand_connections_come_and_go() -> None:
    async with running(lambda peer: EchoSession()) as server:

        async def visit(number: int) -> None:
            client = await server.connect()
            await client.send(b"%d" % number)
            assert await client.receive() == b"%d" % number
            await client.stream.aclose()

        for wave in range(10):
            async with anyio.create_task_group() as tasks:
                for number in range(100):
                    tasks.start_soon(visit, wave * 100 + number)
        await server.until(lambda: server.stats.connections == 0)
        assert server.stats.accepted == 1_000
        assert server.budget.used_size == 0


async def test_a_name_with_several_addresses_is_bound_on_each_with_one_port() -> None:
    server = new_server()
    several = dataclasses.replace(listener(lambda peer: EchoSession()), host="localhost")
    _, port = await server.bind(several)
    addresses = {
        info[4][0] for info in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)
    }
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        for address in addresses:
            client = Client(await anyio.connect_tcp(str(address), port))
            await client.send(b"hello")
            assert await client.receive() == b"hello"
            await client.stream.aclose()
        await server.drain(1.0)
