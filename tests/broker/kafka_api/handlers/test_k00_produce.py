"""Produce: what is acknowledged is in the log; what is not is told in words the client knows."""

import random
import struct

import anyio
import pytest
from kio.schema.errors import ErrorCode
from structlog.testing import capture_logs

from broker.errors import (
    BatchTooLarge,
    DuplicateSequence,
    FencedProducer,
    InvalidTimestamp,
    LeaderMoved,
    NotEnoughReplicas,
    NotLeader,
    OutcomeUnknown,
    OutOfOrderSequence,
    PeerError,
    RequestError,
    StorageFailed,
)
from broker.kafka_api.wire import load
from tests.broker.kafka_api.fakes import FakePartition, batch
from tests.broker.kafka_api.harness import Node, Way
from tests.broker.kafka_api.layouts import METADATA, PRODUCE


@pytest.fixture(params=Way)
async def way(request: pytest.FixtureRequest) -> Way:
    """All ways of a Produce keep the same promises."""
    for version in range(3, 13):
        await load(0, version)
    return Way(request.param)


ZSTD = 4
OLD_FORMAT = batch(b"a")[:16] + b"\1" + batch(b"a")[17:]


async def test_offsets_count_up_and_log_append_time_is_absent_for_create_time(node: Node) -> None:
    """Any timestamp here would overwrite the client's own."""
    await node.create("t")
    connection = node.connect()
    first = await connection.produce("t", batch(b"a", b"b"), version=8)
    second = await connection.produce("t", batch(b"c"), version=8)
    assert (first["error"], first["base_offset"], second["base_offset"]) == (0, 0, 2)
    assert first["log_append_time"] == second["log_append_time"] == -1
    assert first["log_start_offset"] == 0
    assert (first["record_errors"], first["error_message"]) == ([], None)


async def test_a_log_append_time_topic_tells_its_timestamp_to_the_millisecond(node: Node) -> None:
    await node.create("t", message_timestamp_type="LogAppendTime")
    node.clock.wall_ms = 1_712_345_678_901
    answer = await node.connect().produce("t", batch(b"a"))
    assert answer["log_append_time"] == 1_712_345_678_901


async def test_the_usual_produce_takes_the_quick_way_where_it_is_offered(
    node: Node, way: Way
) -> None:
    """Or every other test here would compare the general way with itself."""
    partition = await node.create("t")
    connection = node.connect()
    for version in range(3, 13):
        await connection.produce("t", batch(b"a"), version=version)
    assert partition.quick_count == (10 if way is Way.ALONE else 0)
    assert partition.soon_count == (10 if way is Way.AMONG_OTHERS else 0)


async def test_an_append_that_must_wait_goes_the_general_way(node: Node) -> None:
    partition = await node.create("t")
    partition.must_wait = True
    answer = await node.connect().produce("t", batch(b"a"))
    assert (answer["error"], answer["base_offset"]) == (0, 0)
    assert partition.end_offset == 1


async def test_a_client_that_changes_its_name_is_known_by_the_new_one(node: Node) -> None:
    await node.create("t")
    connection = node.connect()
    for name in ("one", "two", "two", None, "one"):
        assert (await connection.produce("t", batch(b"a"), client_id=name))["error"] == 0
        assert connection.session.client.client_id == (name or "")


async def test_acks_0_gets_no_reply_at_all_or_every_later_reply_is_misread(node: Node) -> None:
    partition = await node.create("t")
    connection = node.connect()
    topics = [{"name": "t", "partitions": [{"index": 0, "records": batch(b"a")}]}]
    asked = await connection.send(PRODUCE, 7, acks=0, topics=topics)
    assert await asked.reply() == b""
    assert partition.high_watermark == 1
    assert (await connection.ask(METADATA, 1, topics=[{"name": "t"}]))["topics"]


async def test_an_error_with_acks_0_closes_the_connection_as_nothing_else_is_heard(
    node: Node,
) -> None:
    topics = [{"name": "missing", "partitions": [{"index": 0, "records": batch(b"a")}]}]
    with pytest.raises(PeerError, match=r"127.0.0.1:50000 .*acks=0.*missing"):
        await node.connect().send(PRODUCE, 7, acks=0, topics=topics)


async def test_our_own_mistake_with_acks_0_closes_the_connection_too(node: Node) -> None:
    partition = await node.create("t")
    partition.error = ZeroDivisionError("a mistake of ours")
    topics = [{"name": "t", "partitions": [{"index": 0, "records": batch(b"a")}]}]
    with capture_logs(), pytest.raises(PeerError, match="acks=0"):
        await node.connect().send(PRODUCE, 7, acks=0, topics=topics)


