"""The connections between nodes on which data travels: `broker.replication.peers` in virtual time.

What is sent on one connection arrives in order. It is lost only together with the connection: a cut
or a loss makes everything behind it vanish, and some time later both ends are told. Connections
know nothing of each other, so an old one may still deliver after a new one was opened.
"""

import random
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol

import anyio

from broker.ports import Buffer
from broker.replication import messages
from broker.replication.peers import Conversation, NeverConnected, PeerGone, PeerUnreachable
from tests.sim.loop import SimLoop

Work = Callable[..., Coroutine[Any, Any, object]]


class Listener(Protocol):
    """What the network needs of a process."""

    node: int

    def start(self, work: Work, *args: object) -> None:
        """Run it as part of this process."""

    async def answer(self, call: messages.Call, batches: memoryview) -> Sequence[Buffer]: ...

    async def feed(self, node: int, conversation: Conversation) -> None: ...


class DataNetwork:
    """All connections there are."""

    def __init__(self, loop: SimLoop, seed: int) -> None:
        self.loop = loop
        self.rng = random.Random(f"{seed} data network")
        self.processes: dict[int, Listener] = {}
        self._dark: set[int] = set()
        """Nodes whose machine lost its power with its last process: nobody refuses for it."""
        self.cut: set[tuple[int, int]] = set()
        """(from, to) in which nothing arrives."""
        self.delay_s = (0.0001, 0.002)
        self.loss_rate = 0.0
        """Of frames, each with its connection."""
        self.buffer_size = 1 << 20
        self._connections: dict[Connection, None] = {}

    def draw_delay(self) -> float:
        return self.rng.uniform(*self.delay_s)

    async def dial(self, source: Listener, node: int) -> "Connection":
        """A connection to whatever process runs on `node`. Raises NeverConnected (PeerGone)."""
        if node == source.node:
            raise NeverConnected("a node has no connection with itself")
        await anyio.sleep(self.draw_delay() + self.draw_delay())
        target = self.processes.get(node)
        is_dark = target is None and node in self._dark
        if is_dark or {(source.node, node), (node, source.node)} & self.cut:
            await anyio.sleep(self.rng.uniform(0.1, 3.0))
            raise NeverConnected(f"no way to node {node}")
        if self.processes.get(source.node) is not source:
            raise NeverConnected("this process is not there any more")
        if target is None:
            raise PeerGone(f"node {node} is not there")
        connection = Connection(self, source, target)
        self._connections[connection] = None
        return connection

    def left(self, process: Listener, *, power: bool) -> None:
        """The process is gone. Its peers hear of it soon, or late if nobody was left to tell."""
        self._dark.discard(process.node)
        if power:
            self._dark.add(process.node)
        for connection in list(self._connections):
            if process in connection.ends:
                connection.ends[process].is_gone = True
                self.loop.after(self.rng.uniform(0.0, 3.0 if power else 0.01), connection.reset)

    def connections(self) -> "list[Connection]":
        return list(self._connections)

    def forget(self, connection: "Connection") -> None:
        self._connections.pop(connection, None)


class End:
    """One end of a connection: what has arrived, and who waits for it."""

    def __init__(self) -> None:
        self.is_gone = False
        self.is_lost = False
        """Nothing that is sent from here arrives any more."""
        self.under_way = 0
        """Bytes sent from here and not arrived."""
        self.last_arrival = 0.0
        self.received: deque[bytes] = deque()
        self.event = anyio.Event()

    def wake(self) -> None:
        event, self.event = self.event, anyio.Event()
        event.set()


