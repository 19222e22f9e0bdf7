"""An admin server that takes the process over, or does not go when told."""

import signal
import socket
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus
from starlette.applications import Starlette

from broker.admin.app import make_app
from broker.admin.server import AdminPortError, serve_admin
from broker.telemetry.metrics import Registry
from tests.broker.admin.fakes import no_surplus, nobody, nothing, overview, status, unknown
from tests.broker.admin.http import get_from

pytestmark = pytest.mark.anyio


def made() -> Starlette:
    return make_app(
        status=status,
        topics=list,
        cluster=partial(overview, ""),
        registry=Registry(),
        leave=nobody,
        forget=unknown,
        unclean_seal=nothing,
        drop_surplus=no_surplus,
    )


async def serve(*, task_status: TaskStatus[int]) -> None:
    app = made()
    await serve_admin(app, "127.0.0.1", 0, started=task_status.started)


async def test_it_serves_on_the_port_it_says_and_stops_when_cancelled() -> None:
    async with anyio.create_task_group() as tasks:
        port: int = await tasks.start(serve)
        assert (await get_from(port, "/healthz")).startswith(b"HTTP/1.1 200")
        tasks.cancel_scope.cancel()
    with pytest.raises(OSError, match="refused|failed"):
        await anyio.connect_tcp("127.0.0.1", port)


async def test_the_signals_stay_with_the_node() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with anyio.create_task_group() as tasks:
        port: int = await tasks.start(serve)
        await get_from(port, "/healthz")
        assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
        tasks.cancel_scope.cancel()


async def test_a_client_that_never_speaks_does_not_delay_the_stop() -> None:
    async with anyio.create_task_group() as tasks:
        port: int = await tasks.start(serve)
        async with await anyio.connect_tcp("127.0.0.1", port) as silent:
            await get_from(port, "/healthz")
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True), anyio.fail_after(10):
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await silent.receive()


async def test_those_who_say_nothing_do_not_keep_all_the_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A probe that finds none has a healthy node killed; and each place is a descriptor."""
    monkeypatch.setattr("broker.admin.connection.CONNECTIONS_MAX", 2)
    monkeypatch.setattr("broker.admin.connection.SILENCE_S", 0.2)
    ended = (anyio.EndOfStream, anyio.BrokenResourceError)
    async with anyio.create_task_group() as tasks:
        port: int = await tasks.start(serve)
        silent = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(3)]
        with anyio.fail_after(10):
            for stream in reversed(silent):
                with pytest.raises(ended):
                    await stream.receive()
                await stream.aclose()
        assert (await get_from(port, "/healthz")).startswith(b"HTTP/1.1 200")
        tasks.cancel_scope.cancel()


async def test_garbage_is_answered_and_the_next_client_served() -> None:
    async with anyio.create_task_group() as tasks:
        port: int = await tasks.start(serve)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"\x00\x00\x00\x10\xff\xff\x00\x01" * 100)
            assert (await stream.receive()).startswith(b"HTTP/1.1 400")
        assert (await get_from(port, "/readyz")).startswith(b"HTTP/1.1 200")
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["127.0.0.1"])
async def test_a_taken_port_names_the_flag(host: str) -> None:
    with socket.socket() as taken:
        taken.bind((host, 0))
        taken.listen()
        port: Any = taken.getsockname()[1]
        with pytest.raises(AdminPortError, match=rf"{port}.*--admin-port"):
            await serve_admin(
                made(),
                host,
                port,
                started=lambda _: None,
            )


async def test_a_host_that_is_none_is_named() -> None:
    app = made()
    with pytest.raises(AdminPortError, match="admin"):
        await serve_admin(app, "203.0.113.1", 0, started=lambda _: None)
