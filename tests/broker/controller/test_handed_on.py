"""Clients of a leader that has handed its topic on: none of them pauses, none is kept from the new
leader for ever, and nothing is written twice or out of order."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio
import pytest

from broker.controller import handed_on, placement
from broker.controller.controller import LocalController
from broker.controller.handed_on import HandedOn
from broker.controller.roll import roll
from broker.controller.router import Routed
from broker.errors import OutcomeUnknown, RequestError
from broker.ports import ACKS_ALL, Buffer, TopicView
from broker.replication import messages
from broker.replication.follow import _Writer
from raft.commands import Next
from tests.broker.cluster import Cluster, cluster
from tests.broker.one_node import batch, read_all, values


async def handed_over(made: Cluster) -> tuple[LocalController, int]:
    """The controller of a node that has just handed "t" to another one, and that one."""
    await made.controller(1).create_topic("t", configs={})
    await made.put(b"before")
    first = await made.leader()
    old = made.controller(first.topic.leader_id)
    leaving = partial(placement.for_roll, leaving=True)
    assert await roll(first, old._metadata, choose=leaving, reason="test")
    new = old.topic("t").leader_id
    assert new != old.node_id
    return old, new


async def sent_on(controller: LocalController, data: Buffer) -> int | None:
    """The offset of a batch that came to this node; None if its client was told where to go."""
    sent = await controller.send_on(controller.topic("t"), data, acks=ACKS_ALL)
    return None if sent is None else sent[1].base_offset


async def test_a_planned_rollover_costs_its_clients_no_pause(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        old, _ = await handed_over(made)
        assert [await sent_on(old, batch(b"%d" % n)) for n in range(5)] == [1, 2, 3, 4, 5]
        found = values(await read_all(await made.leader()))
        assert found == [b"before", b"0", b"1", b"2", b"3", b"4"]


async def test_a_client_that_brings_much_is_told_where_to_go_and_stays_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handed_on, "RATE_SIZE", 10_000)
    async with cluster(tmp_path) as made:
        old, _ = await handed_over(made)
        now = old._leading.handed_on._monotonic()
        monkeypatch.setattr(old._leading.handed_on, "_monotonic", lambda: now)
        assert await sent_on(old, batch(b"x" * 5000)) == 1
        assert await sent_on(old, batch(b"x" * 5000)) is None
        # A small one must not overtake the large one that its client has to bring elsewhere.
        assert await sent_on(old, batch(b"small")) is None


async def test_a_node_that_was_deposed_sends_nothing_on(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        await made.put(b"before")
        old = made.controller((await made.leader()).topic.leader_id)
        made.raft_leader = next(node for node in made.disks if node != old.node_id)
        made.network.isolate(old.node_id)
        with anyio.fail_after(20):
            while old.topic("t").leader_id in (old.node_id, -1):
                await anyio.sleep(0.01)
        assert await sent_on(old, batch(b"x")) is None


async def test_a_node_that_is_cut_off_says_so_at_once(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        old, new = await handed_over(made)
        made.raft_leader = new
        made.network.isolate(old.node_id)
        with anyio.fail_after(20):
            while made.broker(old.node_id)._liveness.is_in_touch():
                await anyio.sleep(0.01)
        assert await sent_on(old, batch(b"x")) is None


async def test_the_first_batch_that_the_new_leader_does_not_answer_for_is_the_last(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as made:
        old, new = await handed_over(made)
        made.kill(new)
        with pytest.raises(OutcomeUnknown):
            await sent_on(old, batch(b"x", producer=(7, 0, 0)))
        assert await sent_on(old, batch(b"y", producer=(7, 0, 1))) is None


async def test_whoever_hears_of_a_new_leader_before_the_leader_itself_need_not_ask_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        await made.put(b"before")
        first = await made.leader()
        old = made.controller(first.topic.leader_id)
        new = made.controller(next(node for node in made.disks if node != old.node_id))
        broker = made.broker(new.node_id)
        chosen = Next(new.node_id, broker.incarnation, tuple(made.disks))
        asked: list[int] = []

        async def asks_again(writer: _Writer, following: object) -> None:
            asked.append(writer._node)

        monkeypatch.setattr(_Writer, "_introduce_again", asks_again)
        attempts = 0
        answer = broker.answer

        async def counted(call: messages.Call, batches: memoryview) -> Sequence[Buffer]:
            nonlocal attempts
            attempts += isinstance(call, messages.AppendAsk)
            return await answer(call, batches)

        monkeypatch.setattr(broker, "answer", counted)
        with monkeypatch.context() as deaf:
            deaf.setattr(new._metadata, "_refresh", lambda: None)
            assert await roll(first, old._metadata, choose=lambda *_: chosen, reason="test")
            async with anyio.create_task_group() as tasks:
                offsets: list[int | None] = []

                async def send() -> None:
                    offsets.append(await sent_on(old, batch(b"after")))

                tasks.start_soon(send)
                with anyio.fail_after(20):
                    while not attempts:
                        await anyio.sleep(0.01)
                deaf.undo()
                new._metadata._refresh()
        assert offsets == [1]
        assert (attempts, asked) == (1, [])


async def test_what_the_new_leader_refuses_is_refused_here(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        old, _ = await handed_over(made)
        with pytest.raises(RequestError):
            await sent_on(old, b"\0" * 100)
        assert await sent_on(old, batch(b"good")) == 1


def test_topics_whose_clients_never_come_again_are_forgotten() -> None:
    """They are deleted, made anew under another id, and handed on again, for months."""
    now = 0.0
    kept = HandedOn(monotonic=lambda: now, route=nowhere, is_in_touch=lambda: True)
    for number in range(1000):
        kept.add(number.to_bytes(16, "big"))
        kept.add(b"one that rolls all the time")
        now += handed_on.KEPT_S / 10
    assert len(kept._topics) <= 13


def nowhere(topic: TopicView, patience_s: float) -> Routed:
    raise AssertionError
