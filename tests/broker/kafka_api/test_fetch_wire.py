"""The short way to read a Fetch and to write its answer says what the general way says."""

import uuid
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from broker.errors import FrameError
from broker.kafka_api import fetch_wire
from broker.kafka_api.fetch_sessions import ID_VERSION_MIN, asked_by
from broker.kafka_api.framing import encode
from broker.kafka_api.wire import codec
from tests.broker.kafka_api.damage import Damage, damages
from tests.broker.kafka_api.fakes import batch
from tests.broker.kafka_api.layouts import FETCH, encode_request
from tests.broker.replies import received

VERSIONS = range(4, 18)
QUICK_VERSIONS = range(fetch_wire.VERSION_MIN, 18)
TOPIC_ID = uuid.UUID(int=7)
IN_SESSION: dict[str, Any] = {"session_id": 5, "session_epoch": 7}

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
    usual = fetch_wire.read(frame, position, version)
    if usual is None:
        return False
    request: Any = codec(1, version).read(frame, position)
    assert (request.session_id, request.session_epoch) == (usual.session_id, usual.epoch)
    assert usual.epoch > 0 or (usual.session_id, usual.epoch) == (0, -1)
    assert getattr(request, "rack_id", "") == ""
    assert request.forgotten_topics_data == ()
    assert all(len(topic.partitions) == 1 for topic in request.topics)
    assert usual.named == tuple(asked_by(request))
    assert all(one.partition == 0 and one.topic is not None for one in usual.named)
    assert usual.size_min == request.min_bytes <= 1
    assert usual.size_max == request.max_bytes
    assert usual.wait_ms / 1000 == request.max_wait.total_seconds()
    assert usual.is_committed == (request.isolation_level == 1)
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
    in_session = usual(**IN_SESSION)
    assert same(*body(version, in_session), version)
    assert same(*body(version, in_session | {"topics": []}), version)
    partitions = [{"partition": 0, "fetch_offset": 3, "max_bytes": 10}]
    topics = [
        {"topic": f"t{number}", "topic_id": uuid.UUID(int=number), "partitions": partitions}
        for number in range(1, 1 + fetch_wire.TOPIC_COUNT_MAX)
    ]
    assert same(*body(version, usual(topics=topics)), version)
    assert not same(*body(version, usual(topics=[*topics, topics[0]])), version)


@given(
    version=st.sampled_from(QUICK_VERSIONS),
    changes=st.sampled_from([{}, IN_SESSION, IN_SESSION | {"topics": []}]),
    damage=damages,
)
def test_a_damaged_request_is_read_the_same_or_not_at_all(
    version: int, changes: dict[str, Any], damage: Damage
) -> None:
    """Nothing that the general way refuses may be taken."""
    whole, position = body(version, usual(**changes))
    damaged = damage.of(whole, position)
    try:
        codec(1, version).read(damaged, position)
    except FrameError:
        assert fetch_wire.read(damaged, position, version) is None
    else:
        same(damaged, position, version)


rows = st.tuples(
    st.text(max_size=120).filter(lambda name: len(name.encode()) <= 120),
    i64,
    i64,
    st.sampled_from([0, 0, 1, 100, 127, 128, 2047, 2048, 16_384, 3_000_000]),
)


@given(
    version=st.sampled_from(QUICK_VERSIONS),
    correlation_id=i32,
    session_id=st.integers(0, 2**31 - 1),
    is_committed=st.booleans(),
    values=st.lists(rows, max_size=3),
)
@example(10, 1, 0, False, [("t", 12, 0, 1)])
@example(17, 1, 5, True, [("t", 12, 0, 3_000_000), ("u", 5, 5, 0)])
@example(17, 1, 5, True, [])
def test_the_short_answer_is_the_general_one_to_the_byte(
    version: int,
    correlation_id: int,
    session_id: int,
    is_committed: bool,
    values: list[tuple[str, int, int, int]],
) -> None:
    make = codec(1, version).maker
    topics, told = [], []
    for number, (name, high_watermark, log_start_offset, record_size) in enumerate(values, 1):
        topic_id = uuid.UUID(int=number)
        records = memoryview((batch(b"value") * 50_000)[:record_size])
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
        topics.append(
            make.FetchableTopicResponse(topic=name, topic_id=topic_id, partitions=(partition,))
        )
        topic = topic_id if version >= ID_VERSION_MIN else name
        told.append(fetch_wire.Row(topic, high_watermark, log_start_offset, records))
    response = make.FetchResponse(
        error_code=ErrorCode.none, session_id=session_id, responses=tuple(topics), node_endpoints=()
    )
    general = encode(
        codec(1, version),
        correlation_id,
        response,
        has_flexible_header=version >= FETCH.first_flexible,
    )
    asked = fetch_wire.Usual(version, 0, 1, 1, is_committed, session_id, 1, ())
    short = fetch_wire.answer(asked, correlation_id, told)
    assert received(short) == received(general)
