"""A leader that was deposed without knowing tells nobody what is the newest."""

from collections.abc import AsyncIterator, Callable, Sequence

import anyio
import pytest

from broker.errors import NotLeader
from broker.ports import Buffer
from broker.replication import messages
from broker.replication.barrier import ReadBarrier, answer_unfenced
from broker.replication.copies import Copies, LocalCopy
from broker.replication.peers import Conversation, PeerUnreachable
from broker.replication.store import Store
from engine.backends._memory import MemoryBackend
from engine.durability import FsyncPolicy
from engine.producer_state import ProducerState
from tests.broker.one_node import TOPICS

TOPIC_ID, SID, EPOCH = b"t" * 16, 1, 4
NODES = (1, 2, 3)
"""The first of them writes."""


class Replicas:
    """`Peers` of node 1: the copies of all three in one process."""

    def __init__(self) -> None:
        self.stores = {
            node: Store(TOPICS, MemoryBackend(), FsyncPolicy.parse("each")) for node in NODES
        }
        self.tables = {
            node: Copies(store, on_failed=lambda key, error: None)
            for node, store in self.stores.items()
        }
        self.copies = {node: self.open(node) for node in NODES}
        self.dead: set[int] = set()
        self.asked = 0
        self.after_answer: Callable[[int], object] = lambda node: None

    def open(self, node: int) -> LocalCopy:
        log = self.stores[node].log("t", TOPIC_ID)
        return self.tables[node].open(
            log, TOPIC_ID, sid=SID, base_offset=0, epoch=EPOCH, window=ProducerState()
        )

    def barrier(self, replicas: Sequence[int] = NODES) -> ReadBarrier:
        return ReadBarrier(
            node=1, topic_id=TOPIC_ID, replicas=replicas, copy=self.copies[1], peers=self
        )

    async def call(self, node: int, frame: Sequence[Buffer], *, timeout_s: float) -> memoryview:
        if node in self.dead:
            raise PeerUnreachable(f"node {node} is dead")
        ask, _ = messages.decode_call(memoryview(b"".join(frame)))
        assert isinstance(ask, messages.UnfencedAsk)
        self.asked += 1
        answer = answer_unfenced(self.tables[node], ask)
        await anyio.sleep(0.01)
        self.after_answer(node)
        return memoryview(b"".join(answer))

    async def converse(self, node: int) -> Conversation:
        raise PeerUnreachable("only questions")


@pytest.fixture
async def replicas() -> AsyncIterator[Replicas]:
    made = Replicas()
    for store in made.stores.values():
        store.attach()
    yield made
    for store in made.stores.values():
        store.detach()


async def test_nobody_has_promised_anything(replicas: Replicas) -> None:
    await replicas.barrier().passed()


async def test_one_replica_asks_nobody(replicas: Replicas) -> None:
    assert replicas.barrier([1]).is_free
    assert not replicas.barrier().is_free


@pytest.mark.parametrize("dead", [2, 3])
async def test_one_replica_is_dead(replicas: Replicas, dead: int) -> None:
    replicas.dead = {dead}
    await replicas.barrier().passed()


@pytest.mark.parametrize("promised", [(1, 2), (2, 3), (1, 3)])
async def test_a_seal_quorum_has_promised(replicas: Replicas, promised: tuple[int, ...]) -> None:
    for node in promised:
        await replicas.copies[node].answer_seal(5)
    with pytest.raises(NotLeader):
        await replicas.barrier().passed()


async def test_one_promise_alone_is_no_seal(replicas: Replicas) -> None:
    await replicas.copies[2].answer_seal(5)
    await replicas.barrier().passed()


async def test_a_promise_and_a_dead_replica(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead one may have promised, too."""
    monkeypatch.setattr("broker.replication.barrier.PATIENCE_S", 0.1)
    await replicas.copies[2].answer_seal(5)
    replicas.dead = {3}
    with pytest.raises(NotLeader):
        await replicas.barrier().passed()


async def test_a_replaced_disk_does_not_know_what_it_promised(replicas: Replicas) -> None:
    await replicas.copies[2].answer_seal(5)
    replicas.copies[3].replica.unknown = "this disk was replaced"
    with pytest.raises(NotLeader):
        await replicas.barrier().passed()


async def test_a_replica_that_has_not_heard_of_the_segment_is_asked_again(
    replicas: Replicas,
) -> None:
    replicas.dead = {3}
    replicas.tables[2].forget(TOPIC_ID, SID)
    replicas.after_answer = lambda node: replicas.open(2) if replicas.asked == 3 else None
    replicas.stores[2].log("t", TOPIC_ID)._segments.clear()
    await replicas.barrier().passed()
    assert replicas.asked >= 4


async def test_a_hundred_reads_at_once_cost_two_rounds(replicas: Replicas) -> None:
    barrier = replicas.barrier()
    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(barrier.passed)
    assert replicas.asked <= 4


async def test_a_read_does_not_live_from_a_round_that_had_begun(replicas: Replicas) -> None:
    """What was true before it came says nothing."""
    barrier = replicas.barrier()
    late: list[BaseException] = []

    async def read_late() -> None:
        for node in (2, 3):
            await replicas.copies[node].answer_seal(5)
        try:
            await barrier.passed()
        except NotLeader as error:
            late.append(error)

    async with anyio.create_task_group() as tasks:
        replicas.after_answer = lambda node: None
        tasks.start_soon(barrier.passed)
        while not replicas.asked:
            await anyio.lowlevel.checkpoint()
        tasks.start_soon(read_late)
    assert len(late) == 1


async def test_the_end_of_the_lease_ends_the_wait(replicas: Replicas) -> None:
    replicas.dead = {2, 3}
    barrier = replicas.barrier()
    with anyio.fail_after(1):
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                with pytest.raises(NotLeader):
                    await barrier.passed()

            tasks.start_soon(read)
            await anyio.sleep(0.05)
            barrier.end()
