"""A question about a segment that is being dropped, which must not end the node that is asked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from broker.errors import StorageFailed
from broker.replication.copies import Copies, LocalCopy
from broker.replication.replica import Refused
from broker.replication.store import Store
from engine.backends._memory import MemoryBackend
from engine.batch import parse_header, patch
from engine.durability import FsyncPolicy
from engine.format import SegmentEnd
from engine.records import Record, build
from tests.broker.one_node import TOPICS

TOPIC_ID, SID = b"t" * 16, 1


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store(TOPICS, MemoryBackend(), FsyncPolicy.parse("each"))
    store.attach()
    yield store
    store.detach()


def append(store: Store, copy: LocalCopy, value: bytes) -> int:
    batch = build([Record(0, 0, None, value)], base_timestamp=0)
    end = copy.segment.end_offset
    patch(batch, base_offset=end, leader_epoch=1)
    return copy.append([(parse_header(batch), [batch])])


async def test_an_append_that_is_handed_over_at_once_holds_up_no_later_one(store: Store) -> None:
    copy = Copies(store, on_failed=lambda key, error: None).open(
        store.log("t", TOPIC_ID), TOPIC_ID, sid=SID, base_offset=0, epoch=1, window=None
    )
    for at_once in (False, True, True, False, True, False):
        store.flushes_soon = not at_once
        end_offset = append(store, copy, b"value")
        if at_once:
            store.flush()
        with anyio.fail_after(5):
            while copy.segment.durable_offset < end_offset:
                await copy.became_durable()


async def test_who_comes_back_while_others_are_answered_pays_for_a_commit_of_his_own() -> None:
    held: list[Callable[[], None]] = []
    written: list[Path] = []

    def hold(operation: str, _: int, ready: Callable[[], None]) -> None:
        held.append(ready) if operation == "write" else ready()

    def count(operation: str, path: Path) -> None:
        if operation == "write" and path.suffix == ".log":
            written.append(path)

    backend = MemoryBackend(schedule=hold, on_operation=count)
    store = Store(TOPICS, backend, FsyncPolicy.parse("each"))
    store.attach()
    copy = Copies(store, on_failed=lambda key, error: None).open(
        store.log("t", TOPIC_ID), TOPIC_ID, sid=SID, base_offset=0, epoch=1, window=None
    )

    def come_back(end_offset: int) -> None:
        if end_offset == 1:
            asyncio.get_running_loop().call_soon(ask_again)

    def ask_again() -> None:
        append(store, copy, b"the first, again")
        store.flush()

    copy.on_durable = come_back
    append(store, copy, b"the first")
    with anyio.fail_after(5):
        while not held:
            await anyio.lowlevel.checkpoint()
        append(store, copy, b"the second")
        store.flush()
        while copy.segment.durable_offset < 3:
            while held:
                held.pop()()
            await anyio.lowlevel.checkpoint()
    assert len(written) == 2
    store.detach()


async def dropped(store: Store) -> LocalCopy:
    log = store.log("t", TOPIC_ID)
    copy = Copies(store, on_failed=lambda key, error: None).open(
        log, TOPIC_ID, sid=SID, base_offset=0, epoch=1, window=None
    )
    await store.drop(log, SID)
    return copy


async def test_a_seal_of_a_segment_that_is_dropped(store: Store) -> None:
    copy = await dropped(store)
    with pytest.raises(StorageFailed, match="dropped"):
        await copy.answer_seal(5)
    with pytest.raises(StorageFailed, match="dropped"):
        await store.seal(copy.segment, SegmentEnd(0, 0, 0, -1))


async def test_a_seal_that_was_promised_to_another(store: Store) -> None:
    """That one is no failure: the asker is told."""
    copy = Copies(store, on_failed=lambda key, error: None).open(
        store.log("t", TOPIC_ID), TOPIC_ID, sid=SID, base_offset=0, epoch=1, window=None
    )
    await copy.answer_seal(7)
    copy.replica.promised_epoch = 0
    assert await copy.answer_seal(5) == Refused(7)
