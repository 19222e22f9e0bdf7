"""The follower's side of replication: follows every open segment it holds a copy of.

One conversation per writing node carries all its segments. It is opened when the first segment is
to be followed, opened again after it broke, and each time tells the writer from where to go on:
from what is durable here. Every frame is checked before it is appended, acknowledgements follow the
disk, and several of one turn of the loop become one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio
import structlog
from anyio.abc import TaskGroup

from broker.bell import Bell
from broker.errors import StorageFailed
from broker.replication import messages
from broker.replication.copies import LocalCopy
from broker.replication.peers import Conversation, Peers, PeerUnreachable
from broker.replication.replica import ReplicaPhase
from broker.replication.space import Space
from engine.batch import BatchHeader, CorruptBatchError, Placed, checked_batches
from engine.errors import EngineError, QueueFullError

_log = structlog.get_logger(__name__)

REFUSED_PAUSE_S = 0.02
"""Before a segment is asked for again."""

RETRY_PAUSE_S = (0.05, 1.0)
"""Before the first and at most before any later attempt to reach a writer."""


@dataclass(slots=True)
class Following:
    """One segment that this node follows."""

    topic_id: bytes
    sid: int
    epoch: int
    copy: LocalCopy
    handle: int = -1


class Followers:
    """All segments that this node follows, by writer. `run` it in a task."""

    def __init__(self, peers: Peers, *, incarnation: Callable[[], int], space: Space) -> None:
        self._peers = peers
        self._incarnation = incarnation
        self._space = space
        self._writers: dict[int, _Writer] = {}
        self._tasks: TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            try:
                for writer in self._writers.values():
                    self._tasks.start_soon(writer.run)
                await anyio.sleep_forever()
            finally:
                self._tasks = None

    def follow(self, node: int, following: Following) -> None:
        """Begin to copy a segment from its writer."""
        writer = self._writers.get(node)
        if writer is None:
            writer = self._writers[node] = _Writer(
                node, self._peers, self._incarnation, self._space
            )
            if self._tasks is not None:
                self._tasks.start_soon(writer.run)
        writer.add(following)

    def unfollow(self, node: int, topic_id: bytes, sid: int) -> None:
        """The segment is closed, or somebody else's now."""
        writer = self._writers.get(node)
        if writer is not None:
            writer.remove(topic_id, sid)


