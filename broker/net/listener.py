"""Sockets that listen, and the connections that came in by them.

`NetServer.bind` first, so that a port taken is one clear line before anything else starts and port
0 is known before the banner is printed; `serve` in the node's task group; `drain` at the end.
"""

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import anyio
import structlog

from broker.net.budget import Budget
from broker.net.congestion import CongestionControl
from broker.net.connection import Connection
from broker.net.framing import SCRATCH_SIZE, FrameDecoder
from broker.net.limits import Limits, ListenerStats, NetStats
from broker.net.stream import SocketStream
from broker.ports import Clock, Session

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

BACKLOG = 4096
"""Connections the kernel completes before we accept them, as far as it allows (`somaxconn`). What
comes beyond waits for its client to ask again, after a second or three."""

ACCEPT_COUNT_MAX = 64
"""Connections accepted per wake-up, so that a storm does not starve those already here."""

ACCEPT_PAUSE_S = 0.5
"""How long to wait when the process or the system is out of descriptors or memory."""

SWEEP_S = 1.0
"""How often every connection is asked whether it is overdue. One timer, none per request."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class ListenError(Exception):
    """An address that cannot be bound. The text names the flag that sets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Where one protocol is spoken, and how its frames look."""

    name: str
    """In logs and metrics."""
    host: str
    port: int
    """0: any free one."""
    flag: str
    """The flag that sets the port, for the message when it is taken."""
    byteorder: Literal["big", "little"]
    frame_size_max: int
    """Bytes, prefix excluded; the session's `frame_refused` answers a larger one."""
    frame_size_min: int = 1
    make_session: Callable[[str], Session]
    """Called with the peer's address for each connection."""


