"""GET: the shared cursor of a topic.

The cursor of topic `t` is the committed offset of the consumer group `walrus.get.t`, so it lives
where all committed offsets live, survives what they survive, and Kafka's tools can look at it and
move it. There is no second copy of it here: every round of GETs asks for the group's position.

A round is what PUT's pack is: the GETs of a topic that arrive in one turn of the event loop are
served together, in their order, and one commit moves the cursor past all that they took. They are
answered when that commit is durable. A record is so handed out at most once, and is lost to GET
when the answer is.

The usual round takes records that are in memory or in the page cache, and its commit need not wait
for its turn. It is served without a task (`_serve_now`); a task serves whoever is left.

A batch that cannot be read although its CRC holds (it decompresses beyond the limit, or is garbage
inside) is its producer's fault and would block the topic for ever. It is reported once, by an error
that names its offsets, and the cursor moves past it. Kafka consumers still get it, and moving the
group back gives GET another try. A batch whose CRC does not hold is a fault of our disk: an error
each time, and the cursor stays.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import islice
from typing import Any
from uuid import UUID

import anyio
import anyio.abc
import structlog

from broker.errors import Loading, NotLeader, RequestError, StorageFailed
from broker.gate import Gate
from broker.groups.expiry import CURSOR_PREFIX
from broker.native_api.gathering import Gathering
from broker.native_api.reader import SECTION_SIZE_MAX, TopicReader, Unpacker, UnreadableBatch
from broker.native_api.rounds import haul, haul_now
from broker.ports import (
    Controller,
    Finish,
    GroupOffsets,
    Pending,
    QuickPosition,
    TopicView,
)

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

CACHE_SIZE_MAX = 128 * 1024 * 1024
"""Bytes of batches over all topics; what the topic read longest ago holds goes first."""

TOPICS_MAX = 10_000
"""Topics of which anything is remembered."""

ROUND_COUNT_MAX = 1_000
"""Records handed out by one round, a bound on the time that it holds the event loop."""

_Settle = Callable[[], Coroutine[Any, Any, None]]
"""Wait for a round's commit, and answer."""


class Ticket:
    """One GET's place in the line, and then what it got."""

    __slots__ = ("_failure", "_refused", "_value", "done", "pending")

    def __init__(self, refused: Callable[["Ticket"], None] | None = None) -> None:
        """`refused` takes the ticket on when this node turns out not to keep the cursor."""
        self.done = Gate()
        self._refused = refused
        self._value: bytes | None = None
        self._failure: RequestError | None = None
        self.pending: Pending | None = None
        """Settled when there is an outcome, if no task waits for it."""

    async def taken(self) -> bytes | None:
        """The record's value, once the cursor is durably past it; None if there is none yet.

        Raises NotLeader, Loading, UnknownTopicId, StorageFailed, UnreadableBatch.
        """
        await self.ended()
        return self.outcome()

    async def ended(self) -> None:
        """Wait until there is an outcome."""
        if not self.done.is_set():  # A finish that is ready must not yield: see connection.py.
            await self.done.wait()

    def outcome(self) -> bytes | None:
        """What `taken` returns or raises, when it is done."""
        if self._failure is not None:
            raise self._failure
        return self._value

    def end(self, outcome: bytes | RequestError | None) -> None:
        """Say what became of it; the first word counts."""
        if self.done.is_set():
            return
        if not isinstance(outcome, RequestError):
            self._value = outcome
        elif self._refused is not None and isinstance(outcome, NotLeader | Loading):
            refused, self._refused = self._refused, None
            refused(self)
            return
        else:
            self._failure = outcome
        self.done.set()
        if self.pending is not None:
            self.pending.settle()


class _Lane:
    """One topic: who waits, and what has been read ahead."""

    def __init__(self, unpacker: Unpacker) -> None:
        self.waiting: deque[Ticket] = deque()
        self.reader = TopicReader(unpacker)
        self.is_serving = False
        self.gathering: Gathering | None = None
        """After a round that has answered several, until the next one."""


