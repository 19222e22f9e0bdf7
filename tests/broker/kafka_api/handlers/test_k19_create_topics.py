"""CreateTopics: tools spin for ever on a wrong refusal, and people lose data on a wrong yes."""

from typing import Any

import anyio
import pytest
from kio.schema.errors import ErrorCode
from structlog.testing import capture_logs

from broker.controller.topic_config import DEFINITIONS
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.layouts import CREATE_TOPICS, METADATA, ZERO_ID


async def create(node: Node, version: int = 7, **topic: Any) -> dict[str, Any]:
    rest = {key: topic.pop(key) for key in ("validate_only", "timeout_ms") if key in topic}
    answer = await node.connect().ask(
        CREATE_TOPICS, version, topics=[{"name": "t", **topic}], **rest
    )
    (found,) = answer["topics"]
    return dict(found)


@pytest.mark.parametrize("version", range(2, 8))
async def test_a_topic_is_visible_when_the_answer_is(node: Node, version: int) -> None:
    answer = await create(node, version)
    assert (answer["error"], answer["error_message"]) == (0, None)
    view = node.controller.topic("t")
    if version >= 5:
        assert (answer["num_partitions"], answer["replication_factor"]) == (1, 1)
    if version >= 7:
        assert answer["topic_id"] == view.topic_id


async def test_a_pipelined_metadata_request_sees_the_topic(node: Node) -> None:
    connection = node.connect()
    created = await connection.send(CREATE_TOPICS, 7, topics=[{"name": "t"}])
    listed = await connection.send(METADATA, 12, topics=[{"name": "t"}], allow_auto_create=False)
    assert (await listed.answer())["topics"][0]["error"] == 0
    assert (await created.answer())["topics"][0]["error"] == 0


async def test_more_partitions_give_one_and_say_so(node: Node) -> None:
    """The OpenMessaging Benchmark retries any refusal in a tight loop."""
    with capture_logs() as logs:
        answer = await create(node, num_partitions=16)
    assert (answer["error"], answer["num_partitions"]) == (0, 1)
    assert [(one["log_level"], one["asked"]) for one in logs] == [("warning", 16)]


async def test_more_partitions_are_refused_where_that_was_chosen(node: Node) -> None:
    node.configure(strict_partitions=True)
    answer = await create(node, num_partitions=2)
    assert answer["error"] == ErrorCode.invalid_partitions
    assert "one partition" in answer["error_message"]
    assert not node.controller.partitions
    assert (await create(node, num_partitions=1))["error"] == 0


@pytest.mark.parametrize("count", [0, -2, -(2**31)])
async def test_partition_counts_that_mean_nothing(node: Node, count: int) -> None:
    assert (await create(node, num_partitions=count))["error"] == ErrorCode.invalid_partitions


@pytest.mark.parametrize(("factor", "error"), [(-1, 0), (3, 0), (32767, 0), (0, 38), (-2, 38)])
async def test_any_replication_factor_that_means_something(
    node: Node, factor: int, error: int
) -> None:
    """Suites create with 3 unless told."""
    assert (await create(node, replication_factor=factor, num_partitions=-1))["error"] == error


async def test_a_name_that_is_taken_is_exactly_that(node: Node) -> None:
    """sarama, confluent and the benchmark rely on this very number."""
    await node.create("t")
    assert (await create(node))["error"] == ErrorCode.topic_already_exists
    assert (await create(node, validate_only=True))["error"] == ErrorCode.topic_already_exists


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_partitions": 2},
        {"num_partitions": 0},
        {"replication_factor": 0},
        {"configs": [{"name": "retention.ms", "value": "soon"}]},
    ],
)
async def test_a_name_that_is_taken_comes_before_what_else_is_wrong(
    node: Node, wrong: dict[str, Any]
) -> None:
    """Tools that create what may be there already go on upon this error, and give up at others."""
    node.configure(strict_partitions=True)
    await node.create("t")
    assert (await create(node, **wrong))["error"] == ErrorCode.topic_already_exists