class NetServer:
    """All listeners of a node and their connections."""

    def __init__(self, *, limits: Limits, budget: Budget, clock: Clock) -> None:
        self.stats = NetStats()
        self._limits = limits
        self._budget = budget
        self._clock = clock
        self._scratch = memoryview(bytearray(SCRATCH_SIZE))
        self._congestion = CongestionControl()
        self._bound: list[tuple[Listener, socket.socket]] = []
        self._connections: set[Connection] = set()
        self._all_closed = anyio.Event()
        self._accepting = anyio.CancelScope()
        self._refused_logged_at = -1.0
        self._is_draining = False

    async def bind(self, listener: Listener) -> tuple[str, int]:
        """Start to listen; connections wait in the kernel until `serve`. Returns the address, port
        resolved.

        A name with several addresses (`localhost`) is bound on each. Raises ListenError.
        """
        try:
            infos = await anyio.getaddrinfo(
                listener.host or None,
                listener.port,
                type=socket.SOCK_STREAM,
                flags=socket.AI_PASSIVE,
            )
        except OSError as error:
            raise ListenError(
                f"cannot resolve {listener.host!r} for listener {listener.name}: {error}"
            ) from error
        port = listener.port
        for family, address in dict.fromkeys((info[0], info[4][0]) for info in infos):
            sock = self._listen(listener, family, str(address), port)
            port = sock.getsockname()[1]
            self._bound.append((listener, sock))
        self.stats.listeners.setdefault(listener.name, ListenerStats())
        return listener.host, port

    def _listen(self, listener: Listener, family: int, address: str, port: int) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._congestion.prepare(sock)
            sock.bind((address, port))
            sock.listen(BACKLOG)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            raise ListenError(
                f"cannot listen on {address}:{port} for listener {listener.name}: "
                f"{error.strerror or error}; choose another with {listener.flag}"
            ) from error
        return sock

    async def serve(self) -> None:
        """Accept and serve until `drain` has ended every connection, or until cancelled."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._sweep)
                async with anyio.create_task_group() as connections:
                    with self._accepting:
                        async with anyio.create_task_group() as accepting:
                            for listener, sock in self._bound:
                                accepting.start_soon(self._accept, listener, sock, connections)
                    self._close_listening()
                tasks.cancel_scope.cancel()
        finally:
            self._close_listening()
            self._all_closed.set()

    async def drain(self, grace_s: float) -> None:
        """Accept no more, answer what was begun, close. After `grace_s` seconds the rest is cut
        off."""
        self._is_draining = True
        self._accepting.cancel()
        for connection in self._connections:
            connection.drain()
        with anyio.move_on_after(grace_s):
            await self._all_closed.wait()
            return
        for connection in self._connections:
            connection.cut("the time to drain is over")
        await self._all_closed.wait()

    def _close_listening(self) -> None:
        while self._bound:
            self._bound.pop()[1].close()

    async def _accept(
        self, listener: Listener, sock: socket.socket, connections: anyio.abc.TaskGroup
    ) -> None:
        while True:
            await anyio.wait_readable(sock)
            try:
                for _ in range(ACCEPT_COUNT_MAX):
                    peer_sock, address = sock.accept()
                    self._admit(listener, peer_sock, address, connections)
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                _log.error(
                    "cannot accept connections, out of resources: raise the limit of open files",
                    listener=listener.name,
                    reason=error.strerror,
                    connections=len(self._connections),
                    pause_s=ACCEPT_PAUSE_S,
                )
                await anyio.sleep(ACCEPT_PAUSE_S)

    def _admit(
        self,
        listener: Listener,
        sock: socket.socket,
        address: tuple[str, int],
        connections: anyio.abc.TaskGroup,
    ) -> None:
        stats = self.stats.listeners[listener.name]
        peer = f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
        if len(self._connections) >= self._limits.connections_max or self._is_draining:
            sock.close()
            stats.refused += 1
            self._log_refused(listener, peer)
            return
        try:
            self._congestion.settle(sock, address[0])
            connection = self._connect(listener, sock, peer)
        except Exception:  # noqa: BLE001  Whatever it is, the others must still be accepted.
            _log.exception("connection refused by a fault of ours", peer=peer)
            sock.close()
            return
        stats.accepted += 1
        stats.connections += 1
        self._connections.add(connection)
        connections.start_soon(self._run, connection, stats)

    def _connect(self, listener: Listener, sock: socket.socket, peer: str) -> Connection:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        decoder = FrameDecoder(
            listener.byteorder,
            size_min=listener.frame_size_min,
            size_max=listener.frame_size_max,
            scratch=self._scratch,
        )
        return Connection(
            SocketStream(sock),
            listener.make_session(peer),
            decoder,
            listener=listener.name,
            peer=peer,
            account=self._budget.account(),
            limits=self._limits,
            clock=self._clock,
            stats=self.stats.listeners[listener.name],
        )

    async def _run(self, connection: Connection, stats: ListenerStats) -> None:
        try:
            await connection.run()
        finally:
            stats.connections -= 1
            self._connections.discard(connection)

    def _log_refused(self, listener: Listener, peer: str) -> None:
        """One line a second at most: a storm of connections must not become a storm of lines."""
        now = self._clock.monotonic()
        if 0 <= self._refused_logged_at and now - self._refused_logged_at < 1.0:
            return
        self._refused_logged_at = now
        _log.warning(
            "connection refused",
            reason="draining" if self._is_draining else "too many connections",
            listener=listener.name,
            peer=peer,
            connections=len(self._connections),
            connections_max=self._limits.connections_max,
            refused_so_far=self.stats.listeners[listener.name].refused,
        )

    async def _sweep(self) -> None:
        while True:
            await anyio.sleep(SWEEP_S)
            self.sweep()

    def sweep(self) -> None:
        """Close every connection whose time is over. `serve` calls it each second."""
        is_pressed = self._budget.is_spent
        for connection in list(self._connections):
            if reason := connection.overdue(is_pressed=is_pressed):
                connection.abort(reason)
            elif connection.is_idle():
                connection.cut("idle")
