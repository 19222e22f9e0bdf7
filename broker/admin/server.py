"""uvicorn inside the node's own task group.

uvicorn would like to own the process: it takes over the signals, binds, and exits by `sys.exit`
when it cannot. Here the node does all three, so that a taken port is one clear line and SIGTERM
drains clients before the admin port goes.
"""

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import uvicorn
from starlette.types import ASGIApp

SHUTDOWN_S_MAX = 2
"""How long replies under way may take when the node stops."""

HEADER_SIZE_MAX = 64 * 1024
BACKLOG_COUNT = 128


class AdminPortError(Exception):
    """The admin address cannot be bound; the text says which and why."""


class _Server(uvicorn.Server):
    """A uvicorn that leaves the signals to the node."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_admin(
    app: ASGIApp, host: str, port: int, *, started: Callable[[int], None]
) -> None:
    """Serve `app` until cancelled; `started` is told the port that was bound (0: any free one).

    Cancelling lets replies under way finish, for SHUTDOWN_S_MAX seconds at most. Raises
    AdminPortError.
    """
    from broker.admin.connection import Connection  # ten modules that a taken port needs not

    listening = bind(host, port)
    server = _Server(
        uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG_COUNT,
            timeout_graceful_shutdown=SHUTDOWN_S_MAX,
            h11_max_incomplete_event_size=HEADER_SIZE_MAX,
        )
    )
    with listening:
        started(int(listening.getsockname()[1]))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_when_cancelled, server)
            # uvicorn does not survive a cancellation in the middle; it is asked to stop instead.
            with anyio.CancelScope(shield=True):
                await server.serve(sockets=[listening])
            tasks.cancel_scope.cancel()


async def _stop_when_cancelled(server: uvicorn.Server) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        server.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises AdminPortError, which names the setting to change."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise AdminPortError(f"admin_host {host!r} cannot be resolved: {error.strerror}") from error
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG_COUNT)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        advice = ""
        if error.errno == errno.EADDRINUSE:
            advice = " Choose another with --admin-port, or 0 for any free one."
        text = f"the admin address {host}:{port} cannot be bound: {error.strerror}.{advice}"
        raise AdminPortError(text) from error
    return listening
