"""Stand-ins for the network layer's neighbours: a clock that tests move, and a session that
echoes."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel

from broker.errors import FrameError
from broker.net import Budget, Limits, Listener, NetServer
from broker.ports import Finish, Pending, Reply, Session, Unfinished


class ManualClock:
    """`ports.Clock` under the test's thumb."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def now_ms(self) -> int:
        return int(self.now_s * 1000)

    def monotonic(self) -> float:
        return self.now_s


def prefixed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


class EchoSession:
    """Answers each frame with itself, and a few frames in their own way.

    `wait` waits for `gate`; `none` has no reply; `big N` answers N bytes; `peer` and `late peer`
    break the protocol in stage 1 and 2; `crash` and `late crash` are faults of ours.
    """

    client_id = "echo-client"

    def __init__(self, gate: anyio.Event | None = None) -> None:
        self.gate = gate or anyio.Event()
        self.begun: list[bytes] = []

    def begin_now(self, frame: memoryview, *, is_alone: bool, is_next: bool) -> Pending | None:
        return None

    async def begin(self, frame: memoryview) -> Finish:
        body = bytes(frame)
        self.begun.append(body)
        if body == b"peer":
            raise FrameError("this peer is impossible")
        if body == b"crash":
            raise ZeroDivisionError("our fault")

        async def finish() -> Reply:
            if body == b"late peer":
                raise FrameError("this peer is impossible")
            if body == b"late crash":
                raise ZeroDivisionError("our fault")
            if body.startswith(b"wait"):
                await self.gate.wait()
            if body == b"none":
                return ()
            if body.startswith(b"big "):
                size = int(body[4:])
                return (size.to_bytes(4, "big"), b"x" * (size // 2), b"", b"x" * (size - size // 2))
            return (len(body).to_bytes(4, "big"), body)

        return finish

    def frame_refused(self, size: int) -> Reply:
        return (prefixed(b"refused %d" % size),)


class Promise(Pending):
    """A reply that the test settles, unless it is ready from the start."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body
        self.is_ready = not body.startswith(b"wait")
        self.is_dropped = False

    def drop(self) -> None:
        self.is_dropped = True

    def take(self) -> Reply:
        if self.body.endswith(b"task"):
            raise Unfinished(self._finish)
        if self.body.endswith(b"late peer"):
            raise FrameError("this peer is impossible")
        if self.body.endswith(b"late crash"):
            raise ZeroDivisionError("our fault")
        return () if self.body == b"none" else (prefixed(self.body),)

    async def _finish(self) -> Reply:
        await anyio.lowlevel.checkpoint()
        return (prefixed(self.body),)


class QuickSession(EchoSession):
    """As EchoSession, but frames that begin with `quick ` need no task. What follows that word is
    answered at once, or once its promise is settled if it begins with `wait`."""

    def __init__(self, gate: anyio.Event | None = None) -> None:
        super().__init__(gate)
        self.promises: list[Promise] = []
        self.offered: list[tuple[bytes, bool]] = []
        """To `begin_now`: frames, and whether they were alone."""
        self.nexts: list[bool] = []
        """Whether nothing was owed before them."""

    def begin_now(self, frame: memoryview, *, is_alone: bool, is_next: bool) -> Pending | None:
        self.offered.append((bytes(frame), is_alone))
        self.nexts.append(is_next)
        head, _, body = bytes(frame).partition(b" ")
        if head != b"quick":
            return None
        if body == b"peer":
            raise FrameError("this peer is impossible")
        if body == b"crash":
            raise ZeroDivisionError("our fault")
        self.begun.append(body)
        self.promises.append(Promise(body))
        return self.promises[-1]


def listener(make_session: Callable[[str], Session], *, port: int = 0) -> Listener:
    return Listener(
        name="echo",
        host="127.0.0.1",
        port=port,
        flag="--echo-port",
        byteorder="big",
        frame_size_max=8 * 1024 * 1024,
        make_session=make_session,
    )


class Running:
    """A server that serves, and what a test needs to look into it."""

    def __init__(self, server: NetServer, port: int, clock: ManualClock, budget: Budget) -> None:
        self.server = server
        self.port = port
        self.clock = clock
        self.budget = budget
        self.stats = server.stats.listeners["echo"]
        self._clients: list[Client] = []

    async def connect(self) -> "Client":
        client = Client(await anyio.connect_tcp("127.0.0.1", self.port))
        self._clients.append(client)
        return client

    async def close_clients(self) -> None:
        for client in self._clients:
            await anyio.aclose_forcefully(client.stream)

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
            while not condition():
                await anyio.sleep(0.001)


class Client:
    """The peer: whole frames over a real socket."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self.stream = stream
        self._received = bytearray()

    async def send(self, *bodies: bytes) -> None:
        await self.stream.send(b"".join(map(prefixed, bodies)))

    async def receive(self) -> bytes:
        with anyio.fail_after(20):
            while len(self._received) < 4 or len(self._received) < 4 + self._size():
                self._received += await self.stream.receive(1 << 20)
        size = self._size()
        body = bytes(self._received[4 : 4 + size])
        del self._received[: 4 + size]
        return body

    def _size(self) -> int:
        return int.from_bytes(self._received[:4], "big")

    async def at_end(self) -> bool:
        """Wait for the server's end of stream. False: it was a reset."""
        try:
            with anyio.fail_after(20):
                while True:
                    await self.stream.receive()
        except anyio.EndOfStream:
            return True
        except anyio.BrokenResourceError:
            return False

    @property
    def raw(self) -> socket.socket:
        return self.stream.extra_attributes[anyio.abc.SocketAttribute.raw_socket]()


@asynccontextmanager
async def running(
    make_session: Callable[[str], Session],
    *,
    limits: Limits | None = None,
    budget: Budget | None = None,
) -> AsyncIterator[Running]:
    clock = ManualClock()
    budget = budget or Budget()
    server = NetServer(limits=limits or Limits(), budget=budget, clock=clock)
    _, port = await server.bind(listener(make_session))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        server_running = Running(server, port, clock, budget)
        try:
            yield server_running
        finally:
            await server_running.close_clients()
        with anyio.fail_after(20):
            await server.drain(0.0)
