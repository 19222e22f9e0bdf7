"""Produce, v3-v12.

Behaviour
  * Each partition brings exactly one record batch; it is appended whole, in stage 1, in the order
    of the request.
  * acks=all is answered at the high watermark, acks=1 when the leader's own disk has it, acks=0 not
    at all.
  * acks=0 cannot be told an error, so the connection is closed: the client then refreshes its
    metadata.
  * A repeat within the idempotence window is a success with the offsets of the original.
  * Not durable in time is REQUEST_TIMED_OUT: the records may or may not survive, and a retry is
    right.
  * A batch that waits for a rollover when the leadership moves is sent on to the new leader, before
    the next request of the connection is looked at; so is what comes later, as long as it is little
    (`controller/handed_on.py`). Otherwise the client is told where to go.
  * What an idempotent producer has sent behind a batch that was refused is refused, too
    (`behind.py`): it would be out of order.
  * A batch for a topic that nobody leads now is refused, and the refusal waits up to two seconds
    for the next leader.
  * Topics are not created here. Internal topics are refused.
Versions
  v3 record batches · v5 log_start_offset · v7 zstd (KIP-110) · v8 error messages (KIP-467) · v9
  flexible · v10 current leader (KIP-951)
Not here
  message sets (v0-v2: still advertised, because old librdkafka compresses nothing otherwise,
  KAFKA-18659), transactions, topic ids (v13)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, Final

from kio.schema.errors import ErrorCode
from kio.static.primitive import Records

from broker import codecs
from broker.errors import (
    InvalidRecord,
    InvalidTopic,
    LeaderMoved,
    NotLeader,
    PeerError,
    RequestError,
    UnsupportedCompression,
)
from broker.kafka_api.context import Context
from broker.kafka_api.errors import Refused, partition_code, text_of
from broker.kafka_api.handler import Finish, Response, led_partition, ready
from broker.kafka_api.leaders import Leaders, until_led
from broker.kafka_api.wire import maker
from broker.ports import ACKS_ALL, ACKS_LEADER, ACKS_NONE, AnyPartition, Appended, TopicView

if TYPE_CHECKING:
    from kio.schema.produce.v12.request import PartitionProduceData, ProduceRequest

ZSTD_VERSION_MIN: Final = 7

_GATE: Final = Struct(">8xi4xb4xh")
"""Of a batch header, what the protocol itself has rules for: length after the 12th byte, magic,
attributes."""
_CODEC_MASK: Final = 0b111
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Written:
    """A batch that has its offsets, and where to ask whether it is safe."""

    partition: AnyPartition
    appended: Appended


Outcome = Written | RequestError


async def begin(ctx: Context, request: ProduceRequest) -> Finish:
    """Append every batch, then hand back the wait for the disk."""
    refusal = _refusal(request)
    outcomes: list[Outcome] = []
    for name, wanted in _each(request):
        outcomes.append(refusal or await _append(ctx, request, name, wanted))
    if request.acks == ACKS_NONE:
        close_on_error(outcomes)
        return ready(None)
    wait_s = min(request.timeout.total_seconds(), ctx.config.produce_wait_ms_max / 1000)
    deadline = ctx.clock.monotonic() + wait_s
    return partial(_finish, ctx, request, outcomes, deadline)


def failed(ctx: Context, request: ProduceRequest, code: ErrorCode) -> Response:
    """The same error for every partition. Raises PeerError for acks=0, which no answer may
    reach."""
    error = Refused(code, "the broker failed while serving this request")
    outcomes: list[Outcome] = [error for _ in _each(request)]
    if request.acks == ACKS_NONE:
        close_on_error(outcomes)
    return response(ctx, request, outcomes)


def refused(ctx: Context, request: ProduceRequest, error: RequestError) -> Response:
    """The answer to a request whose only batch was refused with `error`. Of two things that are
    wrong with it, the one that `begin` would have seen first is told."""
    ((_, wanted),) = _each(request)
    try:
        only_batch(wanted.records, request.__version__)
    except RequestError as earlier:
        error = earlier
    return response(ctx, request, [error])


def _each(request: ProduceRequest) -> Iterator[tuple[str, PartitionProduceData]]:
    for topic in request.topic_data:
        for wanted in topic.partition_data:
            yield topic.name, wanted


def _refusal(request: ProduceRequest) -> RequestError | None:
    """What is wrong with the request as a whole."""
    if request.acks not in (ACKS_NONE, ACKS_LEADER, ACKS_ALL):
        text = f"acks={request.acks}: must be -1, 0 or 1"
        return Refused(ErrorCode.invalid_required_acks, text)
    if request.transactional_id is not None:
        text = "transactions are not offered"
        return Refused(ErrorCode.transactional_id_authorization_failed, text)
    return None


def close_on_error(outcomes: list[Outcome]) -> None:
    """Raises PeerError for the first error."""
    for outcome in outcomes:
        if isinstance(outcome, RequestError):
            raise PeerError(f"a Produce with acks=0 failed and cannot be answered: {outcome}")


async def _append(
    ctx: Context, request: ProduceRequest, name: str, wanted: PartitionProduceData
) -> Outcome:
    try:
        topic = ctx.controller.topic(name)
        if topic.is_internal:
            raise InvalidTopic(f"{name} is an internal topic: clients may not write to it")
        batch = only_batch(wanted.records, request.__version__)
        if ctx.behind.holds(name, batch):
            raise NotLeader("a batch before this one was refused: send both again")
        try:
            partition = led_partition(ctx, topic, wanted.index)
            return Written(partition, await partition.append(batch, acks=request.acks))
        except LeaderMoved:
            routed = ctx.controller.anywhere(topic, resends=False)
            return Written(routed, await routed.append(batch, acks=request.acks))
        except NotLeader:
            sent_on = await ctx.controller.send_on(topic, batch, acks=request.acks)
            if sent_on is None:
                raise
            return Written(*sent_on)
    except RequestError as error:
        ctx.behind.refused(name, wanted.records or b"", error)
        return error


def only_batch(records: Records | None, version: int) -> bytes:
    """The one batch a v3+ partition must hold. Everything else about it is the partition's to
    check."""
    if not records:
        raise InvalidRecord(f"Produce v{version} must bring one record batch per partition, not 0")
    if len(records) < _GATE.size:
        raise InvalidRecord(f"{len(records)} bytes are no record batch")
    length, magic, attributes = _GATE.unpack_from(records)
    if magic != 2:
        raise InvalidRecord(f"Produce v{version} takes record batches of magic 2, not {magic}")
    if 0 <= length < len(records) - 12:
        raise InvalidRecord(f"Produce v{version} must bring one record batch per partition")
    if attributes & _CODEC_MASK == codecs.ZSTD and version < ZSTD_VERSION_MIN:
        raise UnsupportedCompression(f"zstd needs Produce v{ZSTD_VERSION_MIN} or later")
    return records


async def _finish(
    ctx: Context, request: ProduceRequest, outcomes: list[Outcome], deadline: float
) -> Response:
    """Wait until what was appended is as safe as asked. The waits overlap: the syncs are already
    under way."""
    settled: list[Outcome] = []
    for outcome in outcomes:
        if isinstance(outcome, Written):
            left_s = max(deadline - ctx.clock.monotonic(), 0.0)
            outcome = await _safe(outcome, request.acks, left_s)
        settled.append(outcome)
    # Half of the time, because the client itself waits no longer for the answer.
    left_s = (deadline - ctx.clock.monotonic()) / 2
    refused = (
        name
        for (name, _), outcome in zip(_each(request), settled, strict=True)
        if isinstance(outcome, NotLeader)
    )
    await until_led(ctx, refused, left_s)
    return response(ctx, request, settled)


async def _safe(written: Written, acks: int, wait_s: float) -> Outcome:
    end_offset = written.appended.end_offset
    try:
        await written.partition.committed(end_offset, acks=acks, timeout_s=wait_s)
    except RequestError as error:
        return error
    return written


def response(ctx: Context, request: ProduceRequest, outcomes: list[Outcome]) -> Response:
    make = maker(request)
    leaders = Leaders(ctx, make)
    results = iter(outcomes)

    def partition_response(name: str, index: int, outcome: Outcome) -> object:
        if isinstance(outcome, RequestError):
            return make.PartitionProduceResponse(
                index=index,
                error_code=partition_code(outcome),
                base_offset=-1,
                log_append_time=None,
                log_start_offset=-1,
                record_errors=(),
                error_message=text_of(outcome),
                current_leader=leaders.of(_view(ctx, name), outcome),
            )
        appended = outcome.appended
        return make.PartitionProduceResponse(
            index=index,
            error_code=ErrorCode.none,
            base_offset=appended.base_offset,
            log_append_time=_append_time(appended.log_append_time_ms),
            log_start_offset=appended.log_start_offset,
            record_errors=(),
            error_message=None,
            current_leader=leaders.unset,
        )

    responses = tuple(
        make.TopicProduceResponse(
            name=topic.name,
            partition_responses=tuple(
                partition_response(topic.name, wanted.index, next(results))
                for wanted in topic.partition_data
            ),
        )
        for topic in request.topic_data
    )
    response: Response = make.ProduceResponse(
        responses=responses, node_endpoints=leaders.endpoints()
    )
    return response


def _view(ctx: Context, name: str) -> TopicView | None:
    try:
        return ctx.controller.topic(name)
    except RequestError:
        return None


def _append_time(timestamp_ms: int) -> datetime | None:
    """None (-1 on the wire) unless the topic stamps: otherwise clients overwrite their own
    timestamps."""
    return None if timestamp_ms < 0 else _EPOCH + timedelta(milliseconds=timestamp_ms)
