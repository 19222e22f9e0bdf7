"""Peers on the same machine that are paced for no reason; peers elsewhere that are not."""

import socket

import pytest

from broker.net.congestion import UNPACED, CongestionControl, congestion_control
from tests.broker.net.harness import EchoSession, running


def system() -> bytes:
    with socket.socket() as probe:
        return congestion_control(probe)


async def of_an_accepted_one(monkeypatch: pytest.MonkeyPatch, peer: str | None = None) -> bytes:
    """`peer`: as if it came from there."""
    found: list[bytes] = []
    settle = CongestionControl.settle

    def noting(self: CongestionControl, accepted: socket.socket, address: str) -> None:
        settle(self, accepted, peer or address)
        found.append(congestion_control(accepted))

    with monkeypatch.context() as patch:
        patch.setattr(CongestionControl, "settle", noting)
        async with running(lambda peer: EchoSession()) as server:
            client = await server.connect()
            await client.send(b"hello")
            assert await client.receive() == b"hello"
    return found[0]


async def test_who_is_on_the_same_machine_is_not_paced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.net.congestion.PACING", {system()})
    assert await of_an_accepted_one(monkeypatch) == UNPACED
    assert await of_an_accepted_one(monkeypatch, peer="192.0.2.1") == system()


async def test_where_the_system_does_not_pace_nothing_is_touched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.net.congestion.PACING", set())
    assert await of_an_accepted_one(monkeypatch) == system()


async def test_a_system_that_lets_nobody_choose_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.net.congestion.PACING", {system()})
    monkeypatch.setattr("broker.net.congestion.UNPACED", b"unheard of")
    assert await of_an_accepted_one(monkeypatch) == system()
