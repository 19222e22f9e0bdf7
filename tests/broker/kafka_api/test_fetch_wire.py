"""The short way to read a Fetch and to write its answer says what the general way says."""

import uuid
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from broker.errors import FrameError
from broker.kafka_api import fetch_wire
from broker.kafka_api.fetch_sessions import ID_VERSION_MIN
from broker.kafka_api.framing import encode
from broker.kafka_api.wire import codec
from tests.broker.kafka_api.damage import Damage, damages
from tests.broker.kafka_api.fakes import batch
from tests.broker.kafka_api.layouts import FETCH, encode_request

VERSIONS = range(4, 18)
QUICK_VERSIONS = range(fetch_wire.VERSION_MIN, 18)
TOPIC_ID = uuid.UUID(int=7)

i32 = st.integers(-(2**31), 2**31 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
mostly = {"epoch": st.sampled_from([-1, -1, 0, 5]), "id": st.sampled_from([0, 0, 5])}
partitions = st.fixed_dictionaries(
    {
        "partition": st.sampled_from([0, 0, 0, 1, -1]),
        "current_leader_epoch": i32,
        "fetch_offset": i64,
        "last_fetched_epoch": i32,
        "log_start_offset": i64,
        "max_bytes": i32,
    }
)
topics = st.fixed_dictionaries(
    {
        "topic": st.text(max_size=200).filter(lambda name: len(name.encode()) <= 300),
        "topic_id": st.sampled_from([TOPIC_ID, uuid.UUID(int=0)]),
        "partitions": st.lists(partitions, max_size=2),
    }
)
forgotten = st.fixed_dictionaries(
    {
        "topic": st.just("f"),
        "topic_id": st.just(TOPIC_ID),
        "partitions": st.lists(i32, max_size=2),
    }
)
requests = st.fixed_dictionaries(
    {
        "replica_id": i32,
        "max_wait_ms": i32,
        "min_bytes": st.sampled_from([1, 1, 0, -1, 2]),
        "max_bytes": i32,
        "isolation_level": st.sampled_from([0, 1]),
        "session_id": mostly["id"],
        "session_epoch": mostly["epoch"],
        "topics": st.lists(topics, max_size=2),
        "forgotten": st.lists(forgotten, max_size=1),
        "rack_id": st.sampled_from(["", "", "r"]),
    }
)


def usual(**changes: Any) -> dict[str, Any]:
    partition = {"partition": 0, "fetch_offset": 12, "max_bytes": 2**20}
    topic = {"topic": "t", "topic_id": TOPIC_ID, "partitions": [partition]}
    values = {"max_wait_ms": 500, "isolation_level": 0, "session_id": 0, "topics": [topic]}
    return values | {"forgotten": [], "rack_id": ""} | changes


def body(version: int, values: dict[str, Any]) -> tuple[memoryview, int]:
    frame = encode_request(FETCH, version, 1, "me", values)
    return memoryview(frame), 12 + (version >= FETCH.first_flexible)


def same(frame: memoryview, position: int, version: int) -> bool:
    """Whether the short way takes the request; if it does, it must read what the general way
    reads."""
    asked = fetch_wire.read(frame, position, version)
    if asked is None:
        return False
    request: Any = codec(1, version).read(frame, position)
    ((topic, wanted),) = [(one, two) for one in request.topics for two in one.partitions]
    assert (request.session_id, request.session_epoch) == (0, -1)
    assert getattr(request, "rack_id", "") == ""
    assert (request.forgotten_topics_data, wanted.partition) == ((), 0)
    assert request.min_bytes <= 1
    if version >= ID_VERSION_MIN:
        assert asked.topic_id == topic.topic_id
    else:
        assert asked.topic_id is None
        assert asked.topic.decode() == topic.topic
    assert (asked.leader_epoch, asked.offset) == (wanted.current_leader_epoch, wanted.fetch_offset)
    assert asked.size_max == max(min(request.max_bytes, wanted.partition_max_bytes), 0)
    assert asked.is_committed == (request.isolation_level == 1)
    return True


@given(version=st.sampled_from(VERSIONS), values=requests)
def test_what_the_short_way_reads_is_what_the_general_way_reads(
    version: int, values: dict[str, Any]
) -> None:
    same(*body(version, values), version)


@pytest.mark.parametrize("version", QUICK_VERSIONS)
def test_the_usual_request_is_read_the_short_way(version: int) -> None:
    assert same(*body(version, usual()), version)
    assert same(*body(version, usual(isolation_level=1, max_bytes=100)), version)


@given(version=st.sampled_from(QUICK_VERSIONS), damage=damages)
def test_a_damaged_request_is_read_the_same_or_not_at_all(version: int, damage: Damage) -> None:
    """Nothing that the general way refuses may be taken."""
    whole, position = body(version, usual())
    damaged = damage.of(whole, position)
    try:
        codec(1, version).read(damaged, position)
    except FrameError:
        asked = fetch_wire.read(damaged, position, version)
        # Such a name leads to no topic, and so to the general way.
        assert asked is None or not is_text(asked.topic)
    else:
        same(damaged, position, version)


def is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(
    version=st.sampled_from(QUICK_VERSIONS),
    name=st.text(max_size=126).filter(lambda name: len(name.encode()) <= 126),
    correlation_id=i32,
    offsets=st.tuples(i64, i64),
    is_committed=st.booleans(),
    record_count=st.sampled_from([1, 100, 127, 128, 2047, 2048, 16_384, 3_000_000]),
)
@example(10, "t", 1, (12, 0), False, 1)
@example(17, "t", 1, (12, 0), True, 3_000_000)
def test_the_short_answer_is_the_general_one_to_the_byte(
    version: int,
    name: str,
    correlation_id: int,
    offsets: tuple[int, int],
    is_committed: bool,
    record_count: int,
) -> None:
    high_watermark, log_start_offset = offsets
    records = memoryview((batch(b"value") * 50_000)[:record_count])
    make = codec(1, version).maker
    partition = make.PartitionData(
        partition_index=0,
        error_code=ErrorCode.none,
        high_watermark=high_watermark,
        last_stable_offset=high_watermark,
        log_start_offset=log_start_offset,
        aborted_transactions=() if is_committed else None,
        preferred_read_replica=-1,
        records=records,
        current_leader=make.LeaderIdAndEpoch(),
    )
    topic = make.FetchableTopicResponse(topic=name, topic_id=TOPIC_ID, partitions=(partition,))
    response = make.FetchResponse(
        error_code=ErrorCode.none, session_id=0, responses=(topic,), node_endpoints=()
    )
    has_flexible_header = version >= FETCH.first_flexible
    general = encode(
        codec(1, version), correlation_id, response, has_flexible_header=has_flexible_header
    )
    asked = fetch_wire.Asked(
        version,
        TOPIC_ID.bytes if version >= ID_VERSION_MIN else name.encode(),
        leader_epoch=-1,
        offset=0,
        size_max=1,
        is_committed=is_committed,
    )
    short = fetch_wire.answer(
        asked,
        correlation_id,
        high_watermark=high_watermark,
        log_start_offset=log_start_offset,
        records=records,
    )
    assert b"".join(short) == b"".join(general)