class _Writer:
    """One writing node, and the conversation with it."""

    def __init__(
        self, node: int, peers: Peers, incarnation: Callable[[], int], space: Space
    ) -> None:
        self._node = node
        self._peers = peers
        self._incarnation = incarnation
        self._space = space
        self._followed: dict[tuple[bytes, int], Following] = {}
        self._by_handle: dict[int, Following] = {}
        self._next_handle = 0
        self._news: list[messages.ToWriter] = []
        self._acks: dict[int, int] = {}
        self._wake = Bell()
        self._wanted = anyio.Event()
        self._conversation: Conversation | None = None

    def add(self, following: Following) -> None:
        self._followed[following.topic_id, following.sid] = following
        self._wanted.set()
        if self._conversation is not None:
            self._introduce(following)

    def remove(self, topic_id: bytes, sid: int) -> None:
        following = self._followed.pop((topic_id, sid), None)
        if following is not None:
            self._refuse(following)

    def _introduce(self, following: Following) -> None:
        if following.copy.replica.phase is not ReplicaPhase.ACCEPTING:
            return  # promised: the writer has nothing to send and is to hear nothing
        self._next_handle += 1
        following.handle = handle = self._next_handle
        self._by_handle[handle] = following
        copy = following.copy
        copy.on_durable = lambda end_offset: self._acknowledge(handle, end_offset)
        self._say(
            messages.Follow(
                handle,
                following.topic_id,
                following.sid,
                following.epoch,
                copy.segment.end_offset,
                self._incarnation(),
            )
        )
        if copy.segment.durable_offset > copy.segment.base_offset:
            self._acknowledge(handle, copy.segment.durable_offset)

    def _say(self, message: messages.ToWriter) -> None:
        self._news.append(message)
        self._wake.ring()

    def _acknowledge(self, handle: int, end_offset: int) -> None:
        if handle in self._by_handle:
            self._acks[handle] = end_offset
            self._wake.ring()

    async def run(self) -> None:
        pause_s = RETRY_PAUSE_S[0]
        while True:
            await self._wait_until_wanted()
            try:
                self._conversation = await self._peers.converse(self._node)
                pause_s = RETRY_PAUSE_S[0]
                await self._talk(self._conversation)
            except* PeerUnreachable:
                pass
            except* ValueError as error:
                _log.warning("a writer speaks another language", node=self._node, why=str(error))
            finally:
                conversation, self._conversation = self._conversation, None
                if conversation is not None:
                    await conversation.aclose()
            await anyio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_PAUSE_S[1])

    async def _wait_until_wanted(self) -> None:
        while not self._followed:
            self._wanted = anyio.Event()
            await self._wanted.wait()

    async def _talk(self, conversation: Conversation) -> None:
        self._by_handle.clear()
        self._news.clear()
        self._acks.clear()
        for following in self._followed.values():
            self._introduce(following)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._speak, conversation)
            while True:
                message, batches = messages.decode_to_follower(await conversation.receive())
                known = self._by_handle.get(message.handle)
                if known is None:
                    continue
                if isinstance(message, messages.Refuse):
                    del self._by_handle[message.handle]
                    tasks.start_soon(self._introduce_again, known)
                elif self._space.is_short:
                    self._refuse(known)
                    tasks.start_soon(self._introduce_with_room, known)
                else:
                    await self._listen(known, message, batches)

    async def _speak(self, conversation: Conversation) -> None:
        while True:
            news, self._news = self._news, []
            acks, self._acks = self._acks, {}
            for message in news:
                await conversation.send(messages.encode(message))
            for handle, end_offset in acks.items():
                await conversation.send(messages.encode(messages.Acknowledge(handle, end_offset)))
            if not self._news and not self._acks:
                await self._wake.wait()

    async def _introduce_again(self, following: Following) -> None:
        """The writer does not know yet that it is the writer, or we not yet that it no longer is:
        the metadata reaches everybody in its own time."""
        await anyio.sleep(REFUSED_PAUSE_S)
        if self._followed.get((following.topic_id, following.sid)) is following:
            self._introduce(following)

    async def _introduce_with_room(self, following: Following) -> None:
        await self._space.until(is_short=False)
        await self._introduce_again(following)

    def _refuse(self, following: Following) -> None:
        """Take nothing more of this segment, and let the writer know."""
        if self._by_handle.pop(following.handle, None) is not None:
            self._acks.pop(following.handle, None)
            self._say(messages.Unfollow(following.handle))

    async def _listen(
        self, following: Following, message: messages.ToFollower, batches: memoryview
    ) -> None:
        match message:
            case messages.Head(head=head):
                following.copy.received_head(head)
            case messages.Frames():
                await self._take(following, batches)

    async def _take(self, following: Following, batches: memoryview) -> None:
        """Append what the replica accepts. While too much waits for the disk nothing more is read,
        and the writers wait, too."""
        copy = following.copy
        try:
            run = list(checked_batches(batches))
            while not self._append(following, run):
                await copy.room()
        except CorruptBatchError as error:
            raise PeerUnreachable(f"damaged frame from node {self._node}: {error}") from error
        except (EngineError, StorageFailed) as error:
            _log.error("a copy takes no more", sid=following.sid, error=str(error))
            self._refuse(following)

    def _append(self, following: Following, run: Sequence[tuple[BatchHeader, memoryview]]) -> bool:
        """False if it has to wait for the disk."""
        if self._by_handle.get(following.handle) is not following:
            return True
        copy = following.copy
        batches: list[Placed] = []
        epoch, end_offset = copy.replica.epoch, copy.replica.end_offset
        for header, batch in run:
            if header.leader_epoch == epoch and header.base_offset == end_offset:
                batches.append((header, [batch]))
                end_offset = header.next_offset
        if batches and copy.replica.accepts(epoch=epoch, base_offset=copy.replica.end_offset):
            try:
                copy.append(batches)
            except QueueFullError:
                return False
        return True