class Cursors:
    """The shared cursors of all topics on this node. `run` must be running while `get` is used."""

    def __init__(
        self,
        controller: Controller,
        offsets: GroupOffsets,
        *,
        section_size_max: int = SECTION_SIZE_MAX,
        cache_size_max: int = CACHE_SIZE_MAX,
    ) -> None:
        self._controller = controller
        self._offsets = offsets
        self._unpacker = Unpacker(section_size_max=section_size_max)
        self._cache_size_max = cache_size_max
        self._lanes: OrderedDict[UUID, _Lane] = OrderedDict()
        """Least recently used first."""
        self.held_size = 0
        """Bytes of batches that are read ahead or decoded."""
        self._tasks: anyio.abc.TaskGroup | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due_count = 0
        """Rounds that are served at the end of this turn."""

    async def run(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve rounds until cancelled."""
        self._loop = asyncio.get_running_loop()
        async with anyio.create_task_group() as self._tasks:
            task_status.started()
            await anyio.sleep_forever()

    def get(self, topic: TopicView, refused: Callable[[Ticket], None] | None = None) -> Ticket:
        """Queue behind every earlier `get` of this topic. See `Ticket` for `refused`."""
        assert self._tasks is not None, "the cursors are not running"
        lane, ticket = self._queue(topic, refused)
        if not lane.is_serving:
            lane.is_serving = True
            self._tasks.start_soon(self._serve, topic, lane)
        return ticket

    def get_now(
        self, topic: TopicView, refused: Callable[[Ticket], None] | None = None, *, is_alone: bool
    ) -> Ticket | None:
        """`get`, served without a task if nothing has to be waited for; None, and nothing has
        happened, where the cursor is not kept here or was never moved. `is_alone`: no other GET is
        to be expected in this turn that could share its round."""
        assert self._loop is not None, "the cursors are not running"
        lane = self._lanes.get(topic.topic_id)
        if lane is not None and lane.is_serving:
            return self._queue(topic, refused)[1]
        position = self._position_now(topic)
        if position is None:
            return None
        lane, ticket = self._queue(topic, refused)
        lane.is_serving = True
        self._due_count += 1
        if is_alone and lane.gathering is None:
            self._serve_now(topic, lane, position)
        else:
            self._loop.call_soon(self._end_turn, topic, lane)
        return ticket

    def _end_turn(self, topic: TopicView, lane: _Lane) -> None:
        """Serve who came in it, unless more are about to come."""
        if lane.gathering is not None:
            assert self._loop is not None
            if lane.gathering.expects(len(lane.waiting), self._loop.time()):
                self._loop.call_soon(self._end_turn, topic, lane)
                return
            lane.gathering = None
        self._serve_now(topic, lane)

    def _position_now(self, topic: TopicView) -> QuickPosition | None:
        return self._offsets.position_now(group_of(topic.name), topic.topic_id)

    def _queue(
        self, topic: TopicView, refused: Callable[[Ticket], None] | None
    ) -> tuple[_Lane, Ticket]:
        lane = self._lanes.get(topic.topic_id)
        if lane is None:
            lane = self._lanes[topic.topic_id] = _Lane(self._unpacker)
        self._lanes.move_to_end(topic.topic_id)
        ticket = Ticket(refused)
        lane.waiting.append(ticket)
        return lane, ticket

    def _serve_now(
        self, topic: TopicView, lane: _Lane, position: QuickPosition | None = None
    ) -> None:
        """One round of those who wait. `position` is the cursor's, if it was just asked for."""
        self._due_count -= 1
        size_before = lane.reader.size
        try:
            position = position or self._position_now(topic)
            if position is not None:
                self._round_now(topic, lane, position, is_alone=not self._due_count)
        except Exception:  # noqa: BLE001, S110  The task meets it again and knows what to do.
            pass
        self.held_size += lane.reader.size - size_before
        if lane.waiting:
            assert self._tasks is not None
            self._tasks.start_soon(self._serve, topic, lane)
            return
        lane.is_serving = False
        self._trim(lane)

    def _round_now(
        self, topic: TopicView, lane: _Lane, position: QuickPosition, *, is_alone: bool
    ) -> None:
        """As `_round`, as far as nothing has to be waited for. Who is served leaves the line."""
        partition = self._controller.led(topic.name)
        if partition is None or partition.topic.topic_id != topic.topic_id:
            return
        waiting = lane.waiting
        offset = max(position.offset, partition.log_start_offset)
        took = haul_now(lane.reader, partition, offset, len(waiting))
        if took.taken:
            served = list(islice(waiting, len(took.taken)))
            settle = partial(self._settle_now, lane, served, took.taken)
            if not position.commit_now(took.offset, settle, is_alone=is_alone):
                return
            for _ in served:
                waiting.popleft()
        if took.offset == partition.high_watermark:
            while waiting:
                waiting.popleft().end(None)

    def _settle_now(
        self,
        lane: _Lane,
        served: list[Ticket],
        taken: list[bytes | UnreadableBatch],
        failure: Exception | None,
    ) -> None:
        _settle_now(served, taken, failure)
        if len(served) > 1:
            assert self._loop is not None
            lane.gathering = Gathering(len(served), self._loop.time())

    async def _serve(self, topic: TopicView, lane: _Lane) -> None:
        unsettled: _Settle | None = None
        while lane.waiting:
            count = min(len(lane.waiting), ROUND_COUNT_MAX)
            tickets = [lane.waiting.popleft() for _ in range(count)]
            size_before = lane.reader.size
            if unsettled is not None:
                assert self._tasks is not None
                self._tasks.start_soon(unsettled)
                unsettled = None
            try:
                unsettled = await self._round(topic, lane, tickets)
            except RequestError as error:
                failure = error
            except Exception as error:  # noqa: BLE001  Whatever it is, it befell this round alone.
                _log.exception("a native GET failed by a fault of ours", topic=topic.name)
                failure = StorageFailed(f"internal error: {type(error).__name__}")
            else:
                continue
            finally:
                self.held_size += lane.reader.size - size_before
                self._trim(lane)
            for ticket in tickets:
                ticket.end(failure)
        lane.is_serving = False
        if unsettled is not None:  # Nothing follows, so this task has time to wait.
            await unsettled()

    async def _round(self, topic: TopicView, lane: _Lane, tickets: list[Ticket]) -> _Settle | None:
        """Hand out what there is; the result answers those who got it."""
        partition = self._controller.anywhere(topic)
        group = group_of(topic.name)
        position = await self._offsets.position(group, topic.topic_id)
        start = partition.log_start_offset
        offset = start if position is None else max(position, start)
        took = await haul(lane.reader, partition, offset, len(tickets))
        settle: _Settle | None = None
        if took.offset != offset:
            committed = await self._offsets.commit(group, topic.topic_id, took.offset)
            settle = partial(_settle, committed, tickets[: len(took.taken)], took.taken)
        rest = tickets[len(took.taken) :]
        if took.has_more:
            lane.waiting.extendleft(reversed(rest))
        else:
            for ticket in rest:
                ticket.end(took.failure)
        return settle

    def _trim(self, current: _Lane) -> None:
        """Forget the topics read longest ago until the rest fits. One that is in use stays."""
        if not self._is_over():
            return
        for topic_id, lane in list(self._lanes.items()):
            if lane is not current and not lane.is_serving:
                self.held_size -= lane.reader.size
                del self._lanes[topic_id]
                if not self._is_over():
                    return

    def _is_over(self) -> bool:
        return self.held_size > self._cache_size_max or len(self._lanes) > TOPICS_MAX


def group_of(topic: str) -> str:
    """The consumer group whose committed offset is the shared cursor of `topic`."""
    return CURSOR_PREFIX + topic


async def _settle(
    committed: Finish, tickets: list[Ticket], taken: list[bytes | UnreadableBatch]
) -> None:
    """Answer a round once its commit is durable."""
    failure: Exception | None = None
    try:
        await committed()
    except Exception as error:  # noqa: BLE001  Whatever it is, it befell this round alone.
        failure = error
    _settle_now(tickets, taken, failure)


def _settle_now(
    tickets: list[Ticket], taken: list[bytes | UnreadableBatch], failure: Exception | None
) -> None:
    """Answer a round whose commit is durable, or failed."""
    if failure is not None and not isinstance(failure, RequestError):
        _log.error("a native GET failed by a fault of ours", exc_info=failure)
        failure = StorageFailed(f"internal error: {type(failure).__name__}")
    for ticket, outcome in zip(tickets, taken, strict=True):
        ticket.end(failure or outcome)
