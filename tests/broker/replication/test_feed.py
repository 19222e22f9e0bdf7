"""Feeds: a follower that is waited for must not wait for us."""

from collections.abc import AsyncIterator, Sequence

import anyio
import pytest

from broker.ports import Buffer
from broker.replication import messages
from broker.replication.copies import Copies, LocalCopy
from broker.replication.feed import Feed
from broker.replication.store import Store
from engine.backends._memory import MemoryBackend
from engine.batch import Offset, parse_header, patch
from engine.durability import FsyncPolicy
from engine.producer_state import ProducerState
from tests.broker.one_node import TOPICS, batch

TOPIC_ID, SID, EPOCH = b"t" * 16, 1, 4


class Follower:
    """The other end: takes everything, says nothing."""

    def __init__(self) -> None:
        self.received = b""
        self.came = anyio.Event()

    async def send(self, frame: Sequence[Buffer]) -> None:
        message, rest = messages.decode_to_follower(memoryview(b"".join(frame)))
        if isinstance(message, messages.Frames):
            self.received += bytes(rest)
            self.came.set()

    async def receive(self) -> memoryview:
        await anyio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        pass


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store(TOPICS, MemoryBackend(), FsyncPolicy.parse("each"))
    yield store
    store.detach()


def placed(offset: int) -> bytes:
    data = bytearray(batch(b"v%d" % offset))
    patch(data, base_offset=Offset(offset), leader_epoch=EPOCH)
    return bytes(data)


def feed(store: Store, copy: LocalCopy, follower: Follower) -> Feed:
    return Feed(
        copy, follower, handle=1, from_offset=0, store=store,
        on_ack=lambda end: None, on_live=lambda live: None,
    )  # fmt: skip


async def test_a_follower_that_comes_before_the_sync_gets_the_batch_that_waits_for_it(
    store: Store,
) -> None:
    """The batch is in no file yet and in no tail, for nobody followed: no later append may be
    needed to send it, because with acks=all none comes before this one is acknowledged."""
    copy = Copies(store, on_failed=lambda key, error: None).open(
        store.log("t", TOPIC_ID), TOPIC_ID, sid=SID, base_offset=0, epoch=EPOCH,
        window=ProducerState(),
    )  # fmt: skip
    copy.append([(parse_header(placed(0)), [placed(0)])])
    follower = Follower()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed(store, copy, follower).run)
        await anyio.wait_all_tasks_blocked()
        assert follower.received == b""
        store.attach()
        with anyio.fail_after(10):
            await follower.came.wait()
        assert follower.received == placed(0)
        tasks.cancel_scope.cancel()


async def test_a_follower_that_keeps_up_is_sent_what_no_file_has_yet(store: Store) -> None:
    """Else two disks would sync one after the other."""
    copy = Copies(store, on_failed=lambda key, error: None).open(
        store.log("t", TOPIC_ID), TOPIC_ID, sid=SID, base_offset=0, epoch=EPOCH,
        window=ProducerState(),
    )  # fmt: skip
    follower = Follower()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed(store, copy, follower).run)
        await anyio.wait_all_tasks_blocked()
        copy.append([(parse_header(placed(0)), [placed(0)])])
        with anyio.fail_after(10):
            await follower.came.wait()
        assert copy.segment.durable_offset == 0
        tasks.cancel_scope.cancel()


async def test_a_follower_that_was_refused_and_acknowledges_late_does_not_count_as_live(
    store: Store,
) -> None:
    """Else appends with acks=all are taken for a quorum that is not there, and wait in vain."""
    copy = Copies(store, on_failed=lambda key, error: None).open(
        store.log("t", TOPIC_ID), TOPIC_ID, sid=SID, base_offset=0, epoch=EPOCH,
        window=ProducerState(),
    )  # fmt: skip
    lives: list[bool] = []
    acknowledged: list[int] = []
    late = Feed(
        copy, Follower(), handle=1, from_offset=0, store=store,
        on_ack=acknowledged.append, on_live=lives.append,
    )  # fmt: skip
    late.closed()
    late.acknowledged(0)
    assert lives.count(True) == lives.count(False)
    assert acknowledged == [0]
