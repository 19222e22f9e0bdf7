"""GET: the shared cursor of a topic.

The cursor of topic `t` is the committed offset of the consumer group `walrus.get.t`, so it lives
where all committed offsets live, survives what they survive, and Kafka's tools can look at it and
move it. There is no second copy of it here: every round of GETs asks for the group's position.

A round is what PUT's pack is: the GETs of a topic that arrive in one turn of the event loop are
served together, in their order, and one commit moves the cursor past all that they took. They are
answered when that commit is durable. A record is so handed out at most once, and is lost to GET
when the answer is.

A batch that cannot be read although its CRC holds (it decompresses beyond the limit, or is garbage
inside) is its producer's fault and would block the topic for ever. It is reported once, by an error
that names its offsets, and the cursor moves past it. Kafka consumers still get it, and moving the
group back gives GET another try. A batch whose CRC does not hold is a fault of our disk: an error
each time, and the cursor stays.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import anyio
import anyio.abc
import structlog

from broker.errors import Loading, NotLeader, OffsetOutOfRange, RequestError, StorageFailed
from broker.groups.expiry import CURSOR_PREFIX
from broker.native_api.gate import Gate
from broker.native_api.reader import SECTION_SIZE_MAX, TopicReader, Unpacker, UnreadableBatch
from broker.ports import AnyPartition, Controller, Finish, GroupOffsets, TopicView

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

CACHE_SIZE_MAX = 128 * 1024 * 1024
"""Bytes of batches over all topics; what the topic read longest ago holds goes first."""

TOPICS_MAX = 10_000
"""Topics of which anything is remembered."""

ROUND_COUNT_MAX = 1_000
"""Records handed out by one round, a bound on the time that it holds the event loop."""

ROUND_SIZE_MAX = 1024 * 1024
"""Bytes handed out by one round, but for its last record."""


_Settle = Callable[[], Coroutine[Any, Any, None]]
"""Wait for a round's commit, and answer."""


class Ticket:
    """One GET's place in the line, and then what it got."""

    __slots__ = ("_failure", "_refused", "_value", "done")

    def __init__(self, refused: Callable[["Ticket"], None] | None = None) -> None:
        """`refused` takes the ticket on when this node turns out not to keep the cursor."""
        self.done = Gate()
        self._refused = refused
        self._value: bytes | None = None
        self._failure: RequestError | None = None

    async def taken(self) -> bytes | None:
        """The record's value, once the cursor is durably past it; None if there is none yet.

        Raises NotLeader, Loading, UnknownTopicId, StorageFailed, UnreadableBatch.
        """
        if not self.done.is_set():  # A finish that is ready must not yield: see connection.py.
            await self.done.wait()
        if self._failure is not None:
            raise self._failure
        return self._value

    def end(self, outcome: bytes | RequestError | None) -> None:
        """Say what became of it; the first word counts."""
        if self.done.is_set():
            return
        if self._refused is not None and isinstance(outcome, NotLeader | Loading):
            refused, self._refused = self._refused, None
            refused(self)
            return
        if isinstance(outcome, RequestError):
            self._failure = outcome
        else:
            self._value = outcome
        self.done.set()


class _Lane:
    """One topic: who waits, and what has been read ahead."""

    def __init__(self, unpacker: Unpacker) -> None:
        self.waiting: deque[Ticket] = deque()
        self.reader = TopicReader(unpacker)
        self.is_serving = False


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

    async def run(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve rounds until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            task_status.started()
            await anyio.sleep_forever()

    def get(self, topic: TopicView, refused: Callable[[Ticket], None] | None = None) -> Ticket:
        """Queue behind every earlier `get` of this topic. See `Ticket` for `refused`."""
        assert self._tasks is not None, "the cursors are not running"
        lane = self._lanes.get(topic.topic_id)
        if lane is None:
            lane = self._lanes[topic.topic_id] = _Lane(self._unpacker)
        self._lanes.move_to_end(topic.topic_id)
        ticket = Ticket(refused)
        lane.waiting.append(ticket)
        if not lane.is_serving:
            lane.is_serving = True
            self._tasks.start_soon(self._serve, topic, lane)
        return ticket

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
        haul = await _haul(lane.reader, partition, offset, len(tickets))
        settle: _Settle | None = None
        if haul.offset != offset:
            committed = await self._offsets.commit(group, topic.topic_id, haul.offset)
            settle = partial(_settle, committed, tickets[: len(haul.taken)], haul.taken)
        rest = tickets[len(haul.taken) :]
        if haul.has_more:
            lane.waiting.extendleft(reversed(rest))
        else:
            for ticket in rest:
                ticket.end(haul.failure)
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


@dataclass(slots=True)
class _Haul:
    """What one round took out of the log."""

    offset: int
    """Where the cursor stands after it."""
    taken: list[bytes | UnreadableBatch] = field(default_factory=list)
    """For the first tickets of the round, in order."""
    has_more: bool = False
    """The round was large enough; there may be records for the others."""
    failure: RequestError | None = None
    """What the others are told; None: there is nothing yet."""


async def _haul(reader: TopicReader, partition: AnyPartition, offset: int, count: int) -> _Haul:
    haul = _Haul(offset)
    size = 0
    try:
        while len(haul.taken) < count and size < ROUND_SIZE_MAX:
            try:
                found = await reader.next(partition, haul.offset)
            except UnreadableBatch as error:
                _log.warning("native GET skips a batch", reason=str(error))
                haul.taken.append(error)
                haul.offset = error.next_offset
                continue
            if found is None:
                return haul
            haul.taken.append(found.value)
            haul.offset = found.offset + 1
            size += len(found.value)
        haul.has_more = True
    except OffsetOutOfRange:
        name, end = partition.topic.name, partition.high_watermark
        if haul.offset <= end:
            # It is below a log start that its leader knows of and we do not yet.
            haul.failure = NotLeader(f"the log start of {name} moves just now")
        else:
            # The log ends before the cursor: it lost its tail, which weaker durability allows.
            haul.offset = end
            _log.warning("native cursor set back", topic=name, offset=offset, end=end)
    except RequestError as error:
        haul.failure = error
    return haul


async def _settle(
    committed: Finish, tickets: list[Ticket], taken: list[bytes | UnreadableBatch]
) -> None:
    """Answer a round once its commit is durable."""
    failure: RequestError | None = None
    try:
        await committed()
    except RequestError as error:
        failure = error
    except Exception as error:  # noqa: BLE001  Whatever it is, it befell this round alone.
        _log.exception("a native GET failed by a fault of ours")
        failure = StorageFailed(f"internal error: {type(error).__name__}")
    for ticket, outcome in zip(tickets, taken, strict=True):
        ticket.end(failure or outcome)
