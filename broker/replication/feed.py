"""The writer's side of replication: sends a follower everything of one segment, in order.

What is near the end comes from memory, what is older from the writer's own file. A window bounds
the bytes that are under way and not acknowledged, so a slow follower costs the writer nothing but
that.
"""

from collections import deque
from collections.abc import Callable, Sequence

import anyio

from broker.ports import Buffer
from broker.replication import messages
from broker.replication.copies import LocalCopy
from broker.replication.peers import Conversation
from broker.replication.replica import ReplicaPhase
from broker.replication.store import Store
from engine.batch import iter_headers

WINDOW_SIZE_MAX = 8 * 1024 * 1024
"""Bytes under way to one follower of one segment."""

FRAME_SIZE_MAX = 256 * 1024
"""About how many bytes travel in one frame; a larger batch comes whole."""

CAUGHT_UP_SIZE_MAX = 1024 * 1024
"""A follower that lacks no more than this counts as live (it may count for acks=all)."""


class Feed:
    """One segment to one follower. `run` it in a task; `closed` ends it.

    `on_ack(end_offset)` and `on_live(live)` are called on the loop as the follower's answers come.
    """

    def __init__(
        self,
        copy: LocalCopy,
        conversation: Conversation,
        *,
        handle: int,
        from_offset: int,
        store: Store,
        on_ack: Callable[[int], None],
        on_live: Callable[[bool], None],
    ) -> None:
        self._copy = copy
        self._conversation = conversation
        self._handle = handle
        self._next_offset = from_offset
        self._store = store
        self._on_ack = on_ack
        self._on_live = on_live
        self._under_way: deque[tuple[int, int]] = deque()
        """(end offset, size) of what was sent and not acknowledged."""
        self._window_size = 0
        self._room = anyio.Event()
        self._is_live = False
        self._is_over = False

    async def run(self) -> None:
        """Raises PeerUnreachable, StorageFailed. Ends when the segment takes no more and all of it
        was sent, and after `closed`; never inside a frame, for others share the conversation."""
        with self._copy.tail.followed():
            await self._send_all()

    async def _send_all(self) -> None:
        self._judge()
        is_headed = False
        while True:
            buffers, end_offset = await self._more()
            if not buffers:
                return
            if not is_headed:
                head = messages.Head(self._handle, self._copy.head)
                await self._conversation.send(messages.encode(head))
                is_headed = True
            frames = messages.Frames(self._handle, self._next_offset)
            size = sum(map(len, buffers))
            self._under_way.append((end_offset, size))
            self._window_size += size
            self._next_offset = end_offset
            await self._conversation.send(messages.encode(frames, *buffers))
            while self._window_size > WINDOW_SIZE_MAX and not self._is_over:
                self._room = anyio.Event()
                await self._room.wait()

    async def _more(self) -> tuple[Sequence[Buffer], int]:
        """What comes next, waiting for it; nothing once there will be nothing more."""
        copy = self._copy
        while not self._is_over:
            found = copy.tail.since(self._next_offset, size_max=FRAME_SIZE_MAX)
            if found is not None:
                return found
            if self._next_offset < copy.segment.durable_offset:
                data = await self._store.read(
                    copy.segment,
                    self._next_offset,
                    size_max=FRAME_SIZE_MAX,
                    end_offset=copy.segment.durable_offset,
                )
                if data and not self._is_over:
                    return [data], _end_of(data)
            if copy.replica.phase is not ReplicaPhase.ACCEPTING:
                break
            if self._next_offset < copy.segment.end_offset:
                await copy.became_durable()
            else:
                await copy.appended()
        return [], self._next_offset

    def acknowledged(self, end_offset: int) -> None:
        """The follower has everything below `end_offset` on its disk."""
        while self._under_way and self._under_way[0][0] <= end_offset:
            self._window_size -= self._under_way.popleft()[1]
        self._room.set()
        self._on_ack(end_offset)
        self._judge()

    def closed(self) -> None:
        """The conversation is over, or this follower wants no more."""
        self._is_over = True
        self._room.set()
        self._copy.wake()
        if self._is_live:
            self._is_live = False
            self._on_live(False)

    def _judge(self) -> None:
        is_near = self._window_size <= CAUGHT_UP_SIZE_MAX
        has_all_else = self._next_offset >= self._copy.segment.durable_offset
        if not self._is_live and not self._is_over and is_near and has_all_else:
            self._is_live = True
            self._on_live(True)
        elif self._is_live and self._window_size > 4 * CAUGHT_UP_SIZE_MAX:
            self._is_live = False
            self._on_live(False)


def _end_of(data: Buffer) -> int:
    end_offset = -1
    for _, header in iter_headers(data):
        end_offset = header.next_offset
    return end_offset
