"""The recoverer's patience: too few answers that vouch for a copy mean waiting, never guessing."""

import errno
from collections.abc import Sequence

import anyio

from broker.ports import Buffer
from broker.replication import messages
from broker.replication.copies import Copies
from broker.replication.peers import Conversation, PeerUnreachable
from broker.replication.recoverer import Patient, Recoverer
from broker.replication.repair import CatchUp
from broker.replication.seal import Commit
from broker.replication.store import Store
from engine.backends._memory import MemoryBackend
from engine.batch import Offset, parse_header, patch
from engine.durability import FsyncPolicy
from engine.producer_state import ProducerState
from tests.broker.one_node import TOPICS, batch

PATIENT = Patient("t", b"t" * 16, 1, 5, replicas=(2, 3, 4), void=frozenset(), spares=())


class Replicas:
    """Three other nodes, each with its answer to SEAL."""

    def __init__(self, answers: dict[int, messages.SealReply]) -> None:
        self.answers = answers
        self.asked: set[int] = set()
        self.all_were_asked = anyio.Event()

    async def call(self, node: int, frame: Sequence[Buffer], *, timeout_s: float) -> memoryview:
        self.asked.add(node)
        if self.asked == set(self.answers):
            self.all_were_asked.set()
        return memoryview(b"".join(messages.encode(self.answers[node])))

    async def converse(self, node: int) -> Conversation:
        raise PeerUnreachable("these only answer questions")


def recoverer(peers: Replicas) -> Recoverer:
    store = Store(TOPICS, MemoryBackend(), FsyncPolicy.parse("each"))
    copies = Copies(store, on_failed=lambda key, error: None)
    catch_up = CatchUp(ensure=copies.get, store=store, peers=peers)
    return Recoverer(node=1, copies=copies, peers=peers, catch_up=catch_up)


DEFINITE = messages.SealReply("definite", 0, 0, 0, -1)
UNKNOWN = messages.SealReply("unknown", why="this disk was replaced")


async def test_two_definite_answers_of_three_are_enough() -> None:
    decision = await recoverer(Replicas({2: DEFINITE, 3: UNKNOWN, 4: DEFINITE})).recover(PATIENT)
    assert isinstance(decision, Commit)


async def test_when_two_of_three_cannot_vouch_the_node_lives_and_the_seal_waits() -> None:
    """All have answered and nothing is decided: that is for the next attempt, which cancels this
    one."""
    peers = Replicas({2: DEFINITE, 3: UNKNOWN, 4: UNKNOWN})
    decided: list[object] = []

    async def recover() -> None:
        decided.append(await recoverer(peers).recover(PATIENT))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(recover)
        await peers.all_were_asked.wait()
        await anyio.wait_all_tasks_blocked()
        assert not decided
        tasks.cancel_scope.cancel()


async def test_a_recoverer_whose_own_copy_has_failed_lives_and_asks_the_others() -> None:
    """Its disk was full when it was the turn of this very copy. What it cannot vouch for, two
    others can."""
    backend = MemoryBackend()
    store = Store(TOPICS, backend, FsyncPolicy.parse("each"))
    store.attach()
    copies = Copies(store, on_failed=lambda key, error: None)
    copy = copies.open(
        store.log("t", PATIENT.topic_id), PATIENT.topic_id, sid=1, base_offset=0, epoch=4,
        window=ProducerState(),
    )  # fmt: skip
    backend.fail_next("write", errno.ENOSPC, path=".log")
    data = bytearray(batch(b"v"))
    patch(data, base_offset=Offset(0), leader_epoch=4)
    copy.append([(parse_header(data), [bytes(data)])])
    with anyio.fail_after(10):
        while copy.segment.failed is None:
            await anyio.sleep(0.001)
    peers = Replicas({3: DEFINITE, 4: DEFINITE})
    catch_up = CatchUp(ensure=copies.get, store=store, peers=peers)
    own = Recoverer(node=2, copies=copies, peers=peers, catch_up=catch_up)
    with anyio.fail_after(10):
        decision = await own.recover(PATIENT)
    assert isinstance(decision, Commit)
    store.detach()
