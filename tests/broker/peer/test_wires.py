"""Both ends of a connection in the hands of another thread."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from broker.errors import FrameError
from broker.peer import wires
from broker.peer.channel import Channel
from broker.peer.wires import Receiver, Sender
from tests.broker.peer.test_port import node


@asynccontextmanager
async def connection(name: str = "raft") -> AsyncIterator[tuple[Channel, Channel]]:
    """(dialled, accepted)."""
    accepted: list[Channel] = []
    is_over = anyio.Event()

    async def keep(channel: Channel) -> None:
        accepted.append(channel)
        await is_over.wait()

    listener = node("a")
    listener.serve(name, keep)
    async with anyio.create_task_group() as tasks:
        bound = await tasks.start(listener.listen, "127.0.0.1", 0)
        dialled = await node("b").dial("127.0.0.1", bound, name)
        while not accepted:
            await anyio.lowlevel.checkpoint()
        yield dialled, accepted[0]
        await dialled.aclose()
        is_over.set()
        tasks.cancel_scope.cancel()


async def read_until(receiver: Receiver, heard: list[bytes], count: int) -> None:
    while len(heard) < count:
        await anyio.wait_readable(receiver.fileno())
        assert receiver.read()


async def test_what_is_sent_at_once_and_what_is_sent_later_arrive_in_order() -> None:
    async with connection() as (dialled, accepted):
        heard: list[bytes] = []
        sender, receiver = Sender(dialled), Receiver(accepted, heard.append)
        payloads = [bytes([number]) * 100_000 for number in range(100)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sender.flush)
            assert all(sender.send(payload) for payload in payloads)
            assert sender._backlog, "more than the socket takes at once"
            await read_until(receiver, heard, len(payloads))
            tasks.cancel_scope.cancel()
        assert heard == payloads
        sender.close()
        receiver.close()


async def test_a_peer_that_does_not_read_costs_a_bounded_backlog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wires, "BACKLOG_SIZE_MAX", 300_000)
    async with connection() as (dialled, accepted):
        heard: list[bytes] = []
        sender, receiver = Sender(dialled), Receiver(accepted, heard.append)
        sent = 0
        while sender.send(b"x" * 100_000):
            sent += 1
        assert len(sender._backlog) <= 300_000 + 100
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sender.flush)
            await read_until(receiver, heard, sent)
            tasks.cancel_scope.cancel()
        assert sender.send(b"again")
        await read_until(receiver, heard, sent + 1)
        assert heard[-1] == b"again"
        sender.close()
        receiver.close()


async def test_the_end_is_noticed_and_nothing_is_sent_after_it() -> None:
    async with connection() as (dialled, accepted):
        sender, receiver = Sender(dialled), Receiver(accepted, lambda _payload: None)
        await dialled.aclose()
        sender.close()
        await anyio.wait_readable(receiver.fileno())
        assert not receiver.read()
        await receiver.ended()
        assert not sender.send(b"too late")
        receiver.close()
        assert not receiver.read()


async def test_a_frame_that_is_not_the_peers_ends_the_connection() -> None:
    async with connection() as (dialled, accepted):
        receiver = Receiver(accepted, lambda _payload: None)
        stranger = dialled.share()
        stranger.send(b"\x20\0\0\0" + b"?" * 32)
        stranger.close()
        await anyio.wait_readable(receiver.fileno())
        assert not receiver.read()
        with pytest.raises(FrameError):
            await receiver.ended()
        receiver.close()