class Connection:
    """Between two processes, FIFO in each direction."""

    def __init__(self, network: DataNetwork, one: Listener, other: Listener) -> None:
        self._network = network
        self.ends = {one: End(), other: End()}
        self._other = {one: other, other: one}
        self.is_open = True

    async def send(self, source: Listener, data: bytes) -> None:
        """Waits while too much is under way. Raises PeerUnreachable."""
        end = self.ends[source]
        while self.is_open and end.under_way > self._network.buffer_size:
            await end.event.wait()
        if not self.is_open or end.is_gone:
            raise PeerUnreachable("the connection is closed")
        self._post(source, data)
        await anyio.lowlevel.checkpoint()

    def _post(self, source: Listener, data: bytes) -> None:
        end, network = self.ends[source], self._network
        end.under_way += len(data)
        if self._is_cut(source) or network.rng.random() < network.loss_rate:
            self._lose(end)
        if end.is_lost:
            return
        now = network.loop.time()
        arrival = max(now + network.draw_delay(), end.last_arrival + 1e-9)
        end.last_arrival = arrival
        network.loop.after(arrival - now, partial(self._arrive, source, data))

    def _is_cut(self, source: Listener) -> bool:
        return (source.node, self._other[source].node) in self._network.cut

    def is_cut(self) -> bool:
        """In either direction."""
        return any(self._is_cut(source) for source in self.ends)

    def _lose(self, end: End) -> None:
        if not end.is_lost:
            end.is_lost = True
            self._network.loop.after(self._network.rng.uniform(0.05, 2.0), self.reset)

    def _arrive(self, source: Listener, data: bytes) -> None:
        sender, receiver = self.ends[source], self.ends[self._other[source]]
        if self._is_cut(source):
            self._lose(sender)
        if sender.is_lost or not self.is_open or receiver.is_gone:
            return
        sender.under_way -= len(data)
        sender.wake()
        receiver.received.append(data)
        receiver.wake()

    async def receive(self, listener: Listener) -> bytes:
        """Raises PeerUnreachable at the end."""
        end = self.ends[listener]
        while not end.received:
            if not self.is_open or end.is_gone:
                raise PeerUnreachable("the connection is closed")
            await end.event.wait()
        return end.received.popleft()

    def close(self, by: Listener) -> None:
        """One side has had enough: the other hears of it after what was sent before."""
        end = self.ends[by]
        if self.is_open and not end.is_gone:
            end.is_gone = True
            end.wake()
            now = self._network.loop.time()
            arrival = max(now + self._network.draw_delay(), end.last_arrival + 1e-9)
            self._network.loop.after(arrival - now, self.reset)

    def reset(self) -> None:
        if self.is_open:
            self.is_open = False
            self._network.forget(self)
            for end in self.ends.values():
                end.wake()


class SimConversation:
    """A follow stream over a connection of its own."""

    def __init__(self, connection: Connection, process: Listener) -> None:
        self._connection = connection
        self._process = process

    async def send(self, frame: Sequence[Buffer]) -> None:
        await self._connection.send(self._process, b"".join(frame))

    async def receive(self) -> memoryview:
        return memoryview(await self._connection.receive(self._process))

    async def aclose(self) -> None:
        self._connection.close(self._process)


class SimPeers:
    """`Peers` of one process: one connection to each node for questions, one for each stream."""

    def __init__(self, process: Listener, network: DataNetwork) -> None:
        self._process = process
        self._network = network
        self._callers: dict[int, _Caller] = {}

    async def converse(self, node: int) -> Conversation:
        connection = await self._network.dial(self._process, node)
        target = self._network.processes[node]
        ours, theirs = (SimConversation(connection, each) for each in (self._process, target))
        target.start(target.feed, self._process.node, theirs)
        return ours

    async def call(self, node: int, frame: Sequence[Buffer], *, timeout_s: float) -> memoryview:
        with anyio.move_on_after(timeout_s):
            caller = self._callers.get(node)
            if caller is None or not caller.connection.is_open:
                connection = await self._network.dial(self._process, node)
                caller = self._callers[node] = _Caller(connection, self._process)
                self._process.start(caller.listen)
                target = self._network.processes[node]
                target.start(_answer_all, connection, target)
            return await caller.ask(b"".join(frame))
        raise PeerUnreachable(f"node {node} did not answer")


class _Caller:
    def __init__(self, connection: Connection, process: Listener) -> None:
        self.connection = connection
        self._process = process
        self._number = 0
        self._asked: dict[int, tuple[anyio.Event, list[bytes]]] = {}

    async def ask(self, question: bytes) -> memoryview:
        self._number = number = self._number + 1
        event, answers = self._asked[number] = (anyio.Event(), [])
        try:
            await self.connection.send(self._process, number.to_bytes(8, "big") + question)
            await event.wait()
        finally:
            del self._asked[number]
        if not answers:
            raise PeerUnreachable("the connection was lost")
        return memoryview(answers[0])

    async def listen(self) -> None:
        try:
            while True:
                data = await self.connection.receive(self._process)
                asked = self._asked.get(int.from_bytes(data[:8], "big"))
                if asked is not None:
                    asked[1].append(data[8:])
                    asked[0].set()
        except PeerUnreachable:
            for event, _ in self._asked.values():
                event.set()


async def _answer_all(connection: Connection, process: Listener) -> None:
    async def one(number: bytes, question: bytes) -> None:
        try:
            answer = await process.answer(*messages.decode_call(memoryview(question)))
            reply = b"".join(answer)
            await connection.send(process, number + reply)
        except PeerUnreachable:
            return

    try:
        while True:
            data = await connection.receive(process)
            process.start(one, data[:8], data[8:])
    except PeerUnreachable:
        pass