async def test_acks_all_is_answered_at_the_high_watermark_and_not_before(node: Node) -> None:
    partition = await node.create("t")
    partition.is_held = True
    topics = [{"name": "t", "partitions": [{"index": 0, "records": batch(b"a")}]}]
    asked = await node.connect().send(PRODUCE, 7, acks=-1, topics=topics)
    answers = []

    async def finish() -> None:
        answers.append(await asked.answer())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(finish)
        await anyio.wait_all_tasks_blocked()
        assert not answers
        partition.release()
    assert answers[0]["topics"][0]["partitions"][0]["base_offset"] == 0


async def test_not_durable_in_time_is_a_timeout_the_client_may_retry(node: Node) -> None:
    partition = await node.create("t")
    partition.is_held = True
    answer = await node.connect().produce("t", batch(b"a"), timeout_ms=1)
    assert answer["error"] == ErrorCode.request_timed_out
    assert (answer["base_offset"], answer["log_append_time"]) == (-1, -1)


async def test_a_client_cannot_make_a_request_wait_for_ever(node: Node) -> None:
    node.configure(produce_wait_ms_max=1)
    partition = await node.create("t")
    partition.is_held = True
    answer = await node.connect().produce("t", batch(b"a"), timeout_ms=2**31 - 1)
    assert answer["error"] == ErrorCode.request_timed_out


async def test_pipelined_produces_keep_their_order_before_either_is_durable(node: Node) -> None:
    """Idempotence needs it, and so do people."""
    partition = await node.create("t")
    partition.is_held = True
    connection = node.connect()
    asked = []
    for value in (b"one", b"two", b"three"):
        topics = [{"name": "t", "partitions": [{"index": 0, "records": batch(value)}]}]
        asked.append(await connection.send(PRODUCE, 9, topics=topics))
    partition.release()
    answers = [await one.answer() for one in asked]
    assert [one["topics"][0]["partitions"][0]["base_offset"] for one in answers] == [0, 1, 2]
    assert b"two" in partition.batches[1][2]


async def test_every_partition_asked_is_answered_in_order_and_none_is_merged(node: Node) -> None:
    """librdkafka and kafka-go read exactly what they asked for, and nothing else."""
    await node.create("a")
    await node.create("b")
    wanted = [
        {"name": "b", "partitions": [{"index": 0, "records": batch(b"1")}]},
        {"name": "missing", "partitions": [{"index": 0, "records": batch(b"1")}]},
        {
            "name": "a",
            "partitions": [
                {"index": 1, "records": batch(b"1")},
                {"index": 0, "records": batch(b"1")},
                {"index": 0, "records": batch(b"2")},
            ],
        },
        {"name": "b", "partitions": [{"index": 0, "records": batch(b"2")}]},
    ]
    answer = await node.connect().ask(PRODUCE, 9, topics=wanted)
    told = [
        (topic["name"], one["index"], one["error"], one["base_offset"])
        for topic in answer["topics"]
        for one in topic["partitions"]
    ]
    assert told == [
        ("b", 0, 0, 0),
        ("missing", 0, 3, -1),
        ("a", 1, 3, -1),
        ("a", 0, 0, 0),
        ("a", 0, 0, 1),
        ("b", 0, 0, 1),
    ]


@pytest.mark.parametrize("acks", [2, -2, 100])
async def test_acks_that_mean_nothing_are_refused_and_nothing_is_written(
    node: Node, acks: int
) -> None:
    partition = await node.create("t")
    answer = await node.connect().produce("t", batch(b"a"), acks=acks)
    assert answer["error"] == ErrorCode.invalid_required_acks
    assert not partition.batches


@pytest.mark.parametrize("version", [3, 6, 7, 12])
async def test_zstd_needs_produce_7(node: Node, version: int) -> None:
    await node.create("t")
    answer = await node.connect().produce("t", batch(b"a" * 100, codec=ZSTD), version=version)
    expected = ErrorCode.none if version >= 7 else ErrorCode.unsupported_compression_type
    assert answer["error"] == expected


async def test_the_bytes_of_every_codec_are_stored_as_they_came(node: Node) -> None:
    """Only base offset and leader epoch, both outside the CRC, are the broker's."""
    partition = await node.create("t")
    connection = node.connect()
    for codec in range(5):
        data = batch(b"value" * 20, codec=codec)
        assert (await connection.produce("t", data))["error"] == 0
        stored = partition.batches[-1][2]
        assert stored[:8] == struct.pack(">q", codec)
        assert stored[8:12] + stored[16:] == data[8:12] + data[16:]


