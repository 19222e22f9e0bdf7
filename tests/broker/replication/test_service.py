"""What one follower asks for, and what becomes of it when a part of it cannot be given."""

import errno
import gc
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from broker.ports import Buffer
from broker.replication import header as segment_header
from broker.replication import messages
from broker.replication.copies import Copies, LocalCopy
from broker.replication.peers import PeerUnreachable
from broker.replication.repair import CatchUp
from broker.replication.service import Service, _Served
from broker.replication.store import Store
from broker.replication.writer import Writer
from engine.backends._memory import MemoryBackend
from engine.batch import Offset, parse_header, patch
from engine.durability import FsyncPolicy
from engine.producer_state import ProducerState
from tests.broker.no_peers import NoPeers
from tests.broker.one_node import TOPICS, batch

TOPIC_ID, EPOCH, FOLLOWER = b"t" * 16, 4, 2
DISKS = {11: b"old disk", 12: b"new disk", 13: b"new disk"}
"""By the incarnation of the follower that has it."""


class Stream:
    """The follower's end of a conversation, and the writer's."""

    def __init__(self) -> None:
        self.heard: list[messages.ToFollower] = []
        self.records = b""
        self.is_stuck = self.is_sending = self.is_broken = False
        self._said: deque[messages.ToWriter] = deque()
        self._news = anyio.Event()

    def say(self, message: messages.ToWriter) -> None:
        self._said.append(message)
        self._tell()

    def _tell(self) -> None:
        event, self._news = self._news, anyio.Event()
        event.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(10):
            while not condition():
                await self._news.wait()

    async def send(self, frame: Sequence[Buffer]) -> None:
        """Like a socket: what is cancelled half way breaks it for everybody."""
        try:
            while self.is_stuck:
                self.is_sending = True
                await self._news.wait()
        except anyio.get_cancelled_exc_class():
            self.is_broken = True
            raise
        message, rest = messages.decode_to_follower(memoryview(b"".join(frame)))
        self.heard.append(message)
        self.records += rest
        self._tell()

    async def receive(self) -> memoryview:
        while not self._said:
            await self._news.wait()
        return memoryview(b"".join(messages.encode(self._said.popleft())))

    async def aclose(self) -> None:
        pass

    def set_stuck(self, is_stuck: bool) -> None:
        self.is_stuck = is_stuck
        self._tell()


class Leader:
    """A node that writes segments 1 and 2 of one topic."""

    def __init__(self, backend: MemoryBackend) -> None:
        self.store = Store(TOPICS, backend, FsyncPolicy.parse("each"))
        copies = Copies(self.store, on_failed=lambda key, error: None)
        self.led: dict[int, tuple[LocalCopy, Writer]] = {}
        for sid in (1, 2):
            copy = copies.open(
                self.store.log("t", TOPIC_ID), TOPIC_ID, sid=sid, base_offset=0, epoch=EPOCH,
                window=ProducerState(),
            )  # fmt: skip
            writer = Writer(
                node=1, disk=b"d", epoch=EPOCH, base_offset=0, replicas=(1, FOLLOWER), quorum=2,
                window=ProducerState(),
            )  # fmt: skip
            self.led[sid] = copy, writer
        peers = NoPeers()
        self.service = Service(
            copies=copies,
            store=self.store,
            catch_up=CatchUp(ensure=copies.get, store=self.store, peers=peers),
            led=lambda topic_id, sid: self.led.get(sid),
            led_changed=anyio.sleep_forever,
            held=lambda topic_id, sid: None,
            disk_of=lambda node, incarnation: DISKS.get(incarnation),
            monotonic=lambda: 0.0,
            on_progress=lambda topic_id, sid: None,
        )

    def append(self, sid: int, offset: int) -> None:
        copy, writer = self.led[sid]
        data = bytearray(batch(b"v%d" % offset))
        patch(data, base_offset=Offset(offset), leader_epoch=EPOCH)
        writer.accept(offset, copy.append([(parse_header(data), [bytes(data)])]))

    async def written(self, sid: int, end_offset: int) -> None:
        with anyio.fail_after(10):
            while self.led[sid][0].segment.durable_offset < end_offset:
                await anyio.sleep(0.001)


@asynccontextmanager
async def leading(backend: MemoryBackend | None = None) -> AsyncIterator[Leader]:
    leader = Leader(backend or MemoryBackend())
    leader.store.attach()
    yield leader
    leader.store.detach()


def follow(sid: int, handle: int, incarnation: int = 11) -> messages.Follow:
    return messages.Follow(handle, TOPIC_ID, sid, EPOCH, 0, incarnation)


async def test_a_damaged_head_is_told_to_who_asks_and_ends_no_node() -> None:
    backend = MemoryBackend()
    async with leading(backend) as leader:
        copy, _ = leader.led[1]
        copy.make_head = lambda: segment_header.encode(producers=ProducerState().snapshot())
        leader.append(1, 0)
        await leader.written(1, 1)
        leader.service._held = lambda topic_id, sid: copy.segment
        ask = messages.ReadAsk(TOPIC_ID, 1, 0, 1000, 1)
        healthy, _ = messages.decode_reply(memoryview(b"".join(await leader.service.answer(ask))))
        assert isinstance(healthy, messages.ReadReply) and healthy.head and not healthy.why
        backend.fs.contents(copy.log.directory / "1" / "head")[20] ^= 1
        reply, _ = messages.decode_reply(memoryview(b"".join(await leader.service.answer(ask))))
        assert isinstance(reply, messages.ReadReply)
        assert "fails its checksum" in reply.why


