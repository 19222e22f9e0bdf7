"""The peer port against strangers: little read, nothing executed, everybody else unharmed."""

import asyncio
import errno
import os
import pickle
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from broker.peer import port as port_module
from broker.peer.channel import Channel
from broker.peer.frames import FRAME_SIZE_MAX
from broker.peer.handshake import HandshakeError, Identity
from broker.peer.port import STRANGERS_MAX, PeerPort

SECRET = b"s" * 32


def node(name: str, secret: bytes = SECRET) -> PeerPort:
    identity = Identity(name, 1, "", "127.0.0.1", 0)
    return PeerPort(lambda: identity, secret)


@asynccontextmanager
async def listening(port: PeerPort) -> AsyncIterator[int]:
    """The port it listens on; its "echo" channel says everything back."""

    async def echo(channel: Channel) -> None:
        while True:
            await channel.send(*([payload] for payload in await channel.receive()))

    port.serve("echo", echo)
    async with anyio.create_task_group() as tasks:
        yield await tasks.start(port.listen, "127.0.0.1", 0)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("secret", [SECRET, b""], ids=["secret", "loopback only"])
async def test_two_nodes_talk(secret: bytes) -> None:
    async with listening(node("a", secret)) as bound:
        channel = await node("b", secret).dial("127.0.0.1", bound, "echo")
        payloads = [b"x", b"", bytes(FRAME_SIZE_MAX)]
        parts = [[payload] for payload in payloads]
        heard: list[bytes] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.send, *parts)
            while len(heard) < 3:
                heard += await channel.receive()
        assert heard == payloads
        assert (channel.peer.voter_id, channel.name) == ("a", "echo")
        await channel.aclose()


@pytest.mark.parametrize("reason", [errno.EMFILE, errno.ECONNABORTED])
async def test_a_node_without_descriptors_lets_others_in_when_it_has_some(
    monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    """Its port, and with it the node, is not the price."""
    monkeypatch.setattr(port_module, "ACCEPT_PAUSE_S", 0.0)
    loop = asyncio.get_running_loop()
    accept, refusals = loop.sock_accept, [OSError(reason, os.strerror(reason))] * 2

    async def scarce(listening: socket.socket) -> object:
        if refusals:
            raise refusals.pop()
        return await accept(listening)

    monkeypatch.setattr(loop, "sock_accept", scarce)
    async with listening(node("a")) as bound:
        channel = await node("b").dial("127.0.0.1", bound, "echo")
        await channel.send([b"x"])
        assert await channel.receive() == [b"x"]
        assert not refusals
        await channel.aclose()


async def test_a_connection_whose_network_was_cut_is_given_up_in_seconds_at_both_ends() -> None:
    """Else it comes back as long after the network as that was gone: the kernel repeats what was
    lost ever more rarely."""
    ends: list[Channel] = []

    async def accept(channel: Channel) -> None:
        ends.append(channel)
        await channel.receive()

    listener = node("a")
    listener.serve("accepted", accept)
    async with listening(listener) as bound:
        ends.append(await node("b").dial("127.0.0.1", bound, "accepted"))
        with anyio.fail_after(10):
            while len(ends) < 2:
                await anyio.sleep(0.001)
        for end in ends:
            with end.share() as raw:
                timeout_ms = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                assert 0 < timeout_ms <= 10_000
                assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            await end.aclose()


async def test_a_channel_that_finds_a_fault_of_ours_is_closed_and_ends_no_node() -> None:
    async def fail(_: Channel) -> None:
        raise AssertionError("a fault of ours")

    listener = node("a")
    listener.serve("faulty", fail)
    with capture_logs() as logs:
        async with listening(listener) as bound:
            faulty = await node("b").dial("127.0.0.1", bound, "faulty")
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await faulty.receive()
            await faulty.aclose()
            channel = await node("b").dial("127.0.0.1", bound, "echo")
            await channel.send([b"x"])
            assert await channel.receive() == [b"x"]
            await channel.aclose()
    assert [log["log_level"] for log in logs] == ["error"]


async def test_a_host_that_nobody_can_be_called_is_one_that_cannot_be_reached() -> None:
    """A node registers whatever its operator types, and all others dial it."""
    with pytest.raises(OSError, match="cannot be the name of a host"):
        await node("b").dial("ü" * 80, 6000, "echo")


async def test_a_node_with_another_secret_is_refused_and_told_so() -> None:
    listener = node("a")
    async with listening(listener) as bound:
        with pytest.raises(HandshakeError, match="does not know"):
            await node("b", b"t" * 32).dial("127.0.0.1", bound, "echo")
        with pytest.raises(HandshakeError, match="closed the connection"):
            await node("b", b"").dial("127.0.0.1", bound, "echo")
        with pytest.raises(HandshakeError, match="closed the connection"):
            await node("b").dial("127.0.0.1", bound, "no such channel")
    assert listener.refused_count == 3


async def test_a_node_that_is_refused_again_and_again_does_not_fill_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It dials several times a second for as long as nobody looks: a wrong secret, or a copy of a
    node's folder."""
    listener = node("a")
    with capture_logs() as logs:
        async with listening(listener) as bound:

            async def be_refused(secret: bytes) -> None:
                refused_count = listener.refused_count
                with pytest.raises(HandshakeError):
                    await node("b", secret).dial("127.0.0.1", bound, "echo")
                while listener.refused_count == refused_count:
                    await anyio.sleep(0.001)

            for _ in range(5):
                await be_refused(b"")
            assert len(logs) == 1
            with pytest.raises(HandshakeError):
                await node("b").dial("127.0.0.1", bound, "no such channel")
            monkeypatch.setattr("broker.peer.port.SAY_AGAIN_S", 0.0)
            await be_refused(b"")
    reasons = [log["reason"] for log in logs]
    assert len(reasons) == 3
    assert reasons[0] == reasons[2] != reasons[1]


def test_a_secret_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="16"):
        node("a", b"short")


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\xff" * 100_000, b"\x05\x00hello", b"\x10"],
    ids=["http", "zeros", "ones", "wrong", "half"],
)
async def test_a_stranger_costs_a_small_read(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_module, "HANDSHAKE_TIMEOUT_S", 0.2)
    listener = node("a")
    async with listening(listener) as bound:
        stream = await anyio.connect_tcp("127.0.0.1", bound)
        try:
            await stream.send(data)
            answer = await stream.receive()
            pytest.fail(f"a stranger was answered {answer!r}")
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass
        finally:
            await stream.aclose()
        channel = await node("b").dial("127.0.0.1", bound, "echo")
        await channel.send([b"still here"])
        assert await channel.receive() == [b"still here"]
        await channel.aclose()
    assert listener.refused_count == 1