@pytest.mark.parametrize("name", ["", ".", "a/b", "x" * 250])
async def test_a_bad_name(node: Node, name: str) -> None:
    assert (await create(node, name=name))["error"] == ErrorCode.invalid_topic_exception


async def test_configs_are_stored_known_or_not_and_read_back(node: Node) -> None:
    """redpanda#135."""
    configs = [
        {"name": "min.insync.replicas", "value": "2"},
        {"name": "flush.messages", "value": "1"},
        {"name": "vendor.special", "value": "x"},
    ]
    answer = await create(node, configs=configs)
    assert answer["error"] == 0
    stored = dict(node.controller.topic("t").configs)
    assert stored == {"min.insync.replicas": "2", "flush.messages": "1", "vendor.special": "x"}
    told = {one["name"]: (one["value"], one["source"]) for one in answer["configs"]}
    assert told["min.insync.replicas"] == ("2", 1)
    assert told["vendor.special"] == ("x", 1)
    assert told["retention.ms"] == ("604800000", 5)
    assert len(told) == len(DEFINITIONS) + 1


@pytest.mark.parametrize(
    ("configs", "error"),
    [
        ([{"name": "retention.ms", "value": "soon"}], ErrorCode.invalid_config),
        ([{"name": "retention.ms", "value": None}], ErrorCode.invalid_config),
        ([{"name": "a", "value": "1"}, {"name": "a", "value": "2"}], ErrorCode.invalid_request),
    ],
)
async def test_a_config_that_cannot_be_meant_is_named(
    node: Node, configs: list[dict[str, Any]], error: ErrorCode
) -> None:
    answer = await create(node, configs=configs)
    assert answer["error"] == error
    assert configs[0]["name"] in answer["error_message"]
    assert not node.controller.partitions


async def test_validate_only_creates_nothing_and_promises_no_id(node: Node) -> None:
    answer = await create(node, validate_only=True, num_partitions=4)
    assert (answer["error"], answer["num_partitions"], answer["topic_id"]) == (0, 1, ZERO_ID)
    assert not node.controller.partitions


async def test_a_name_twice_in_one_request_is_refused_both_times(node: Node) -> None:
    topics = [{"name": "a"}, {"name": "b"}, {"name": "a"}]
    answer = await node.connect().ask(CREATE_TOPICS, 7, topics=topics)
    assert [(one["name"], one["error"]) for one in answer["topics"]] == [
        ("a", 42),
        ("b", 0),
        ("a", 42),
    ]
    assert list(node.controller.partitions) == ["b"]


@pytest.mark.parametrize(
    ("topic", "error"),
    [
        ({"assignments": [{"partition": 0, "brokers": [1, 2, 3]}]}, 0),
        ({"assignments": [{"partition": 1, "brokers": [1]}]}, 39),
        ({"assignments": [{"partition": 0, "brokers": []}]}, 39),
        ({"assignments": [{"partition": 0, "brokers": [1, 1]}]}, 39),
        ({"assignments": [{"partition": index, "brokers": [1]} for index in (0, 1)]}, 39),
        ({"assignments": [{"partition": 0, "brokers": [1]}], "num_partitions": 1}, 42),
    ],
)
async def test_assignments_by_hand(node: Node, topic: dict[str, Any], error: int) -> None:
    answer = await create(node, **{"num_partitions": -1, "replication_factor": -1, **topic})
    assert answer["error"] == error
    if not error:
        assert answer["replication_factor"] == 3


async def test_a_creation_that_takes_too_long_may_or_may_not_have_happened(node: Node) -> None:
    node.controller.create_wait = anyio.Event()
    assert (await create(node, timeout_ms=1))["error"] == ErrorCode.request_timed_out


@pytest.mark.parametrize("timeout_ms", [0, -1])
async def test_no_timeout_means_the_nodes_own(node: Node, timeout_ms: int) -> None:
    assert (await create(node, timeout_ms=timeout_ms))["error"] == 0
