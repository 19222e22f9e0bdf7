"""Fetch, v4-v17.

Behaviour
  * Long poll: waits until min_bytes can be had, an error is to be told, or max_wait is over; woken
    by the append.
  * Whole batches, the first being the one that contains the offset; clients skip the records before
    it.
  * At least one batch for the first partition that has any, whatever the limits (KIP-74); the
    limits of the request are shared by its partitions in the order asked.
  * The high watermark is never below what is returned nor below the offset asked for.
  * Fetch sessions (KIP-227, v7+): an incremental request names what has changed, and its answer
    only the partitions with news: records, another watermark or log start, an error. A client gets
    none (id 0) when there is no room; one that went away for long is FETCH_SESSION_ID_NOT_FOUND.
  * NOT_LEADER_OR_FOLLOWER waits for the next leader while nobody leads (two seconds, max_wait), if
    there are no records to tell of: kafkajs joins its group anew for each such answer.
  * Old records that the leader does not hold are read from a replica that does: a client that names
    its rack is sent there (KIP-392, v12+), for the others the leader asks. Every replica serves the
    sealed segments that it holds (v11+), and says NOT_LEADER_OR_FOLLOWER where they end.
  * A batch that the client's version cannot understand (zstd below v10) is
    UNSUPPORTED_COMPRESSION_TYPE.
Versions
  v5 log_start_offset · v7 sessions · v9 current_leader_epoch (KIP-320) · v10 zstd (KIP-110) · v11
  preferred read replica (KIP-392) · v12 flexible · v13 topic ids (KIP-516) · v15 replica state ·
  v16 current leader (KIP-951)
Not here
  diverging epochs (followers of Kafka's own), a choice of replica by rack, transactions (the last
  stable offset is the high watermark), v18
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from struct import Struct
from typing import TYPE_CHECKING, Final
from uuid import UUID

import anyio
from kio.schema.errors import ErrorCode

from broker import codecs
from broker.errors import NotLeader, RequestError, UnsupportedCompression
from broker.kafka_api.context import Context
from broker.kafka_api.errors import Refused, fetch_code
from broker.kafka_api.fetch_sessions import (
    ID_VERSION_MIN,
    NO_SESSION,
    Asked,
    Plan,
    Session,
    asked_by,
)
from broker.kafka_api.fetch_wire import READ_COMMITTED
from broker.kafka_api.handler import Finish, Response, led_partition, ready
from broker.kafka_api.leaders import Leaders, until_led
from broker.kafka_api.wire import maker
from broker.ports import Buffer, Partition, Readable, Sendable, TopicView

if TYPE_CHECKING:
    from kio.schema.fetch.v17.request import FetchRequest

ZSTD_VERSION_MIN: Final = 10
FOLLOWERS_VERSION_MIN: Final = 11
SENT_AWAY_VERSION_MIN: Final = 12
"""kafkajs speaks up to v11. It stays for minutes with a replica that says it is not the leader, and
joins its group anew each time."""
LEADER_VERSION_MIN: Final = 16

REREAD_PAUSE_S: Final = 0.01
"""Between two reads of a fetch that was woken and still has less than it asked for. Its client
wants few large answers; reading everything again at each small append would cost a core."""

_BATCH: Final = Struct(">8xi9xh")
"""Of a batch header: the length after the 12th byte, and the attributes."""
_CODEC_MASK: Final = 0b111


@dataclass(frozen=True, slots=True)
class _Read:
    """What one partition gives now."""

    high_watermark: int
    log_start_offset: int
    records: Sendable
    is_more_at_once: bool
    """The records end where a sealed segment ends: the next request has more without waiting."""
    preferred_reader: int = -1
    """The node that has the records, if it is not this one."""


_NOTHING: Final = _Read(high_watermark=-1, log_start_offset=-1, records=b"", is_more_at_once=False)
"""Beside an error. The records are empty, never null: to librdkafka null breaks the protocol
(KAFKA-18646)."""

_Outcome = _Read | RequestError


async def begin(ctx: Context, request: FetchRequest) -> Finish:
    """Fix the deadline. Reading is left to stage 2, so that only one response of a connection is in
    memory."""
    now = ctx.clock.monotonic()
    try:
        plan = ctx.sessions.begin(request, now)
    except Refused as refused:
        return ready(_refusal(request, refused.code))
    wait_s = min(request.max_wait.total_seconds(), ctx.config.fetch_wait_ms_max / 1000)
    return partial(finish, ctx, request, plan, now + wait_s)


def failed(ctx: Context, request: FetchRequest, code: ErrorCode) -> Response:
    """The same error for every partition."""
    error = Refused(code, "the broker failed while serving this request")
    plan = Plan(tuple(asked_by(request)))
    return _response(ctx, request, plan, [error for _ in plan.asked])


def _refusal(request: FetchRequest, code: ErrorCode) -> Response:
    make = maker(request)
    response: Response = make.FetchResponse(error_code=code, session_id=NO_SESSION, responses=())
    return response


async def finish(ctx: Context, request: FetchRequest, plan: Plan, deadline: float) -> Response:
    """Stage 2. `deadline` is monotonic seconds."""
    size_max = max(min(request.max_bytes, ctx.config.fetch_size_max), 0)
    size_min = min(request.min_bytes, size_max)
    size_asked = sum(max(asked.size_max, 0) for asked in plan.asked)
    size_reserved = min(size_max, size_asked)
    async with ctx.memory.reserve(size_reserved):
        outcomes = await _read_all(ctx, request, plan, size_max)
    if _is_enough(outcomes, size_min) and not any(
        isinstance(one, RequestError) for one in outcomes
    ):
        return _response(ctx, request, plan, outcomes)
    pause_s = 0.0
    while True:
        outcomes = []  # what is not enough is read again, not kept while parked
        with ExitStack() as watches:
            # Subscribed before reading: an append in between sets `woken`, and the wait below
            # returns at once.
            woken = _watch_all(ctx, plan, watches)
            async with ctx.memory.reserve(size_reserved):
                outcomes = await _read_all(ctx, request, plan, size_max)
            wait_s = deadline - ctx.clock.monotonic()
            if wait_s <= 0 or ctx.stopping.is_set or _is_enough(outcomes, size_min):
                if refused := tuple(_refused(ctx, plan, outcomes)):
                    await until_led(ctx, refused, wait_s, woken)
                return _response(ctx, request, plan, outcomes)
            outcomes = []
            await woken.within(wait_s)
        if pause_s:
            await anyio.sleep(min(pause_s, max(deadline - ctx.clock.monotonic(), 0.0)))
        pause_s = REREAD_PAUSE_S


class _Woken:
    """Something that a parked fetch waits for has moved.

    Not a `Bell`: what moves while the fetch reads has to be remembered until it waits. Not an event
    in a cancel scope, which costs ten times as many instructions as a bare future and a timer.
    """

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def within(self, wait_s: float) -> None:
        """Return when it is set, or after `wait_s` seconds."""
        if self._is_set:
            return
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(wait_s, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()


def _watch_all(ctx: Context, plan: Plan, watches: ExitStack) -> _Woken:
    woken = _Woken()
    ctx.stopping.watch(woken)
    watches.callback(ctx.stopping.unwatch, woken)
    for asked in plan.asked:
        try:
            _, partition = _find(ctx, asked)
        except RequestError:
            continue  # reading says so too, and an error does not wait
        partition.watch(woken)
        watches.callback(partition.unwatch, woken)
    return woken


def _is_enough(outcomes: list[_Outcome], size_min: int) -> bool:
    size = 0
    for outcome in outcomes:
        if isinstance(outcome, RequestError) or outcome.is_more_at_once:
            return True
        size += len(outcome.records)
    return size >= size_min or not outcomes


def _refused(ctx: Context, plan: Plan, outcomes: list[_Outcome]) -> Iterator[str]:
    """Topics that are not led here, if there is nothing else to tell of."""
    if any(isinstance(outcome, _Read) and outcome.records for outcome in outcomes):
        return
    for asked, outcome in zip(plan.asked, outcomes, strict=True):
        if isinstance(outcome, NotLeader):
            with suppress(RequestError):
                yield _topic(ctx, asked).name


async def _read_all(
    ctx: Context, request: FetchRequest, plan: Plan, size_max: int
) -> list[_Outcome]:
    outcomes: list[_Outcome] = []
    size_left = size_max
    is_first = True
    for asked in plan.asked:
        try:
            outcome: _Outcome = await _read(ctx, request, asked, size_left, is_first)
        except RequestError as error:
            outcome = error
        if isinstance(outcome, _Read) and outcome.records:
            size_left -= len(outcome.records)
            is_first = False
        outcomes.append(outcome)
    return outcomes


async def _read(
    ctx: Context, request: FetchRequest, asked: Asked, size_left: int, is_first: bool
) -> _Read:
    offset = asked.offset
    view, partition = _readable(ctx, request, asked)
    partition.check_epoch(asked.leader_epoch)
    # Who names no rack may not know what a preferred replica is: aiokafka then asks on for ever.
    if request.__version__ >= SENT_AWAY_VERSION_MIN and request.rack_id:
        preferred = partition.preferred_reader(offset)
        if preferred >= 0:
            marks = max(partition.high_watermark, offset), partition.log_start_offset
            return _Read(*marks, b"", is_more_at_once=True, preferred_reader=preferred)
    size_max = max(min(asked.size_max, size_left), 0)
    records: Sendable = b""
    if is_first or size_max > 0:
        if request.__version__ < ZSTD_VERSION_MIN:
            records = _before_zstd(await partition.read(offset, size_max=size_max))
        else:
            records = await partition.fetch(offset, size_max=size_max)
        if len(records) > size_max and not is_first:
            records = b""  # one batch larger than what is left of the limit: its turn comes
    # The watermark is read after the records, and never told below the offset asked for: an offset
    # may be ahead of it for a moment (acks=1), and clients that are told so tear the connection
    # down (kafka-go#1286).
    return _Read(
        high_watermark=max(partition.high_watermark, offset),
        log_start_offset=partition.log_start_offset,
        records=records,
        is_more_at_once=bool(records) and offset < view.segments[-1].base_offset,
    )


def _readable(ctx: Context, request: FetchRequest, asked: Asked) -> tuple[TopicView, Readable]:
    """The partition, or this node's sealed copies of one that another node leads."""
    try:
        return _find(ctx, asked)
    except NotLeader:
        if request.__version__ < FOLLOWERS_VERSION_MIN:
            raise
        view = _topic(ctx, asked)
        return view, ctx.controller.sealed_copies(view)


