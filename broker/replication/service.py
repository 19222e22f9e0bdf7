"""What this node answers to other nodes: questions about its copies, and follow streams of its own
segments."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio
import structlog

from broker.errors import StorageFailed
from broker.ports import Buffer
from broker.replication import messages
from broker.replication.barrier import answer_unfenced
from broker.replication.copies import Copies, LocalCopy
from broker.replication.feed import Feed
from broker.replication.peers import Conversation, PeerUnreachable
from broker.replication.recoverer import answer_seal, to_reply
from broker.replication.repair import CatchUp
from broker.replication.store import Store
from broker.replication.writer import Writer
from engine.segment import Segment

_log = structlog.get_logger(__name__)

HEARSAY_S = 1.0
"""How long a follower that has heard of a new writer before the writer itself is kept waiting."""

Led = Callable[[bytes, int], tuple[LocalCopy, Writer] | None]
"""(topic id, sid) → the copy and writer of a segment this process may write; None if it may not."""

Held = Callable[[bytes, int], Segment | None]
"""(topic id, sid) → this node's segment, sealed or not."""

UNREADABLE_PAUSE_S = 1.0
"""Before a follower may ask again for what could not be read."""

DiskOf = Callable[[int, int], bytes | None]
"""(node, incarnation) → its disk; None if that is not the registered incarnation of a live node."""