async def test_a_pickle_is_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published library executed the first message of any stranger."""
    witness = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (witness.write_text, ("!",))

    data = pickle.dumps(Bomb())
    for name in ("load", "loads", "_load", "_loads"):
        monkeypatch.setattr(pickle, name, lambda *_args: pytest.fail("something was unpickled"))
    async with listening(node("a")) as bound:
        for framed in (data, len(data).to_bytes(4, "little") + data):
            stream = await anyio.connect_tcp("127.0.0.1", bound)
            await stream.send(framed)
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
            await stream.aclose()
    assert not witness.exists()


async def test_strangers_in_numbers_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_module, "HANDSHAKE_TIMEOUT_S", 1.0)
    listener = node("a")
    async with listening(listener) as bound:
        streams = [await anyio.connect_tcp("127.0.0.1", bound) for _ in range(STRANGERS_MAX + 5)]
        while listener.refused_count < 5:
            await anyio.sleep(0.01)
        assert listener._stranger_count <= STRANGERS_MAX
        while listener._stranger_count:
            await anyio.sleep(0.01)
        for stream in streams:
            await stream.aclose()
        channel = await node("b").dial("127.0.0.1", bound, "echo")
        await channel.aclose()


async def test_a_frame_that_was_changed_on_the_way_ends_the_connection() -> None:
    async with listening(node("a")) as bound:
        channel = await node("b").dial("127.0.0.1", bound, "echo")
        channel.sealer.seal(b"never sent")
        await channel.send([b"not the first"])
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await channel.receive()
        await channel.aclose()


async def test_without_a_secret_another_machine_is_neither_dialled_nor_let_in() -> None:
    with pytest.raises(HandshakeError, match="another machine"):
        port_module.check_reachable("192.0.2.1", b"")
    port_module.check_reachable("192.0.2.1", SECRET)
    port_module.check_reachable("127.0.0.9", b"")
    port_module.check_reachable("::1", b"")
