"""Questions between nodes, over real connections, asked by those who lose patience."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from structlog.testing import capture_logs

from broker.peer.handshake import Identity
from broker.peer.port import PeerPort
from broker.ports import Buffer
from broker.replication import messages
from broker.replication.network import QUESTIONS_MAX, Network
from broker.replication.peers import Conversation, PeerGone, PeerUnreachable

ASK = messages.encode(messages.SeenAsk(1))
LARGE = messages.encode(messages.AppendAsk(bytes(16), 1000), bytes(20 * 1024 * 1024))
PATIENCE_S = 10.0


@dataclass
class Answerer:
    """A node that answers when it may."""

    may: anyio.Event = field(default_factory=anyio.Event)
    asked: int = 0

    async def answer(self, call: messages.Call, data: memoryview) -> Sequence[Buffer]:
        if isinstance(call, messages.Heartbeat):
            return messages.encode(messages.HeartbeatReply(granted=True, is_fenced=False))
        self.asked += 1
        if isinstance(call, messages.WindowAsk):
            raise AssertionError("a fault of ours")
        if isinstance(call, messages.SealAsk):
            return messages.encode(messages.SealReply("unknown"))
        await self.may.wait()
        return messages.encode(messages.SeenReply(self.asked))

    async def feed(self, node: int, conversation: Conversation) -> None:
        raise AssertionError("nobody follows here")


@dataclass
class Pair:
    """Node 1 can ask node 2."""

    asker: Network
    answerer: Answerer
    port: PeerPort
    """Of node 2."""

    async def answered(self) -> bool:
        frame = await self.asker.call(2, ASK, timeout_s=PATIENCE_S)
        return isinstance(messages.decode_reply(frame)[0], messages.SeenReply)


def _port(number: int) -> PeerPort:
    identity = Identity(f"voter {number}", number, "", "127.0.0.1", 0)
    return PeerPort(lambda: identity, b"s" * 32)


@asynccontextmanager
async def two_nodes() -> AsyncIterator[Pair]:
    port, answerer = _port(2), Answerer()
    bound = 0
    answering = Network(port, address=lambda _node: None)
    answering.serve(answer=answerer.answer, feed=answerer.feed)
    asker = Network(_port(1), address=lambda _node: ("127.0.0.1", bound))
    async with anyio.create_task_group() as tasks:
        bound = await tasks.start(port.listen, "127.0.0.1", 0)
        tasks.start_soon(asker.run)
        await anyio.wait_all_tasks_blocked()
        yield Pair(asker, answerer, port)
        tasks.cancel_scope.cancel()


async def _given_up(pair: Pair, frame: Sequence[Buffer], after_turns: int) -> None:
    async with anyio.create_task_group() as tasks:

        async def ask() -> None:
            await pair.asker.call(2, frame, timeout_s=PATIENCE_S)

        tasks.start_soon(ask)
        for _ in range(after_turns):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


async def test_a_dial_is_not_given_up_with_the_question_that_began_it() -> None:
    async with two_nodes() as pair:
        pair.answerer.may.set()
        for turns in range(12):
            await _given_up(pair, ASK, turns)
        assert await pair.answered()
        assert pair.port.refused_count == 0


@pytest.mark.parametrize("frame", [ASK, LARGE], ids=["small", "large"])
async def test_a_question_that_is_given_up_half_way_does_not_cut_off_the_others(
    frame: Sequence[Buffer],
) -> None:
    async with two_nodes() as pair:
        answers: list[bool] = []

        async def ask() -> None:
            answers.append(await pair.answered())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            while not pair.answerer.asked:
                await anyio.sleep(0.001)
            for turns in range(12):
                await _given_up(pair, frame, turns)
            pair.answerer.may.set()
        assert answers == [True]


async def test_what_waits_for_a_node_that_cannot_be_dialled_is_told_so() -> None:
    asker = Network(_port(1), address=lambda _node: None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asker.run)
        await anyio.wait_all_tasks_blocked()
        for _ in range(2):
            with pytest.raises(PeerUnreachable, match="where node 2 is"):
                await asker.call(2, ASK, timeout_s=PATIENCE_S)
        tasks.cancel_scope.cancel()
    with pytest.raises(PeerUnreachable, match="stopping"):
        await asker.call(2, ASK, timeout_s=PATIENCE_S)


async def _failure(address: tuple[str, int]) -> PeerUnreachable:
    """Of a question to whoever is at `address`."""
    asker = Network(_port(1), address=lambda _node: address)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asker.run)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(PeerUnreachable) as failure:
            await asker.call(2, ASK, timeout_s=0.5)
        tasks.cancel_scope.cancel()
    return failure.value


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_node_is_gone_when_its_port_is_closed(host: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert isinstance(await _failure((host, bound.getsockname()[1])), PeerGone)


async def test_a_node_that_stands_still_or_hangs_up_is_not_gone() -> None:
    """Its kernel takes connections for it; a proxy may take and close them."""
    with socket.create_server(("127.0.0.1", 0)) as stands_still:
        assert not isinstance(await _failure(stands_still.getsockname()), PeerGone)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:

        async def hang_up(stream: SocketStream) -> None:
            await anyio.aclose_forcefully(stream)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, hang_up)
            address = "127.0.0.1", listener.extra(SocketAttribute.local_port)
            assert not isinstance(await _failure(address), PeerGone)
            tasks.cancel_scope.cancel()


async def test_a_broken_connection_says_nothing_of_the_node() -> None:
    async with two_nodes() as pair:
        pair.answerer.may.set()
        assert await pair.answered()
        pair.answerer.may = anyio.Event()

        async def ask() -> None:
            with pytest.raises(PeerUnreachable) as failure:
                await pair.asker.call(2, ASK, timeout_s=PATIENCE_S)
            assert not isinstance(failure.value, PeerGone)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            while pair.answerer.asked < 2:
                await anyio.sleep(0.001)
            pair.asker._callers[2].close()


async def test_clients_that_wait_make_no_node_look_dead_and_hold_up_no_seal() -> None:
    """They wait for a commit, it for a seal, and the seal would wait for them."""
    append = messages.encode(messages.AppendAsk(bytes(16), 1000))
    async with two_nodes() as pair, anyio.create_task_group() as tasks:

        async def ask() -> None:
            await pair.asker.call(2, append, timeout_s=PATIENCE_S)

        for _ in range(2 * QUESTIONS_MAX):
            tasks.start_soon(ask)
        with anyio.fail_after(PATIENCE_S):
            while pair.answerer.asked < QUESTIONS_MAX:
                await anyio.sleep(0.001)
        for own in (messages.Heartbeat(1, 1), messages.SealAsk(bytes(16), 1, 2)):
            frame = await pair.asker.call(2, messages.encode(own), timeout_s=PATIENCE_S / 2)
            assert isinstance(messages.decode_reply(frame)[0], messages.CallReply)
        tasks.cancel_scope.cancel()


async def test_a_question_that_finds_a_fault_of_ours_ends_neither_the_node_nor_the_others() -> None:
    window = messages.encode(messages.WindowAsk(bytes(16), 1))
    with capture_logs() as logs:
        await _faulty_question(window)
    assert [log["question"] for log in logs if log["log_level"] == "error"] == ["WindowAsk"]


async def _faulty_question(window: Sequence[Buffer]) -> None:
    async with two_nodes() as pair:
        answers: list[bool] = []

        async def ask() -> None:
            answers.append(await pair.answered())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            while not pair.answerer.asked:
                await anyio.sleep(0.001)
            with pytest.raises(PeerUnreachable):
                await pair.asker.call(2, window, timeout_s=0.1)
            pair.answerer.may.set()
        assert answers == [True]
        assert pair.answerer.asked == 2
