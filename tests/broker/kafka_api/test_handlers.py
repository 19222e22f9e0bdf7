"""The handlers over the real controller and log: what the fake promises, the node keeps."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from engine.batch import iter_headers
from tests.broker.kafka_api import admin_layouts, layouts
from tests.broker.kafka_api.fakes import batch
from tests.broker.kafka_api.harness import Connection, Node
from tests.broker.one_node import OneNode, running

T0 = 1_700_000_000_000


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[tuple[OneNode, Connection]]:
    async with running(path) as node:
        surroundings = Node()
        surroundings.controller = cast(Any, node.controller)
        yield node, surroundings.connect()


async def list_offset(connection: Connection, timestamp: int) -> tuple[int, int, int]:
    wanted = [{"partition": 0, "timestamp": timestamp}]
    answer = await connection.ask(
        layouts.LIST_OFFSETS, 9, topics=[{"name": "t", "partitions": wanted}]
    )
    found = answer["topics"][0]["partitions"][0]
    return found["error"], found["offset"], found["timestamp"]


async def test_from_creation_to_deletion(tmp_path: Path) -> None:
    async with connected(tmp_path) as (_, connection):
        topics = [{"name": "t", "num_partitions": 3, "replication_factor": 3}]
        created = (await connection.ask(layouts.CREATE_TOPICS, 7, topics=topics))["topics"][0]
        assert (created["error"], created["num_partitions"]) == (0, 1)

        first = await connection.produce("t", batch(b"a", b"b", timestamp_ms=T0), version=12)
        second = await connection.produce("t", batch(b"c", timestamp_ms=T0 + 10), version=3)
        assert (first["error"], first["base_offset"]) == (0, 0)
        assert (second["error"], second["base_offset"]) == (0, 2)

        answer = await connection.fetch(created["topic_id"], 1, version=17)
        headers = [header for _, header in iter_headers(answer["records"])]
        assert [header.base_offset for header in headers] == [0, 2]
        assert answer["high_watermark"] == 3

        assert await list_offset(connection, -1) == (0, 3, -1)
        assert await list_offset(connection, -2) == (0, 0, -1)
        assert await list_offset(connection, T0 + 1) == (0, 1, T0 + 1)
        assert await list_offset(connection, -3) == (0, 2, T0 + 10)
        assert await list_offset(connection, T0 + 11) == (0, -1, -1)

        gone = await connection.ask(layouts.DELETE_TOPICS, 6, topics=[{"name": "t"}])
        assert (gone["topics"][0]["error"], gone["topics"][0]["topic_id"]) == (
            0,
            created["topic_id"],
        )
        assert (await connection.fetch(created["topic_id"], 0, version=17))["error"] == 100
        assert (await connection.produce("t", batch(b"a")))["error"] == 3


async def test_a_retried_batch_is_written_once(tmp_path: Path) -> None:
    async with connected(tmp_path) as (node, connection):
        partition = await node.topic()
        init = await connection.ask(layouts.INIT_PRODUCER_ID, 5)
        producer: dict[str, Any] = {"producer_id": init["producer_id"], "epoch": init["epoch"]}
        for sequence in (0, 1, 0, 1, 2):
            data = batch(b"%d" % sequence, sequence=sequence, **producer)
            answer = await connection.produce("t", data)
            assert (answer["error"], answer["base_offset"]) == (0, sequence)
        assert partition.high_watermark == 3
        gap = await connection.produce("t", batch(b"x", sequence=9, **producer))
        assert gap["error"] == 45
        old = await connection.produce(
            "t", batch(b"x", producer_id=producer["producer_id"], epoch=1, sequence=0)
        )
        assert old["error"] == 0
        assert (await connection.produce("t", batch(b"x", sequence=3, **producer)))["error"] == 47


async def test_a_parked_fetch_is_woken_by_the_commit(tmp_path: Path) -> None:
    async with connected(tmp_path) as (node, connection):
        await node.topic()

        async def produce() -> None:
            assert (await connection.produce("t", batch(b"a")))["error"] == 0

        answer = await connection.fetch_woken_by(produce)
        assert answer["high_watermark"] == 1
        assert b"a" in answer["records"]


async def test_a_parked_fetch_is_told_that_its_topic_is_gone(tmp_path: Path) -> None:
    async with connected(tmp_path) as (node, connection):
        await node.topic()
        answer = await connection.fetch_woken_by(
            lambda: connection.ask(layouts.DELETE_TOPICS, 4, names=["t"])
        )
        assert answer["error"] == 3


async def test_each_refusal_keeps_its_number(tmp_path: Path) -> None:
    async with connected(tmp_path) as (node, connection):
        await node.topic("t", max_message_bytes="200")
        assert (await connection.produce("t", batch(b"x" * 300)))["error"] == 10
        assert (await connection.produce("t", batch(b"a")[:-1] + b"!"))["error"] == 2
        assert (await connection.produce("t", batch(b"a") + batch(b"a")))["error"] == 87
        late = batch(b"a", timestamp_ms=T0 + 10 * 3_600_000)
        assert (await connection.produce("t", late))["error"] == 32
        assert (await connection.fetch("t", 1))["error"] == 1
        assert (await connection.fetch(uuid.uuid4(), 0, version=13))["error"] == 100
        answer = await connection.ask(layouts.CREATE_TOPICS, 4, topics=[{"name": "t"}])
        assert answer["topics"][0]["error"] == 36
        wanted = [{"name": "u", "configs": [{"name": "segment.ms", "value": "x"}]}]
        answer = await connection.ask(layouts.CREATE_TOPICS, 4, topics=wanted)
        assert answer["topics"][0]["error"] == 40
        check = await connection.ask(
            layouts.CREATE_TOPICS, 7, topics=[{"name": "v"}], validate_only=True
        )
        assert check["topics"][0]["error"] == 0
        told = await connection.ask(
            layouts.METADATA, 12, topics=[{"name": "v"}], allow_auto_create=False
        )
        assert told["topics"][0]["error"] == 3


async def test_log_append_time_is_in_the_answer_and_in_the_batch(tmp_path: Path) -> None:
    async with connected(tmp_path) as (node, connection):
        await node.topic("t", message_timestamp_type="LogAppendTime")
        node.clock.wall_ms = T0 + 77
        answer = await connection.produce("t", batch(b"a", timestamp_ms=5))
        assert answer["log_append_time"] == T0 + 77
        ((_, header),) = iter_headers((await connection.fetch("t", 0))["records"])
        assert header.is_log_append_time
        assert header.max_timestamp == T0 + 77


async def test_admin_tools_change_what_they_say_they_change(tmp_path: Path) -> None:
    async with connected(tmp_path) as (node, connection):
        partition = await node.topic()
        for number in range(6):
            await connection.produce("t", batch(b"%d" % number))
        wanted = [{"name": "t", "partitions": [{"partition": 0, "offset": 4}]}]
        answer = await connection.ask(admin_layouts.DELETE_RECORDS, 2, topics=wanted)
        assert answer["topics"][0]["partitions"] == [
            {"partition": 0, "low_watermark": 4, "error": 0}
        ]
        assert (await connection.fetch("t", 3))["error"] == 1
        assert await list_offset(connection, -2) == (0, 4, -1)
        await connection.produce("t", batch(b"6"))

        epochs = [{"partition": 0, "leader_epoch": epoch} for epoch in (1, 2, 3)]
        asked = [{"topic": "t", "partitions": epochs}]
        answer = await connection.ask(admin_layouts.OFFSET_FOR_LEADER_EPOCH, 4, topics=asked)
        ends = [one["end_offset"] for one in answer["topics"][0]["partitions"]]
        assert ends == [6, 7, -1]

        config = {"name": "retention.ms", "operation": 0, "value": "77"}
        resources = [{"type": 2, "name": "t", "configs": [config]}]
        answer = await connection.ask(
            admin_layouts.INCREMENTAL_ALTER_CONFIGS, 1, resources=resources
        )
        assert answer["resources"][0]["error"] == 0
        assert partition.config.retention_ms == 77
        answer = await connection.ask(
            layouts.DESCRIBE_CONFIGS, 4, resources=[{"type": 2, "name": "t"}]
        )
        configs = {one["name"]: one["value"] for one in answer["resources"][0]["configs"]}
        assert configs["retention.ms"] == "77"

        answer = await connection.ask(admin_layouts.DESCRIBE_LOG_DIRS, 4, topics=None)
        ((log,),) = [one["topics"] for one in answer["results"]]
        size = sum(segment.size for segment in partition.log.segments())
        assert (log["name"], log["partitions"][0]["size"]) == ("t", size)
