"""The native protocol over real sockets, on the in-memory broker of `fakes`."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.abc

from broker.native_api import BYTEORDER, FRAME_SIZE_MAX, FRAME_SIZE_MIN, NativeApi
from broker.net import Budget, Limits, Listener, NetServer
from tests.broker.native_api.fakes import STATUS, FakeClock, FakeController, FakeOffsets
from tests.broker.no_peers import NoPeers


def framed(*bodies: bytes) -> bytes:
    return b"".join(len(body).to_bytes(4, "little") + body for body in bodies)


class Node:
    """A running native listener and the broker behind it."""

    def __init__(self, *, section_size_max: int = 10**6, cache_size_max: int = 10**7) -> None:
        self.controller = FakeController()
        self.offsets = FakeOffsets()
        self.api = NativeApi(
            peers=NoPeers(),
            controller=self.controller,
            offsets=self.offsets,
            clock=FakeClock(),
            status=lambda: STATUS,
            metrics=lambda: {"current_leader": 1, "state": "Leader", "last_log_index": 7},
            put_timeout_s=30.0,
            section_size_max=section_size_max,
            cache_size_max=cache_size_max,
        )
        self.port = 0
        self.clock = FakeClock()
        self.budget = Budget(10**6)
        self.server = NetServer(limits=Limits(), budget=self.budget, clock=self.clock)
        self._clients: list[Client] = []

    async def connect(self) -> "Client":
        client = Client(await anyio.connect_tcp("127.0.0.1", self.port))
        self._clients.append(client)
        return client

    async def ask(self, *commands: bytes) -> list[bytes]:
        """One connection, all commands at once, all answers."""
        client = await self.connect()
        await client.send(*commands)
        return [await client.receive() for _ in commands]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for `condition`, and then until everybody else waits too."""
        with anyio.fail_after(20):
            while not condition():
                await anyio.sleep(0.001)
        await anyio.wait_all_tasks_blocked()

    async def hang_up(self) -> None:
        """Close every connection that has nothing to do, and wait until that is so."""
        self.clock.monotonic_s += Limits().idle_s + 1
        stats = self.server.stats.listeners["native"]
        with anyio.fail_after(20):
            while stats.connections:
                self.server.sweep()
                await anyio.sleep(0.001)

    def counts(self) -> dict[tuple[str, ...], object]:
        """Answered requests by verb and outcome."""
        return {
            sample.labels: sample.value
            for sample in self.api.collect()
            if sample.family.name == "walrus_native_requests_total"
        }

    def answered(self, verb: str) -> int:
        return sum(1 for labels in self.counts() if labels[0] == verb)

    async def close_clients(self) -> None:
        for client in self._clients:
            await anyio.aclose_forcefully(client.stream)


class Client:
    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self.stream = stream
        self._received = bytearray()

    async def send(self, *bodies: bytes) -> None:
        await self.stream.send(framed(*bodies))

    async def receive(self) -> bytes:
        with anyio.fail_after(20):
            while len(self._received) < 4 or len(self._received) < 4 + self._size():
                self._received += await self.stream.receive()
        size = self._size()
        body = bytes(self._received[4 : 4 + size])
        del self._received[: 4 + size]
        return body

    def _size(self) -> int:
        return int.from_bytes(self._received[:4], "little")


@asynccontextmanager
async def running(**options: int) -> AsyncIterator[Node]:
    node = Node(**options)
    server = node.server
    _, node.port = await server.bind(
        Listener(
            name="native",
            host="127.0.0.1",
            port=0,
            flag="--client-port",
            byteorder=BYTEORDER,
            frame_size_min=FRAME_SIZE_MIN,
            frame_size_max=FRAME_SIZE_MAX,
            make_session=node.api.session,
        )
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(node.api.run)
        tasks.start_soon(server.serve)
        try:
            yield node
        finally:
            await node.close_clients()
        with anyio.fail_after(20):
            await server.drain(0.0)
        tasks.cancel_scope.cancel()