def _find(ctx: Context, asked: Asked) -> tuple[TopicView, Partition]:
    """Raises UnknownTopic, UnknownTopicId, UnknownPartition, NotLeader."""
    view = _topic(ctx, asked)
    return view, led_partition(ctx, view, asked.partition)


def _topic(ctx: Context, asked: Asked) -> TopicView:
    if isinstance(asked.topic, str):
        return ctx.controller.topic(asked.topic)
    if asked.topic is None:
        raise Refused(ErrorCode.unknown_topic_id, "a topic id of zero")
    return ctx.controller.topic_by_id(asked.topic)


def _before_zstd(records: Buffer) -> Buffer:
    """The batches before the first that is compressed with zstd. Raises UnsupportedCompression for
    an empty rest."""
    position = 0
    while position < len(records):
        length, attributes = _BATCH.unpack_from(records, position)
        if attributes & _CODEC_MASK == codecs.ZSTD:
            if position == 0:
                raise UnsupportedCompression(f"zstd needs Fetch v{ZSTD_VERSION_MIN} or later")
            return records[:position]
        position += 12 + length
    return records


def _response(
    ctx: Context, request: FetchRequest, plan: Plan, outcomes: list[_Outcome]
) -> Response:
    make = maker(request)
    leaders = Leaders(ctx, make)
    by_id = request.__version__ >= ID_VERSION_MIN
    # Nothing is ever aborted; readers of uncommitted records are to see no list at all.
    aborted = () if request.isolation_level == READ_COMMITTED else None

    def partition_data(asked: Asked, outcome: _Outcome) -> object:
        code = ErrorCode.none
        leader = leaders.unset
        if isinstance(outcome, RequestError):
            if request.__version__ >= LEADER_VERSION_MIN:
                leader = leaders.of(_view(ctx, asked), outcome)
            code, outcome = fetch_code(outcome, by_id=by_id), _NOTHING
        return make.PartitionData(
            partition_index=asked.partition,
            error_code=code,
            high_watermark=outcome.high_watermark,
            last_stable_offset=outcome.high_watermark,
            log_start_offset=outcome.log_start_offset,
            aborted_transactions=aborted,
            preferred_read_replica=outcome.preferred_reader,
            records=outcome.records,
            current_leader=leader,
        )

    responses = tuple(
        make.FetchableTopicResponse(
            topic=name,
            topic_id=topic_id,
            partitions=tuple(partition_data(asked, outcome) for asked, outcome in rows),
        )
        for name, topic_id, rows in _parts(request, plan, _news(plan, outcomes))
    )
    response: Response = make.FetchResponse(
        error_code=ErrorCode.none,
        session_id=plan.session_id,
        responses=responses,
        node_endpoints=leaders.endpoints(),
    )
    return response