class Service:
    """One per node."""

    def __init__(
        self,
        *,
        copies: Copies,
        store: Store,
        catch_up: CatchUp,
        led: Led,
        led_changed: Callable[[], Awaitable[None]],
        held: Held,
        disk_of: DiskOf,
        monotonic: Callable[[], float],
        on_progress: Callable[[bytes, int], None],
    ) -> None:
        """`led_changed` waits for the next time when `led` may answer otherwise.
        `on_progress(topic_id, sid)` is called when a follower of a segment that we write has
        said something: a high watermark may have moved, or a follower come alive."""
        self._copies = copies
        self._store = store
        self._catch_up = catch_up
        self._led = led
        self._led_changed = led_changed
        self._held = held
        self._disk_of = disk_of
        self._monotonic = monotonic
        self._on_progress = on_progress

    # -- calls

    async def answer(self, call: messages.Call) -> Sequence[Buffer]:
        """Raises PeerUnreachable when nothing useful can be said: the asker tries again."""
        match call:
            case messages.SealAsk():
                return await self._seal(call)
            case messages.CopyAsk():
                return await self._copy(call)
            case messages.UnfencedAsk():
                return answer_unfenced(self._copies, call)
            case messages.ReadAsk():
                return await self._read(call)
            case _:
                raise PeerUnreachable(f"{type(call).__name__} is not for the replication service")

    async def _seal(self, ask: messages.SealAsk) -> Sequence[Buffer]:
        try:
            answer = await answer_seal(self._copies, ask.topic_id, ask.sid, ask.seal_epoch)
        except PeerUnreachable as error:
            return messages.encode(messages.SealReply("later", why=str(error)))
        except StorageFailed as error:
            return messages.encode(messages.SealReply("unknown", why=str(error)))
        return messages.encode(to_reply(answer))

    async def _copy(self, ask: messages.CopyAsk) -> Sequence[Buffer]:
        try:
            return messages.encode(messages.CopyReply(await self._catch_up.copy(ask)))
        except (PeerUnreachable, StorageFailed) as error:
            return messages.encode(messages.CopyReply(-1, str(error)))

    async def _read(self, ask: messages.ReadAsk) -> Sequence[Buffer]:
        segment = self._held(ask.topic_id, ask.sid)
        if segment is None:
            return messages.encode(messages.ReadReply("no copy here"))
        if not segment.base_offset <= ask.offset < segment.end_offset:
            return messages.encode(messages.ReadReply(f"this copy ends at {segment.end_offset}"))
        try:
            data = await self._store.read(
                segment, ask.offset, size_max=ask.size_max, end_offset=ask.end_offset
            )
            is_first = ask.offset == segment.base_offset
            head = await self._store.head(segment) if is_first else None
        except StorageFailed as error:
            return messages.encode(messages.ReadReply(str(error)))
        return messages.encode(messages.ReadReply(head=head or b""), data)

    # -- follow streams

    async def serve(self, node: int, conversation: Conversation) -> None:
        """Feed one follower all it asks for, until the conversation ends."""
        served: dict[int, _Served] = {}
        try:
            async with anyio.create_task_group() as tasks:
                while True:
                    message = messages.decode_to_writer(await conversation.receive())
                    if isinstance(message, messages.Follow):
                        asked = served[message.handle] = _Served()
                        refused = partial(served.pop, message.handle, None)
                        tasks.start_soon(
                            self._serve_one, node, conversation, message, asked, refused
                        )
                    elif message.handle in served:
                        served[message.handle].hear(message)
                        if isinstance(message, messages.Unfollow):
                            del served[message.handle]
        except* PeerUnreachable:
            pass
        except* ValueError as error:
            _log.warning("a follower speaks another language", node=node, why=str(error))
        finally:
            for asked in served.values():
                asked.close()
            await conversation.aclose()

    async def _serve_one(
        self,
        node: int,
        conversation: Conversation,
        follow: messages.Follow,
        asked: "_Served",
        refused: Callable[[], object],
    ) -> None:
        """What cannot be read here, a damaged file or one that was just deleted, holds up its own
        segment and nothing else."""
        why = await self._feed_soon(node, conversation, follow, asked)
        if asked.feed is not None:
            try:
                await asked.feed.run()
            except StorageFailed as error:
                _log.error("a follower cannot be fed", sid=follow.sid, error=str(error))
                await anyio.sleep(UNREADABLE_PAUSE_S)
                why = str(error)
        if why and not asked.is_over:
            asked.close()
            refused()
            await conversation.send(messages.encode(messages.Refuse(follow.handle, why)))

    async def _feed_soon(
        self, node: int, conversation: Conversation, follow: messages.Follow, asked: "_Served"
    ) -> str:
        """Give `asked` its feed, or say why there is none. The metadata reaches everybody in its
        own time: who asks may have heard before us that we are the writer."""
        feed = self._feed(node, conversation, follow)
        with anyio.move_on_after(HEARSAY_S):
            while isinstance(feed, str) and not asked.is_over:
                await self._led_changed()
                if not asked.is_over:
                    feed = self._feed(node, conversation, follow)
        if isinstance(feed, str):
            return feed
        asked.begin(feed)
        return ""

    def _feed(self, node: int, conversation: Conversation, follow: messages.Follow) -> Feed | str:
        """The feed that was asked for, or why there is none."""
        led = self._led(follow.topic_id, follow.sid)
        if led is None:
            return "not mine to write"
        copy, writer = led
        if writer.epoch != follow.epoch or node not in writer.durable:
            return "another epoch, or no replica of it"
        disk = self._disk_of(node, follow.incarnation)
        if disk is None:
            return "an incarnation that is not registered"
        if not copy.segment.base_offset <= follow.from_offset <= copy.segment.end_offset:
            return f"offset {follow.from_offset} is not in this segment"
        writer.on_follow(node, follow.incarnation, disk, follow.from_offset)

        def on_ack(end_offset: int) -> None:
            # Only what we have ourselves given out may come back as an acknowledgement, and only
            # from the process that follows now: what waited in an older stream may be lost.
            is_newest = writer.incarnations[node] == follow.incarnation
            if end_offset <= writer.next_offset and is_newest:
                writer.heard[node] = self._monotonic()
                writer.on_durable(node, end_offset)
                self._on_progress(follow.topic_id, follow.sid)

        return Feed(
            copy,
            conversation,
            handle=follow.handle,
            from_offset=follow.from_offset,
            store=self._store,
            on_ack=on_ack,
            on_live=partial(self._on_live, follow.topic_id, follow.sid, writer, node),
        )

    def _on_live(self, topic_id: bytes, sid: int, writer: Writer, node: int, live: bool) -> None:
        writer.on_live(node, live=live)
        self._on_progress(topic_id, sid)


class _Served:
    """What a follower has asked for under one handle."""

    def __init__(self) -> None:
        self.feed: Feed | None = None
        self.is_over = False
        """The follower wants no more, or was refused."""
        self._acknowledged = -1
        """The newest that was said while there was no feed."""

    def begin(self, feed: Feed) -> None:
        """It is ours to give."""
        self.feed = feed
        if self._acknowledged >= 0:
            feed.acknowledged(self._acknowledged)

    def hear(self, message: messages.Unfollow | messages.Acknowledge) -> None:
        """What the follower says of it."""
        if isinstance(message, messages.Unfollow):
            self.close()
        elif self.feed is not None:
            self.feed.acknowledged(message.end_offset)
        else:
            self._acknowledged = message.end_offset

    def close(self) -> None:
        """No more of it."""
        self.is_over = True
        if self.feed is not None:
            self.feed.closed()
