"""The short way to read a Produce and to write its answer says what the general way says."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from broker.errors import FrameError
from broker.kafka_api import produce_wire
from broker.kafka_api.framing import encode
from broker.kafka_api.wire import codec
from tests.broker.kafka_api.damage import Damage, damages
from tests.broker.kafka_api.fakes import batch
from tests.broker.kafka_api.layouts import PRODUCE, encode_request
from tests.broker.replies import received

VERSIONS = range(3, 13)
BATCH = batch(b"value")

names = st.text(max_size=300).filter(lambda name: len(name.encode()) <= 300)
records = st.sampled_from([None, b"", b"x", BATCH, batch(b"z" * 500, codec=4), BATCH * 200])
partitions = st.fixed_dictionaries({"index": st.sampled_from([0, 0, 0, 1, -1]), "records": records})
topics = st.fixed_dictionaries(
    {"name": names, "partitions": st.lists(partitions, min_size=0, max_size=2)}
)
requests = st.fixed_dictionaries(
    {
        "transactional_id": st.sampled_from([None, None, "", "tx"]),
        "acks": st.integers(-(2**15), 2**15 - 1),
        "timeout_ms": st.integers(-(2**31), 2**31 - 1),
        "topics": st.lists(topics, min_size=0, max_size=2),
    }
)


def usual(**changes: Any) -> dict[str, Any]:
    topic = {"name": "t", "partitions": [{"index": 0, "records": BATCH}]}
    return {"transactional_id": None, "acks": -1, "timeout_ms": 30_000, "topics": [topic]} | changes


def body(version: int, values: dict[str, Any]) -> tuple[memoryview, int]:
    frame = encode_request(PRODUCE, version, 1, "me", values)
    return memoryview(frame), 12 + (version >= 9)


@cache
def others() -> list[produce_wire.Asked]:
    """What clients may have said before."""
    bodies = [(version, *body(version, usual())) for version in VERSIONS]
    reads = [produce_wire.read(frame, position, version) for version, frame, position in bodies]
    return [read[0] for read in reads if read is not None]


def same(frame: memoryview, position: int, version: int) -> bool:
    """Whether the short way takes the request; if it does, it must read what the general way
    reads."""
    read = produce_wire.read(frame, position, version)
    for last in others():
        if produce_wire.is_again(frame, last):
            again = produce_wire.read_again(frame, last)
            assert again == (None if read is None else (1, read[1]))
            assert read is None or read[0] == last
    if read is None:
        return False
    asked, records = read
    assert produce_wire.is_again(frame, asked)
    assert produce_wire.read_again(frame, asked) == (1, records)
    request: Any = codec(0, version).read(frame, position)
    ((topic, wanted),) = [(one, two) for one in request.topic_data for two in one.partition_data]
    assert request.transactional_id is None
    assert (asked.topic, asked.acks, 0) == (topic.name, request.acks, wanted.index)
    assert timedelta(milliseconds=asked.timeout_ms) == request.timeout
    assert bytes(records) == wanted.records
    return True


@given(version=st.sampled_from(VERSIONS), values=requests)
def test_what_the_short_way_reads_is_what_the_general_way_reads(
    version: int, values: dict[str, Any]
) -> None:
    same(*body(version, values), version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_request_that_says_something_else_is_taken_for_the_one_before(version: int) -> None:
    (last,) = (asked for asked in others() if asked.version == version)
    for changes in ({"acks": 1}, {"timeout_ms": 1}, {"topics": [{"name": "u", "partitions": []}]}):
        assert not produce_wire.is_again(body(version, usual(**changes))[0], last)
    for frame in (encode_request(PRODUCE, version, 2, who, usual()) for who in ("me", "you")):
        assert produce_wire.is_again(memoryview(frame), last) == (b"you" not in frame)
    other_api = bytearray(encode_request(PRODUCE, version, 2, "me", usual()))
    other_api[1] = 1
    assert not produce_wire.is_again(memoryview(other_api), last)


def test_what_a_thousand_connections_say_alike_is_kept_once() -> None:
    for one, other in zip(others(), others(), strict=True):
        assert one is other


@pytest.mark.parametrize("version", VERSIONS)
def test_the_usual_request_is_read_the_short_way(version: int) -> None:
    assert same(*body(version, usual()), version)
    assert same(*body(version, usual(acks=1, timeout_ms=-5)), version)


@given(version=st.sampled_from(VERSIONS), damage=damages)
def test_a_damaged_request_is_read_the_same_or_not_at_all(version: int, damage: Damage) -> None:
    """Nothing that the general way refuses may be taken."""
    whole, position = body(version, usual())
    damaged = damage.of(whole, position)
    try:
        codec(0, version).read(damaged, position)
    except FrameError:
        assert produce_wire.read(damaged, position, version) is None
    else:
        same(damaged, position, version)


@given(
    version=st.sampled_from(VERSIONS),
    name=names,
    correlation_id=st.integers(-(2**31), 2**31 - 1),
    base_offset=st.integers(0, 2**63 - 1),
    append_time_ms=st.sampled_from([-1, 0, 1_712_345_678_901, 2**41]),
    log_start_offset=st.integers(0, 2**63 - 1),
)
@example(3, "t", 1, 0, -1, 0)
@example(12, "t" * 126, 1, 2**40, 1_712_345_678_901, 5)
def test_the_short_answer_is_the_general_one_to_the_byte(
    version: int,
    name: str,
    correlation_id: int,
    base_offset: int,
    append_time_ms: int,
    log_start_offset: int,
) -> None:
    if version >= 9 and len(name.encode()) >= produce_wire.NAME_SIZE_MAX:
        return  # never read the short way
    make = codec(0, version).maker
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=append_time_ms)
    partition = make.PartitionProduceResponse(
        index=0,
        error_code=ErrorCode.none,
        base_offset=base_offset,
        log_append_time=None if append_time_ms < 0 else at,
        log_start_offset=log_start_offset,
        record_errors=(),
        error_message=None,
        current_leader=make.LeaderIdAndEpoch(),
    )
    topic = make.TopicProduceResponse(name=name, partition_responses=(partition,))
    response = make.ProduceResponse(responses=(topic,), node_endpoints=())
    general = encode(codec(0, version), correlation_id, response, has_flexible_header=version >= 9)
    short = produce_wire.answer(
        name,
        version,
        correlation_id,
        base_offset=base_offset,
        log_append_time_ms=append_time_ms,
        log_start_offset=log_start_offset,
    )
    assert short == received(general)
