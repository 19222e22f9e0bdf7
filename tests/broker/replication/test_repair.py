"""Repairs: what a copy has answered to one recoverer must not grow for another."""

from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from broker.ports import Buffer
from broker.replication import messages
from broker.replication.copies import Copies, LocalCopy
from broker.replication.peers import Conversation, PeerUnreachable
from broker.replication.repair import CatchUp
from broker.replication.replica import Definite
from broker.replication.store import Store
from engine.backends._memory import MemoryBackend
from engine.batch import Offset, parse_header, patch
from engine.durability import FsyncPolicy
from engine.format import SegmentEnd
from engine.producer_state import ProducerState
from tests.broker.one_node import TOPICS, batch

TOPIC_ID, SID, EPOCH = b"t" * 16, 1, 4
BATCHES = 3


class Source:
    """Another node's copy, one batch for each question. `before_answer` is what happens here
    while the answer is under way."""

    def __init__(self) -> None:
        self.before_answer: Callable[[], object] = lambda: None

    async def call(self, node: int, frame: Sequence[Buffer], *, timeout_s: float) -> memoryview:
        ask, _ = messages.decode_call(memoryview(b"".join(frame)))
        assert isinstance(ask, messages.ReadAsk)
        self.before_answer()
        return memoryview(b"".join(messages.encode(messages.ReadReply(), placed(ask.offset))))

    async def converse(self, node: int) -> Conversation:
        raise PeerUnreachable("this source only answers questions")


def placed(offset: int) -> bytes:
    data = bytearray(batch(b"v%d" % offset))
    patch(data, base_offset=Offset(offset), leader_epoch=EPOCH)
    return bytes(data)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store(TOPICS, MemoryBackend(), FsyncPolicy.parse("each"))
    store.attach()
    yield store
    store.detach()


def fresh_copy(store: Store) -> LocalCopy:
    """With the first batch, which came from the writer."""
    copy = Copies(store, on_failed=lambda key, error: None).open(
        store.log("t", TOPIC_ID), TOPIC_ID, sid=SID, base_offset=0, epoch=EPOCH,
        window=ProducerState(),
    )  # fmt: skip
    copy.append([(parse_header(placed(0)), [placed(0)])])
    return copy


def wanted(seal_epoch: int) -> messages.CopyAsk:
    """Three batches, please."""
    return messages.CopyAsk(TOPIC_ID, SID, seal_epoch, 2, BATCHES, 0, 0, 0)


async def test_a_short_copy_is_completed_under_the_promise(store: Store) -> None:
    copy = fresh_copy(store)
    catch_up = CatchUp(ensure=lambda *_: copy, store=store, peers=Source())
    assert await catch_up.copy(wanted(5)) == BATCHES
    assert copy.segment.durable_offset == BATCHES


async def test_a_repair_of_a_superseded_attempt_does_not_lengthen_what_was_answered(
    store: Store,
) -> None:
    """Else a writer that still hears of this copy acknowledges what the later seal cuts off."""
    copy, source = fresh_copy(store), Source()
    catch_up = CatchUp(ensure=lambda *_: copy, store=store, peers=source)
    source.before_answer = lambda: copy.replica.ask_promise(6)
    with pytest.raises(PeerUnreachable, match="6"):
        await catch_up.copy(wanted(5))
    answer = await copy.answer_seal(6)
    assert isinstance(answer, Definite)
    assert answer.end.end_offset == 1
    assert copy.segment.end_offset == 1


async def test_a_deposed_writer_hears_nothing_of_repairs(store: Store) -> None:
    copy = fresh_copy(store)
    heard: list[int] = []
    copy.on_durable = heard.append
    await CatchUp(ensure=lambda *_: copy, store=store, peers=Source()).copy(wanted(5))
    assert copy.segment.durable_offset == BATCHES
    assert max(heard, default=0) <= 1


async def test_a_source_of_another_version_is_one_that_cannot_be_reached(store: Store) -> None:
    """While nodes are upgraded one by one, an answer may be one that this node cannot read: the
    next holder is asked, or this one again, and no node ends."""

    class Stranger(Source):
        async def call(self, node: int, frame: Sequence[Buffer], *, timeout_s: float) -> memoryview:
            return memoryview(b"\x00\x00\x00\x01\xc1")

    copy = fresh_copy(store)
    catch_up = CatchUp(ensure=lambda *_: copy, store=store, peers=Stranger())
    end = SegmentEnd(BATCHES, 0, 0, 0)
    with pytest.raises(PeerUnreachable, match="language"):
        await catch_up.pull(copy, TOPIC_ID, source=2, end=end)
