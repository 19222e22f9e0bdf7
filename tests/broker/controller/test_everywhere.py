"""Topics that exist at one node and not yet at another."""

from collections.abc import Callable, Sequence

import anyio
import pytest

from broker.controller.everywhere import PATIENCE_S, Everywhere
from broker.controller.metadata import Metadata
from broker.ports import Buffer
from broker.replication import messages
from broker.replication.peers import Conversation, PeerUnreachable
from raft.state import EMPTY, Broker, ClusterState


class FakeRaft:
    def __init__(self, state: ClusterState) -> None:
        self.state = state
        self.tell: Callable[[ClusterState], None] = lambda _: None

    def subscribe(self, listener: Callable[[ClusterState], None]) -> None:
        self.tell = listener

    def reach(self, revision: int) -> None:
        self.state = cluster(revision)
        self.tell(self.state)


class Wire:
    """`Peers` that reach the nodes in the table."""

    def __init__(self) -> None:
        self.nodes: dict[int, Everywhere] = {}

    async def call(self, node: int, frame: Sequence[Buffer], *, timeout_s: float) -> memoryview:
        if node not in self.nodes:
            raise PeerUnreachable(f"node {node} is silent")
        ask, _ = messages.decode_call(memoryview(b"".join(frame)))
        assert isinstance(ask, messages.SeenAsk)
        return memoryview(b"".join(await self.nodes[node].answer(ask)))

    async def converse(self, node: int) -> Conversation:
        raise PeerUnreachable("this wire only carries questions")


def cluster(revision: int) -> ClusterState:
    brokers = EMPTY.brokers
    for node in (1, 2, 3):
        brokers = brokers.set(
            node, Broker(node, node, bytes([node]) * 16, "h", 1, (), None, node == 3)
        )
    return type(EMPTY)(brokers=brokers, revision=revision)


def node(number: int, revision: int, wire: Wire) -> tuple[Everywhere, FakeRaft]:
    raft = FakeRaft(cluster(revision))
    metadata = Metadata(raft, lambda call: call())  # type: ignore[arg-type]
    return Everywhere(node=number, metadata=metadata, peers=wire), raft


async def test_a_change_is_not_answered_before_every_live_node_has_seen_it() -> None:
    wire = Wire()
    asker, _ = node(1, 10, wire)
    wire.nodes[2], behind = node(2, 9, wire)
    has_answered = False

    async def change() -> None:
        nonlocal has_answered
        await asker.seen()
        has_answered = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(change)
        await anyio.wait_all_tasks_blocked()
        assert not has_answered
        behind.reach(10)
        with anyio.fail_after(PATIENCE_S / 2):
            while not has_answered:
                await anyio.sleep(0.001)


async def test_a_silent_node_does_not_stop_changes() -> None:
    asker, _ = node(1, 10, Wire())
    with anyio.fail_after(PATIENCE_S / 2):
        await asker.seen()


async def test_a_node_that_has_died_does_not_answer_and_one_that_lives_does() -> None:
    wire = Wire()
    asker, _ = node(1, 10, wire)
    wire.nodes[2], _ = node(2, 11, wire)
    assert await asker.answers(1)
    assert await asker.answers(2)
    assert not await asker.answers(3)


async def test_a_node_that_stays_behind_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.controller.everywhere.PATIENCE_S", 0.01)
    behind, _ = node(2, 9, Wire())
    with pytest.raises(PeerUnreachable, match="10"):
        await behind.answer(messages.SeenAsk(10))
