"""`Peers` over the peer port: questions and answers on one connection per node, and a connection of
its own for each follow stream.

A question or frame larger than the port's frames travels in parts. Answers come in any order; each
carries the number of its question.
"""

import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

import anyio
import structlog
from anyio.abc import TaskGroup

from broker.errors import PeerError
from broker.peer import Channel, PeerPort, is_refused
from broker.ports import Buffer
from broker.replication import messages
from broker.replication.peers import Conversation, NeverConnected, PeerGone, PeerUnreachable

CALL_CHANNEL = "call"
FOLLOW_CHANNEL = "follow"

PART_SIZE_MAX = 1024 * 1024
"""Bytes of a payload that travel in one frame."""

PAYLOAD_SIZE_MAX = 256 * 1024 * 1024
"""Bytes of one payload in all its parts: above the largest batch that any topic may take."""

QUESTIONS_MAX = 64
"""Of one peer, being answered at the same time; more wait. Those on behalf of clients, who may wait
long, do not hold up those of the node itself, and what is answered from memory waits for nobody:
behind a slow disk a node would look dead."""

_FOR_CLIENTS = (messages.AppendAsk, messages.FetchAsk, messages.TakeAsk)
_FROM_MEMORY = (messages.Heartbeat, messages.UnfencedAsk)

_PART = struct.Struct(">IB")
"""Number of the question (0 on a follow stream), and 1 on the last part."""

_GONE = (
    PeerError,
    OSError,
    anyio.EndOfStream,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
)

_log = structlog.get_logger(__name__)

Address = Callable[[int], tuple[str, int] | None]
Answer = Callable[[messages.Call, memoryview], Awaitable[Sequence[Buffer]]]
Serve = Callable[[int, Conversation], Awaitable[None]]


def parts(number: int, payload: Sequence[Buffer]) -> Iterator[list[Buffer]]:
    """The frames in which a payload travels, each as the buffers it is made of."""
    if sum(map(len, payload)) <= PART_SIZE_MAX:
        yield [_PART.pack(number, True), *payload]
        return
    data = memoryview(b"".join(payload))
    for start in range(0, len(data), PART_SIZE_MAX):
        is_last = start + PART_SIZE_MAX >= len(data)
        yield [_PART.pack(number, is_last), data[start : start + PART_SIZE_MAX]]


class Assembly:
    """Payloads out of parts. Raises PeerUnreachable for a peer that sends no such thing."""

    def __init__(self) -> None:
        self._parts: dict[int, list[memoryview]] = {}
        self._size = 0

    def add(self, frame: bytes) -> tuple[int, memoryview] | None:
        """(number, payload) when the payload is whole."""
        if len(frame) < _PART.size:
            raise PeerUnreachable("a frame without a number")
        number, is_last = _PART.unpack_from(frame)
        part = memoryview(frame)[_PART.size :]
        self._size += len(part)
        if self._size > PAYLOAD_SIZE_MAX:
            raise PeerUnreachable("payloads without end")
        if is_last and number not in self._parts:
            self._size -= len(part)
            return number, part
        self._parts.setdefault(number, []).append(part)
        if not is_last:
            return None
        whole = b"".join(self._parts.pop(number))
        self._size -= len(whole)
        return number, memoryview(whole)


