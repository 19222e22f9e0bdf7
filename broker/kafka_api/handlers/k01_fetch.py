"""Fetch, v4-v17.

Behaviour
  * Long poll: waits until min_bytes can be had, an error is to be told, or max_wait is over; woken
    by the append.
  * Whole batches, the first being the one that contains the offset; clients skip the records before
    it.
  * At least one batch for the first partition that has any, whatever the limits (KIP-74); the
    limits of the request are shared by its partitions in the order asked.
  * The high watermark is never below what is returned nor below the offset asked for.
  * Fetch sessions are not kept: session id 0 always, which tells clients to send full requests
    (KIP-227).
  * A batch that the client's version cannot understand (zstd below v10) is
    UNSUPPORTED_COMPRESSION_TYPE.
Versions
  v5 log_start_offset · v7 sessions · v9 current_leader_epoch (KIP-320) · v10 zstd (KIP-110) · v11
  rack · v12 flexible · v13 topic ids (KIP-516) · v15 replica state · v16 current leader (KIP-951)
Not here
  diverging epochs (followers of Kafka's own), reading from followers, transactions (the last stable
  offset is the high watermark), v18
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from struct import Struct
from typing import Final

import anyio
from kio.schema.errors import ErrorCode
from kio.schema.fetch.v17.request import FetchPartition, FetchRequest, FetchTopic

from broker import codecs
from broker.errors import RequestError, UnsupportedCompression
from broker.kafka_api.context import Context
from broker.kafka_api.errors import Refused, fetch_code
from broker.kafka_api.handler import Finish, Response, led_partition, ready
from broker.kafka_api.leaders import Leaders
from broker.kafka_api.wire import maker
from broker.ports import Partition, TopicView

ID_VERSION_MIN: Final = 13
ZSTD_VERSION_MIN: Final = 10
LEADER_VERSION_MIN: Final = 16
READ_COMMITTED: Final = 1

REREAD_PAUSE_S: Final = 0.01
"""Between two reads of a fetch that was woken and still has less than it asked for. Its client
wants few large answers; reading everything again at each small append would cost a core."""

SESSIONLESS_EPOCHS: Final = (0, -1)
"""A full request: one that would open a session, or one that closes or wants none."""

_BATCH: Final = Struct(">8xi9xh")
"""Of a batch header: the length after the 12th byte, and the attributes."""
_CODEC_MASK: Final = 0b111


@dataclass(frozen=True, slots=True)
class _Read:
    """What one partition gives now."""

    high_watermark: int
    log_start_offset: int
    records: bytes
    is_more_at_once: bool
    """The records end where a sealed segment ends: the next request has more without waiting."""


_NOTHING: Final = _Read(high_watermark=-1, log_start_offset=-1, records=b"", is_more_at_once=False)
"""Beside an error. The records are empty, never null: to librdkafka null breaks the protocol
(KAFKA-18646)."""

_Outcome = _Read | RequestError


async def begin(ctx: Context, request: FetchRequest) -> Finish:
    """Fix the deadline. Reading is left to stage 2, so that only one response of a connection is in
    memory."""
    if getattr(request, "session_epoch", -1) not in SESSIONLESS_EPOCHS:
        # Only an incremental request refers to a session, and no session exists here.
        return ready(_refusal(request, ErrorCode.fetch_session_id_not_found))
    wait_s = min(request.max_wait.total_seconds(), ctx.config.fetch_wait_ms_max / 1000)
    return partial(_finish, ctx, request, ctx.clock.monotonic() + wait_s)


def failed(ctx: Context, request: FetchRequest, code: ErrorCode) -> Response:
    """The same error for every partition."""
    error = Refused(code, "the broker failed while serving this request")
    return _response(ctx, request, [error for _ in _each(request)])


def _refusal(request: FetchRequest, code: ErrorCode) -> Response:
    make = maker(request)
    response: Response = make.FetchResponse(error_code=code, session_id=0, responses=())
    return response


def _each(request: FetchRequest) -> Iterator[tuple[FetchTopic, FetchPartition]]:
    for topic in request.topics:
        for wanted in topic.partitions:
            yield topic, wanted


async def _finish(ctx: Context, request: FetchRequest, deadline: float) -> Response:
    size_max = max(min(request.max_bytes, ctx.config.fetch_size_max), 0)
    size_min = min(request.min_bytes, size_max)
    size_asked = sum(max(wanted.partition_max_bytes, 0) for _, wanted in _each(request))
    size_reserved = min(size_max, size_asked)
    pause_s = 0.0
    while True:
        with ExitStack() as watches:
            # Subscribed before reading: an append in between sets the event, and the wait below
            # returns at once.
            woken = _watch_all(ctx, request, watches)
            async with ctx.memory.reserve(size_reserved):
                outcomes = await _read_all(ctx, request, size_max)
            wait_s = deadline - ctx.clock.monotonic()
            if wait_s <= 0 or ctx.stopping.is_set or _is_enough(outcomes, size_min):
                return _response(ctx, request, outcomes)
            outcomes = []  # what is not enough is read again, not kept while parked
            with anyio.move_on_after(wait_s):
                await woken.wait()
                await anyio.sleep(pause_s)
        pause_s = REREAD_PAUSE_S


def _watch_all(ctx: Context, request: FetchRequest, watches: ExitStack) -> anyio.Event:
    woken = anyio.Event()
    ctx.stopping.watch(woken)
    watches.callback(ctx.stopping.unwatch, woken)
    for topic, wanted in _each(request):
        try:
            _, partition = _find(ctx, request, topic, wanted)
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


async def _read_all(ctx: Context, request: FetchRequest, size_max: int) -> list[_Outcome]:
    outcomes: list[_Outcome] = []
    size_left = size_max
    is_first = True
    for topic, wanted in _each(request):
        try:
            outcome: _Outcome = await _read(ctx, request, topic, wanted, size_left, is_first)
        except RequestError as error:
            outcome = error
        if isinstance(outcome, _Read) and outcome.records:
            size_left -= len(outcome.records)
            is_first = False
        outcomes.append(outcome)
    return outcomes


async def _read(
    ctx: Context,
    request: FetchRequest,
    topic: FetchTopic,
    wanted: FetchPartition,
    size_left: int,
    is_first: bool,
) -> _Read:
    view, partition = _find(ctx, request, topic, wanted)
    partition.check_epoch(getattr(wanted, "current_leader_epoch", -1))
    size_max = max(min(wanted.partition_max_bytes, size_left), 0)
    records = b""
    if is_first or size_max > 0:
        records = await partition.read(wanted.fetch_offset, size_max=size_max)
        if len(records) > size_max and not is_first:
            records = b""  # one batch larger than what is left of the limit: its turn comes
    if request.__version__ < ZSTD_VERSION_MIN:
        records = _before_zstd(records)
    # The watermark is read after the records, and never told below the offset asked for: an offset
    # may be ahead of it for a moment (acks=1), and clients that are told so tear the connection
    # down (kafka-go#1286).
    return _Read(
        high_watermark=max(partition.high_watermark, wanted.fetch_offset),
        log_start_offset=partition.log_start_offset,
        records=records,
        is_more_at_once=bool(records) and wanted.fetch_offset < view.segments[-1].base_offset,
    )


def _find(
    ctx: Context, request: FetchRequest, topic: FetchTopic, wanted: FetchPartition
) -> tuple[TopicView, Partition]:
    """Raises UnknownTopic, UnknownTopicId, UnknownPartition, NotLeader."""
    if request.__version__ < ID_VERSION_MIN:
        view = ctx.controller.topic(getattr(topic, "topic"))  # noqa: B009 - the newest class has no such field
    elif topic.topic_id is None:
        raise Refused(ErrorCode.unknown_topic_id, "a topic id of zero")
    else:
        view = ctx.controller.topic_by_id(topic.topic_id)
    return view, led_partition(ctx, view, wanted.partition)


def _before_zstd(records: bytes) -> bytes:
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


def _response(ctx: Context, request: FetchRequest, outcomes: list[_Outcome]) -> Response:
    make = maker(request)
    leaders = Leaders(ctx, make)
    by_id = request.__version__ >= ID_VERSION_MIN
    # Nothing is ever aborted; readers of uncommitted records are to see no list at all.
    aborted = () if request.isolation_level == READ_COMMITTED else None
    results = iter(outcomes)

    def partition_data(topic: FetchTopic, index: int, outcome: _Outcome) -> object:
        code = ErrorCode.none
        leader = leaders.unset
        if isinstance(outcome, RequestError):
            if request.__version__ >= LEADER_VERSION_MIN:
                leader = leaders.of(_view(ctx, topic), outcome)
            code, outcome = fetch_code(outcome, by_id=by_id), _NOTHING
        return make.PartitionData(
            partition_index=index,
            error_code=code,
            high_watermark=outcome.high_watermark,
            last_stable_offset=outcome.high_watermark,
            log_start_offset=outcome.log_start_offset,
            aborted_transactions=aborted,
            preferred_read_replica=-1,
            records=outcome.records,
            current_leader=leader,
        )

    responses = tuple(
        make.FetchableTopicResponse(
            topic=getattr(topic, "topic", None),
            topic_id=getattr(topic, "topic_id", None),
            partitions=tuple(
                partition_data(topic, wanted.partition, next(results))
                for wanted in topic.partitions
            ),
        )
        for topic in request.topics
    )
    response: Response = make.FetchResponse(
        error_code=ErrorCode.none,
        session_id=0,
        responses=responses,
        node_endpoints=leaders.endpoints(),
    )
    return response


def _view(ctx: Context, topic: FetchTopic) -> TopicView | None:
    """By id, which is all that the versions that name leaders have."""
    try:
        return None if topic.topic_id is None else ctx.controller.topic_by_id(topic.topic_id)
    except RequestError:
        return None