_Row = tuple[Asked, _Outcome]


def _news(plan: Plan, outcomes: list[_Outcome]) -> list[_Row]:
    """What is to be told; the session takes it for known from here on."""
    rows = list(zip(plan.asked, outcomes, strict=True))
    if plan.session is None:
        return rows
    told = [_tell(plan.session, asked, outcome) for asked, outcome in rows]
    return [row for row, is_news in zip(rows, told, strict=True) if is_news or plan.is_full]


def _tell(session: Session, asked: Asked, outcome: _Outcome) -> bool:
    if isinstance(outcome, RequestError):
        return session.tell(asked, None, has_records=False)
    marks = (outcome.high_watermark, outcome.log_start_offset)
    has_news = bool(outcome.records) or outcome.preferred_reader >= 0
    return session.tell(asked, marks, has_records=has_news)


def _parts(
    request: FetchRequest, plan: Plan, rows: list[_Row]
) -> Iterator[tuple[str | None, UUID | None, list[_Row]]]:
    """The rows by topic: exactly as they were asked, or each topic once where that was long ago."""
    if plan.is_full:
        left = iter(rows)
        for topic in request.topics:
            name, topic_id = getattr(topic, "topic", None), getattr(topic, "topic_id", None)
            yield name, topic_id, list(islice(left, len(topic.partitions)))
        return
    parts: dict[str | UUID | None, list[_Row]] = {}
    for row in rows:
        parts.setdefault(row[0].topic, []).append(row)
    for part in parts.values():
        named = part[0][0].topic
        yield (named, None, part) if isinstance(named, str) else (None, named, part)


def _view(ctx: Context, asked: Asked) -> TopicView | None:
    """By id, which is all that the versions that name leaders have."""
    try:
        return None if asked.topic is None else _topic(ctx, asked)
    except RequestError:
        return None