class Network:
    """One node's questions, answers and streams. `run` it in a task, beside the port's `listen`."""

    def __init__(self, port: PeerPort, *, address: Address) -> None:
        """`address` says where a node's peer port is, by its broker id; None if that is unknown."""
        self._port = port
        self._address = address
        self._callers: dict[int, _Caller] = {}
        self._tasks: TaskGroup | None = None

    def serve(self, *, answer: Answer, feed: Serve) -> None:
        """What this node gives to others. Before the port listens."""

        async def calls(channel: Channel) -> None:
            await _answer_all(channel, answer)

        async def follow(channel: Channel) -> None:
            await feed(channel.peer.node_id, _Stream(channel))

        self._port.serve(CALL_CHANNEL, calls)
        self._port.serve(FOLLOW_CHANNEL, follow)

    async def run(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            try:
                await anyio.sleep_forever()
            finally:
                self._tasks = None

    async def call(self, node: int, frame: Sequence[Buffer], *, timeout_s: float) -> memoryview:
        with anyio.move_on_after(timeout_s):
            return await self._caller(node).ask(frame)
        raise PeerUnreachable(f"node {node} did not answer within {timeout_s:g} s")

    async def converse(self, node: int) -> Conversation:
        return _Stream(await self._dial(node, FOLLOW_CHANNEL))

    def _caller(self, node: int) -> "_Caller":
        caller = self._callers.get(node)
        if caller is None or caller.is_closed:
            if self._tasks is None:
                raise PeerUnreachable("this node is stopping")
            caller = self._callers[node] = _Caller(node)
            self._tasks.start_soon(self._keep, caller, node)
        return caller

    async def _keep(self, caller: "_Caller", node: int) -> None:
        try:
            await caller.run(await self._dial(node, CALL_CHANNEL))
        except PeerUnreachable as error:
            caller.failure, caller.why = type(error), str(error)
        finally:
            caller.close()

    async def _dial(self, node: int, channel: str) -> Channel:
        address = self._address(node)
        if address is None:
            raise NeverConnected(f"where node {node} is, is not known")
        try:
            return await self._port.dial(*address, channel)
        except _GONE as error:
            failure = PeerGone if is_refused(error) else NeverConnected
            host, port = address
            raise failure(f"node {node} at {host}:{port}: {error}") from error


class _Caller:
    """The connection on which one node is asked.

    Whoever asks may lose patience at any moment: a barrier does as soon as enough others have
    answered. So the connection is dialled and written to by its own task. A dial that was given up
    would be begun anew each time, and a frame that was given up would be missing in the numbering
    of the channel, which ends it.
    """

    def __init__(self, node: int) -> None:
        self._number = 0
        self._asked: dict[int, tuple[anyio.Event, list[memoryview]]] = {}
        self._unsent: deque[tuple[int, Sequence[Buffer]]] = deque()
        self._has_unsent = anyio.Event()
        self.is_closed = False
        self.failure: type[PeerUnreachable] = PeerUnreachable
        self.why = f"the connection to node {node} broke"

    async def ask(self, frame: Sequence[Buffer]) -> memoryview:
        """The answer. Raises PeerUnreachable when the connection goes, NeverConnected (PeerGone)
        when there was none."""
        if self.is_closed:
            raise self.failure(self.why)
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        event, answers = self._asked[number] = (anyio.Event(), [])
        self._unsent.append((number, frame))
        self._has_unsent.set()
        try:
            await event.wait()
        finally:
            self._asked.pop(number, None)
        if not answers:
            raise self.failure(self.why)
        return answers[0]

    async def run(self, channel: Channel) -> None:
        """Send questions and take in answers, until the connection ends."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._send_all, channel)
                await self._listen(channel)
        except* (*_GONE, PeerUnreachable):
            pass
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(channel)

    def close(self) -> None:
        """Nobody is asked here any more, and nothing that was asked will be answered."""
        self.is_closed = True
        asked, self._asked = self._asked, {}
        for event, _ in asked.values():
            event.set()

    async def _send_all(self, channel: Channel) -> None:
        while True:
            await self._has_unsent.wait()
            self._has_unsent = anyio.Event()
            while self._unsent:
                number, frame = self._unsent.popleft()
                if number in self._asked:
                    await channel.send(*parts(number, frame))

    async def _listen(self, channel: Channel) -> None:
        assembly = Assembly()
        while True:
            for frame in await channel.receive():
                whole = assembly.add(frame)
                if whole is not None and whole[0] in self._asked:
                    event, answers = self._asked[whole[0]]
                    answers.append(whole[1])
                    event.set()


async def _answer_all(channel: Channel, answer: Answer) -> None:
    """Answer one peer's questions, several at a time, until it is gone."""
    assembly = Assembly()
    for_clients = anyio.CapacityLimiter(QUESTIONS_MAX)
    for_nodes = anyio.CapacityLimiter(QUESTIONS_MAX)

    def turn(call: messages.Call) -> AbstractAsyncContextManager[None]:
        if isinstance(call, _FROM_MEMORY):
            return nullcontext()
        return for_clients if isinstance(call, _FOR_CLIENTS) else for_nodes

    async def one(number: int, payload: memoryview) -> None:
        call: messages.Call | None = None
        try:
            call, data = messages.decode_call(payload)
            async with turn(call):
                reply = await answer(call, data)
        except (PeerUnreachable, ValueError) as error:
            _log.debug("no answer", peer=channel.peer.node_id, why=str(error))
            return
        except Exception:  # noqa: BLE001  Whatever it is, it befell this question alone.
            question = type(call).__name__
            _log.exception("a question was not answered by a fault of ours", question=question)
            return
        try:
            await channel.send(*parts(number, reply))
        except _GONE:
            tasks.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as tasks:
            while True:
                for frame in await channel.receive():
                    whole = assembly.add(frame)
                    if whole is not None:
                        tasks.start_soon(one, *whole)
    except* (*_GONE, PeerUnreachable):
        pass


class _Stream:
    """A follow stream: `Conversation` over a channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._assembly = Assembly()
        self._received: deque[memoryview] = deque()
        self._is_closed = False

    async def send(self, frame: Sequence[Buffer]) -> None:
        if self._is_closed:
            raise PeerUnreachable("the conversation is over")
        try:
            await self._channel.send(*parts(0, frame))
        except _GONE as error:
            raise PeerUnreachable(f"node {self._channel.peer.node_id} is gone") from error

    async def receive(self) -> memoryview:
        try:
            while not self._received:
                for frame in await self._channel.receive():
                    whole = self._assembly.add(frame)
                    if whole is not None:
                        self._received.append(whole[1])
        except _GONE as error:
            raise PeerUnreachable(f"node {self._channel.peer.node_id} is gone") from error
        return self._received.popleft()

    async def aclose(self) -> None:
        self._is_closed = True
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(self._channel)