async def test_a_segment_that_cannot_be_read_holds_up_no_other_and_ends_no_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.replication.service.UNREADABLE_PAUSE_S", 0.01)
    backend = MemoryBackend()
    async with leading(backend) as leader, anyio.create_task_group() as tasks:
        for sid in (1, 2):
            leader.append(sid, 0)
            await leader.written(sid, 1)
        backend.fail_next("read", errno.EIO)
        stream = Stream()
        tasks.start_soon(leader.service.serve, FOLLOWER, stream)
        stream.say(follow(1, handle=1))
        await stream.until(lambda: any(isinstance(m, messages.Refuse) for m in stream.heard))
        stream.say(follow(2, handle=2))
        await stream.until(lambda: messages.Frames(2, 0) in stream.heard)
        stream.say(follow(1, handle=3))
        await stream.until(lambda: messages.Frames(3, 0) in stream.heard)
        tasks.cancel_scope.cancel()


async def test_a_topic_that_is_deleted_while_a_follower_catches_up_ends_no_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.replication.service.UNREADABLE_PAUSE_S", 0.01)
    async with leading() as leader, anyio.create_task_group() as tasks:
        leader.append(1, 0)
        await leader.written(1, 1)
        leader.store.log("t", TOPIC_ID).delete(lambda error: None)
        stream = Stream()
        tasks.start_soon(leader.service.serve, FOLLOWER, stream)
        stream.say(follow(1, handle=1))
        await stream.until(lambda: any(isinstance(m, messages.Refuse) for m in stream.heard))
        tasks.cancel_scope.cancel()


async def test_a_follower_that_wants_no_more_of_one_segment_breaks_no_frame() -> None:
    """All segments between two nodes share a conversation: one that is given up while its frame is
    under way must not take the others with it."""
    async with leading() as leader, anyio.create_task_group() as tasks:
        for sid in (1, 2):
            leader.append(sid, 0)
            await leader.written(sid, 1)
        stream = Stream()
        stream.set_stuck(True)
        tasks.start_soon(leader.service.serve, FOLLOWER, stream)
        stream.say(follow(1, handle=1))
        with anyio.fail_after(10):
            while not stream.is_sending:
                await anyio.sleep(0.001)
        stream.say(messages.Unfollow(1))
        for _ in range(20):  # turns of the loop: to hear it, and to cancel whatever it would
            await anyio.lowlevel.checkpoint()
        stream.set_stuck(False)
        stream.say(follow(2, handle=2))
        await stream.until(lambda: messages.Frames(2, 0) in stream.heard)
        leader.append(1, 1)
        await anyio.wait_all_tasks_blocked()
        assert messages.Frames(1, 1) not in stream.heard
        assert not stream.is_broken
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("before", "after"),
    [pytest.param(11, 12, id="another-disk"), pytest.param(12, 13, id="the-same-disk")],
)
async def test_what_a_follower_said_in_an_earlier_life_does_not_count_in_this_one(
    before: int, after: int
) -> None:
    """Its disk may be another one. And on the same disk nothing was synced when the power failed:
    the copy comes back without it, and what is still under way is untrue."""
    async with leading() as leader, anyio.create_task_group() as tasks:
        leader.append(1, 0)
        writer = leader.led[1][1]
        old, new = Stream(), Stream()
        for stream, incarnation in ((old, before), (new, after)):
            tasks.start_soon(leader.service.serve, FOLLOWER, stream)
            stream.say(follow(1, handle=1, incarnation=incarnation))
            await stream.until(lambda: messages.Frames(1, 0) in stream.heard)  # noqa: B023
        old.say(messages.Acknowledge(1, 1))
        await anyio.wait_all_tasks_blocked()
        assert FOLLOWER not in writer.holders()
        new.say(messages.Acknowledge(1, 1))
        await anyio.wait_all_tasks_blocked()
        assert writer.holders()[FOLLOWER] == DISKS[after]
        tasks.cancel_scope.cancel()


async def test_a_follower_that_is_refused_again_and_again_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It asks for months: the segment's writer is away, or its disk cannot be read."""
    served: list[weakref.ref[object]] = []

    class Watched(_Served):
        def __init__(self) -> None:
            super().__init__()
            served.append(weakref.ref(self))

    monkeypatch.setattr("broker.replication.service._Served", Watched)
    monkeypatch.setattr("broker.replication.service.HEARSAY_S", 0.001)
    async with leading() as leader, anyio.create_task_group() as tasks:
        stream = Stream()
        tasks.start_soon(leader.service.serve, FOLLOWER, stream)
        for handle in range(1, 21):
            stream.say(follow(3, handle=handle))
        await stream.until(lambda: len(stream.heard) == 20)
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        assert len(served) == 20
        assert sum(one() is not None for one in served) <= 1, "but for the one at hand"
        tasks.cancel_scope.cancel()


async def test_a_follower_of_another_version_ends_its_conversation_and_no_node() -> None:
    class Stranger(Stream):
        async def receive(self) -> memoryview:
            return memoryview(b"\x00\x00\x00\x01\xc1")

    async with leading() as leader:
        with anyio.fail_after(10):
            await leader.service.serve(FOLLOWER, Stranger())


async def test_a_header_that_cannot_be_read_is_the_senders_fault() -> None:
    async with leading() as leader:
        copy = leader.led[1][0]
        for head in (b"\xc1", b"\x93\x63\xc4\x00\xc4\x00", b"\x93\x01\xc4\x02xx\xc4\x00"):
            with pytest.raises(PeerUnreachable):
                copy.received_head(head)
        assert copy.head == b""
