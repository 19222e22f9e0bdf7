"""What a node does while its disk is full: others write what it wrote, and it comes back by itself.

Short of space, it hands over what it leads and takes no records, as writer or follower. A segment
that a write has failed on is never appended to again: another replica is asked to seal it, as after
a death. Once there is room, failed copies are read back as at a start; a segment that nobody else
could seal is then sealed here.
"""

import errno
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import structlog

from broker.controller import placement
from broker.controller.metadata import Metadata
from broker.controller.read_back import ReadBack
from broker.errors import RequestError
from broker.replication.copies import Copies, Key
from broker.replication.store import Store
from engine.errors import EngineError
from raft.commands import BeginSeal
from raft.state import SegmentState

_log = structlog.get_logger(__name__)

GIVE_AWAY_S = 1.0
"""Between two attempts to find somebody who can write what this node cannot."""


class FullDisk:
    """Of one node. `run` it in a task; `met` hears of copies that a full disk has failed."""

    def __init__(
        self,
        *,
        node: int,
        metadata: Metadata,
        store: Store,
        copies: Copies,
        read_back: ReadBack,
        hand_over: Callable[[str], Awaitable[object]],
        resume: Callable[[bytes], None],
    ) -> None:
        """`hand_over(reason)` rolls what can be to other nodes; `resume(topic_id)` is told of a
        copy that is good again."""
        self._node = node
        self._metadata = metadata
        self._space = store.space
        self._store = store
        self._copies = copies
        self._read_back = read_back
        self._hand_over = hand_over
        self._resume = resume
        self._failed: set[Key] = set()

    def met(self, key: Key, error: Exception) -> None:
        """A write to this copy did not fit."""
        topic = self._metadata.state.topics.get(key[0])
        _log.error("the disk is full", topic=topic and topic.name, sid=key[1], error=str(error))
        self._failed.add(key)
        self._space.note_full()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._space.until(is_short=True)
            _log.error("short of disk space: no more records are taken until there is room")
            while self._space.is_short:
                await self._give_away()
                with anyio.move_on_after(GIVE_AWAY_S):
                    await self._space.until(is_short=False)
            _log.info("there is room on the disk again")
            for key in tuple(self._failed):
                await self._mend(key)

    async def _give_away(self) -> None:
        for key in tuple(self._failed):  # more may fail meanwhile
            await self._have_sealed(key, by_itself=False)
        await self._hand_over("short of disk space")

    async def _have_sealed(self, key: Key, *, by_itself: bool) -> None:
        """If this node writes that segment: have its end found by another replica; `by_itself`:
        by this one if there is no other."""
        state = self._metadata.state
        topic = state.topics.get(key[0])
        if topic is None or topic.segments[-1].sid != key[1]:
            return
        last = topic.segments[-1]
        if last.state is not SegmentState.OPEN or last.writer != self._node:
            return
        live = placement.live_nodes(state)
        others = [node for node in last.replicas if node != self._node and node in live]
        recoverer = others[0] if others else self._node
        if not others and not by_itself:
            return
        try:
            await self._metadata.propose(BeginSeal(*key, topic.epoch, recoverer))
        except RequestError as error:
            _log.warning("the segment is not given up yet", topic=topic.name, why=str(error))

    async def _mend(self, key: Key) -> None:
        """Read a failed copy back, and take part with it again."""
        self._failed.discard(key)  # What fails from here on is news.
        topic_id, sid = key
        topic = self._metadata.state.topics.get(topic_id)
        metadata = None if topic is None else topic.segment(sid)
        copy = self._copies.get(topic_id, sid)
        has_failed = copy is not None and copy.segment.failed is not None
        if topic is not None and metadata is not None and copy is not None and has_failed:
            failed = copy.segment
            await self._store.rest(failed)
            try:
                await self._store.run(partial(self._read_back.segment, topic, metadata))
            except (OSError, EngineError) as error:
                if is_full(error):
                    self.met(key, error)
                    return
                _log.error("a copy stays closed until the next start", sid=sid, error=str(error))
            else:
                failed.forget_file()
                self._resume(topic_id)
                await self._have_sealed(key, by_itself=True)


def is_full(error: Exception) -> bool:
    """Whether the disk has refused for want of room, and may take more another time."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