@pytest.mark.parametrize(
    ("records", "error"),
    [
        pytest.param(None, ErrorCode.invalid_record, id="null"),
        pytest.param(b"", ErrorCode.invalid_record, id="empty"),
        pytest.param(b"x" * 22, ErrorCode.invalid_record, id="shorter than a header"),
        pytest.param(batch(b"a") + batch(b"b"), ErrorCode.invalid_record, id="two batches"),
        pytest.param(batch(b"a")[:-1], ErrorCode.corrupt_message, id="cut"),
        pytest.param(batch(b"a")[:-1] + b"!", ErrorCode.corrupt_message, id="crc"),
        pytest.param(OLD_FORMAT, ErrorCode.invalid_record, id="magic 1"),
        pytest.param(b"\0" * 61, ErrorCode.invalid_record, id="zeros"),
    ],
)  # fmt: skip
async def test_what_is_no_single_sound_batch_is_never_written(
    node: Node, records: bytes | None, error: ErrorCode
) -> None:
    partition = await node.create("t")
    answer = await node.connect().produce("t", records)
    assert answer["error"] == error
    assert answer["error_message"]
    assert not partition.batches


@pytest.mark.parametrize("way", [Way.ALONE, Way.AMONG_OTHERS], indirect=True)
async def test_a_damaged_batch_is_refused_in_the_same_words_by_all_ways(node: Node) -> None:
    """Each is looked at once: two looks at a large batch are two checksums of it."""
    seed = random.randrange(2**32)
    choose = random.Random(seed)
    await node.create("quick")
    await node.create("general")
    quick, general = node.connect(), node.connect()
    general.way = Way.GENERAL
    for number in range(300):
        data = bytearray(batch(b"a", b"b"))
        for _ in range(choose.choice([1, 1, 2])):
            data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
        answers = [
            await connection.produce(topic, bytes(data), version=8)
            for connection, topic in ((quick, "quick"), (general, "general"))
        ]
        assert answers[0] == answers[1], (seed, number)
    assert quick.general_count == 0, seed


async def test_a_batch_above_max_message_bytes_is_told_so_that_java_splits_it(node: Node) -> None:
    await node.create("t", max_message_bytes="200")
    answer = await node.connect().produce("t", batch(b"x" * 300))
    assert answer["error"] == ErrorCode.message_too_large


async def test_clients_may_not_write_to_internal_topics(node: Node) -> None:
    partition = await node.create("__state")
    answer = await node.connect().produce("__state", batch(b"a"))
    assert answer["error"] == ErrorCode.invalid_topic_exception
    assert not partition.batches


async def test_a_transactional_write_is_refused_for_good(node: Node) -> None:
    partition = await node.create("t")
    answer = await node.connect().produce("t", batch(b"a"), transactional_id="tx")
    assert answer["error"] == ErrorCode.transactional_id_authorization_failed
    assert not partition.batches


async def test_a_retried_idempotent_batch_is_a_success_at_its_first_offset(node: Node) -> None:
    """An error here would make clients bump their epoch and write it twice."""
    partition = await node.create("t")
    connection = node.connect()
    data = batch(b"a", b"b", producer_id=9, epoch=0, sequence=0)
    await connection.produce("t", data)
    await connection.produce("t", batch(b"c", producer_id=9, epoch=0, sequence=2))
    again = await connection.produce("t", data)
    assert (again["error"], again["base_offset"]) == (0, 0)
    assert partition.end_offset == 3


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (NotLeader("moved"), ErrorCode.not_leader_or_follower),
        (OutOfOrderSequence("gap"), ErrorCode.out_of_order_sequence_number),
        (DuplicateSequence("old"), ErrorCode.duplicate_sequence_number),
        (FencedProducer("epoch"), ErrorCode.invalid_producer_epoch),
        (NotEnoughReplicas("one of three"), ErrorCode.not_enough_replicas),
        (StorageFailed("EIO"), ErrorCode.kafka_storage_error),
        (InvalidTimestamp("year 3000"), ErrorCode.invalid_timestamp),
        (BatchTooLarge("big"), ErrorCode.message_too_large),
    ],
)
async def test_each_failure_has_the_number_clients_act_on(
    node: Node, raised: RequestError, error: ErrorCode
) -> None:
    partition = await node.create("t")
    partition.error = raised
    answer = await node.connect().produce("t", batch(b"a"))
    assert (answer["error"], answer["error_message"]) == (error, str(raised))


