"""A channel in the hands of a peer that does not read, or goes at the wrong moment."""

import anyio
import pytest

from broker.errors import FrameError
from broker.peer.channel import Channel
from tests.broker.peer.test_wires import connection

BIG = b"x" * 1_000_000


async def until_stuck(channel: Channel) -> None:
    """Send until a send waits for the peer."""
    while True:
        with anyio.move_on_after(0.2) as waiting:
            await channel.send([BIG])
        if waiting.cancelled_caught:
            return


async def heard_until(channel: Channel, last: bytes) -> list[bytes]:
    heard: list[bytes] = []
    with anyio.fail_after(30):
        while not heard or heard[-1] != last:
            heard += await channel.receive()
    return heard


async def test_a_send_that_was_given_up_leaves_no_half_frame_behind() -> None:
    async with connection("follow") as (dialled, accepted):
        await until_stuck(dialled)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dialled.send, [b"after", b"wards"])
            heard = await heard_until(accepted, b"afterwards")
        assert set(heard[:-1]) == {BIG}


async def test_what_several_tasks_send_while_the_peer_does_not_read_arrives_whole() -> None:
    async with connection("follow") as (dialled, accepted):
        await until_stuck(dialled)
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(dialled.send, [bytes([number]) * 70_000])
            heard: list[bytes] = []
            with anyio.fail_after(30):
                while len([payload for payload in heard if payload != BIG]) < 20:
                    heard += await accepted.receive()
        small = [payload for payload in heard if payload != BIG]
        assert sorted(small) == [bytes([number]) * 70_000 for number in range(20)]


async def test_a_peer_that_sends_while_nobody_listens_is_made_to_wait_and_loses_nothing() -> None:
    async with connection("follow") as (dialled, accepted):
        await dialled.send([b"first"])
        assert await accepted.receive() == [b"first"]
        await until_stuck(dialled)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dialled.send, [b"last"])
            assert (await heard_until(accepted, b"last"))[-1] == b"last"


async def test_a_connection_that_breaks_ends_who_waits_to_send_and_who_waits_to_hear() -> None:
    async with connection("follow") as (dialled, accepted):
        await until_stuck(dialled)
        ends: list[type[Exception]] = []

        async def send() -> None:
            try:
                await dialled.send([b"more"])
            except anyio.BrokenResourceError as error:
                ends.append(type(error))

        async def receive() -> None:
            try:
                await dialled.receive()
            except (anyio.BrokenResourceError, anyio.EndOfStream) as error:
                ends.append(type(error))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                tasks.start_soon(receive)
                await anyio.sleep(0.05)
                await accepted.aclose()
        assert len(ends) == 2
        with pytest.raises(anyio.BrokenResourceError):
            await dialled.send([b"later"])


async def test_who_closes_a_channel_wakes_those_who_use_it() -> None:
    async with connection("follow") as (dialled, _):
        await until_stuck(dialled)
        woken = 0

        async def use(what: str) -> None:
            nonlocal woken
            with pytest.raises(anyio.ClosedResourceError):
                await (dialled.receive() if what == "receive" else dialled.send([b"more"]))
            woken += 1

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(use, "receive")
                tasks.start_soon(use, "send")
                await anyio.sleep(0.05)
                await dialled.aclose()
        assert woken == 2
        await dialled.aclose()


async def test_a_frame_that_is_not_the_peers_is_told_to_who_listens() -> None:
    async with connection("follow") as (dialled, accepted):
        with dialled.share() as stranger:
            stranger.send(b"\x20\0\0\0" + b"?" * 32)
        with pytest.raises(FrameError):
            await accepted.receive()
