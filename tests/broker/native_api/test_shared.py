"""GET at a node that does not keep the cursor: one cursor for the whole cluster."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import anyio
import pytest

from broker.errors import Loading, MetadataUnavailable, NotLeader, OutcomeUnknown
from broker.native_api import majority
from broker.native_api.cursor import Cursors, Ticket, group_of
from broker.native_api.shared import SharedCursors
from broker.ports import Buffer
from broker.replication import messages
from broker.replication.peers import Conversation, PeerUnreachable
from tests.broker.native_api.batches import batch
from tests.broker.native_api.fakes import FakeController, FakeOffsets


class OneOther:
    """`Peers` that reach one other node's cursors, or fail as told."""

    def __init__(self) -> None:
        self.other: SharedCursors | None = None
        self.failures: list[Exception] = []

    async def call(self, node: int, frame: Sequence[Buffer], *, timeout_s: float) -> memoryview:
        if self.failures:
            raise self.failures.pop(0)
        ask, _ = messages.decode_call(memoryview(b"".join(frame)))
        assert isinstance(ask, messages.TakeAsk)
        assert self.other is not None
        return memoryview(b"".join(await self.other.answer(ask)))

    async def converse(self, node: int) -> Conversation:
        raise PeerUnreachable("no streams here")


class Pair:
    """Two nodes over one log: node 1 keeps the cursor, node 2 asks it."""

    def __init__(self) -> None:
        self.controller = FakeController()
        self.away = FakeController()
        self.away.node_id = 2
        self.away.views, self.away.partitions = self.controller.views, self.controller.partitions
        self.offsets = FakeOffsets()
        self.peers = OneOther()
        here = Cursors(self.controller, self.offsets)
        there = Cursors(self.away, self.offsets)
        self.keeper = SharedCursors(self.controller, self.offsets, here, self.peers)
        self.asker = SharedCursors(self.away, self.offsets, there, self.peers)
        self.peers.other = self.keeper
        self.runs = (here.run, there.run, self.keeper.run, self.asker.run)


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    async with anyio.create_task_group() as tasks:
        for run in made.runs:
            await tasks.start(run)
        yield made
        tasks.cancel_scope.cancel()


async def test_two_nodes_hand_out_one_stream_between_them() -> None:
    async with pair() as nodes:
        partition = nodes.controller.add("t")
        for number in range(6):
            partition.store(batch([b"%d" % number]))
        topic = nodes.controller.topic("t")
        taken = []
        for number in range(6):
            node = nodes.keeper if number % 2 else nodes.asker
            taken.append(await (await node.get(topic)).taken())
        assert taken == [b"%d" % number for number in range(6)]
        assert await (await nodes.asker.get(topic)).taken() is None
        assert nodes.offsets.positions[group_of("t"), topic.topic_id] == 6


async def test_a_refusal_is_asked_again_and_a_lost_answer_is_not() -> None:
    async with pair() as nodes:
        partition = nodes.controller.add("t")
        partition.store(batch([b"a"]))
        topic = nodes.controller.topic("t")
        nodes.peers.failures = [NotLeader("moved")]
        assert await (await nodes.asker.get(topic)).taken() == b"a"
        nodes.peers.failures = [PeerUnreachable("the answer was lost")]
        with pytest.raises(OutcomeUnknown):
            await (await nodes.asker.get(topic)).taken()


async def test_a_first_get_without_a_majority_is_answered_before_its_client_hangs_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair() as nodes:
        nodes.controller.add("t")

        async def undecided(group_id: str) -> int:
            await anyio.sleep_forever()
            return -1

        monkeypatch.setattr(nodes.offsets, "leader_of", undecided)
        monkeypatch.setattr(majority, "WAIT_S_MAX", 0.01)
        with pytest.raises(MetadataUnavailable, match="no majority"):
            await nodes.keeper.get(nodes.controller.topic("t"))


async def test_a_get_on_the_keeper_follows_the_cursor_when_it_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair() as nodes:
        nodes.controller.add("t").store(batch([b"a"]))
        nodes.peers.other = nodes.asker
        position = nodes.offsets.position

        async def moved(group: str, topic_id: UUID) -> int | None:
            nodes.offsets.leader_id = nodes.away.node_id
            monkeypatch.setattr(nodes.offsets, "position", position)
            raise NotLeader("the shard has moved")

        monkeypatch.setattr(nodes.offsets, "position", moved)
        assert await (await nodes.keeper.get(nodes.controller.topic("t"))).taken() == b"a"


async def test_a_get_that_the_cursor_left_behind_ends_with_its_node() -> None:
    async with pair() as nodes:
        nodes.controller.add("t").store(batch([b"a"]))
        ticket = Ticket(lambda ticket: nodes.keeper.look_elsewhere(topic, ticket))
        topic = nodes.controller.topic("t")
    ticket.end(NotLeader("the node stops"))
    with pytest.raises(NotLeader):
        await ticket.taken()


async def test_while_nobody_keeps_the_cursor_a_get_waits_and_then_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.native_api.shared.PATIENCE_S", 0.2)
    async with pair() as nodes:
        nodes.controller.add("t")
        nodes.offsets.leader_id = -1
        with pytest.raises(NotLeader):
            await (await nodes.asker.get(nodes.controller.topic("t"))).taken()


async def test_a_node_that_leads_the_cursor_before_it_serves_says_so_and_lives() -> None:
    nodes = Pair()
    nodes.controller.add("t")
    ask = messages.TakeAsk(nodes.controller.topic("t").topic_id.bytes)
    frame = memoryview(b"".join(await nodes.keeper.answer(ask)))
    reply, _ = messages.decode_reply(frame)
    assert isinstance(reply, messages.TakeReply)
    with pytest.raises(Loading):
        messages.raise_refusal(reply.error, reply.text)