async def test_a_topic_deleted_under_a_producer_is_unknown_by_name(node: Node) -> None:
    partition = await node.create("t")
    view = partition.view
    await node.controller.delete_topic(view.topic_id)
    node.controller.topic = lambda name: view  # type: ignore[method-assign]  # a stale view
    assert (await node.connect().produce("t", batch(b"a")))["error"] == 3


async def test_a_long_topic_name_does_not_make_the_error_unsendable(node: Node) -> None:
    answer = await node.connect().produce("x" * 32_767, batch(b"a"), version=8)
    assert answer["error"] == 3
    assert len(answer["error_message"]) <= 500


async def test_a_rotation_costs_a_batch_that_waits_for_it_nothing(node: Node) -> None:
    partition = await node.create("t")
    successor = FakePartition(partition.view, node.clock)
    node.controller.routes["t"] = successor
    partition.error = LeaderMoved("while it waited")
    answer = await node.connect().produce("t", batch(b"a"))
    assert (answer["error"], answer["base_offset"]) == (0, 0)
    assert successor.high_watermark == 1
    assert partition.high_watermark == 0


async def test_the_first_batches_after_a_rotation_need_no_pause_of_their_client(node: Node) -> None:
    partition = await node.create("t")
    successor = FakePartition(partition.view, node.clock)
    node.controller.handed_on["t"] = successor
    partition.error = NotLeader("handed on")
    connection = node.connect()
    offsets = [(await connection.produce("t", batch(b"%d" % n)))["base_offset"] for n in range(3)]
    assert offsets == [0, 1, 2]
    assert (successor.high_watermark, partition.high_watermark) == (3, 0)


_NOT_LEADER = ErrorCode.not_leader_or_follower


def _numbered(sequence: int, *, producer_id: int = 9, epoch: int = 0) -> bytes:
    return batch(b"%d" % sequence, producer_id=producer_id, epoch=epoch, sequence=sequence)


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize(
    "refusal", [NotLeader("not yet"), NotEnoughReplicas("one"), OutcomeUnknown("?")]
)
async def test_what_was_sent_behind_a_refused_batch_does_not_overtake_it(
    way: Way, is_known: bool, refusal: RequestError
) -> None:
    """A node that stood still refuses one batch, and leads again when it reads the next. As an
    out-of-order sequence that makes librdkafka write twice, in other partitions; a producer that
    the topic does not know would be written in the wrong order."""
    node = Node(way=way)
    partition = await node.create("t")
    connection = node.connect()
    first = 0
    if is_known:
        await connection.produce("t", _numbered(0))
        first = 1
    partition.error = refusal
    refused = await connection.produce("t", _numbered(first))
    partition.error = None
    behind = [(await connection.produce("t", _numbered(first + n)))["error"] for n in (1, 2)]
    assert refused["error"] != 0
    assert behind == [_NOT_LEADER, _NOT_LEADER]
    again = [await connection.produce("t", _numbered(first + n)) for n in range(4)]
    assert [answer["base_offset"] for answer in again] == [first, first + 1, first + 2, first + 3]


async def test_a_producer_that_went_elsewhere_with_a_refused_batch_may_come_back(
    way: Way,
) -> None:
    """What it brings next is taken for what it had sent behind that one; but only once."""
    node = Node(way=way)
    partition = await node.create("t")
    connection = node.connect()
    await connection.produce("t", _numbered(0))
    partition.error = NotLeader("elsewhere")
    assert (await connection.produce("t", _numbered(1)))["error"] == _NOT_LEADER
    partition.error = None
    await node.connect().produce("t", _numbered(1))
    assert (await connection.produce("t", _numbered(2)))["error"] == _NOT_LEADER
    assert (await connection.produce("t", _numbered(2)))["base_offset"] == 2


async def test_a_refused_batch_holds_up_no_other_producer_and_no_other_topic(
    way: Way,
) -> None:
    node = Node(way=way)
    partition = await node.create("t")
    await node.create("u")
    connection = node.connect()
    partition.error = NotLeader("not yet")
    await connection.produce("t", _numbered(0))
    partition.error = None
    assert (await connection.produce("u", _numbered(1)))["error"] == 0
    assert (await node.connect().produce("t", _numbered(1, producer_id=8)))["error"] == 0
    assert (await connection.produce("t", batch(b"of nobody")))["error"] == 0


async def test_a_new_epoch_behind_a_refused_batch_is_taken(way: Way) -> None:
    node = Node(way=way)
    partition = await node.create("t")
    connection = node.connect()
    partition.error = NotLeader("not yet")
    await connection.produce("t", _numbered(0))
    partition.error = None
    assert (await connection.produce("t", _numbered(0, epoch=1)))["error"] == 0
