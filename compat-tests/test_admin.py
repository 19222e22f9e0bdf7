"""Admin tools: configurations changed, records deleted, and the space that comes back."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import aiokafka
import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
)
from conftest import Launch

from harness.clients import (
    WAIT_S_MAX,
    Message,
    confluent_consumer,
    confluent_end,
    confluent_read,
    confluent_write,
    offsets,
)
from harness.server import Server

pytestmark = [pytest.mark.confluent]


@pytest.fixture
def admin(server: Server) -> Iterator[Any]:
    yield AdminClient({"bootstrap.servers": server.kafka})


def _create(admin: Any, name: str, **config: str) -> None:
    given = {key.replace("_", "."): value for key, value in config.items()}
    admin.create_topics([NewTopic(name, 1, 1, config=given)])[name].result(WAIT_S_MAX)


def _write(server: Server, topic: str, count: int, size: int = 10) -> None:
    confluent_write(server.kafka, topic, [Message(None, b"x" * size) for _ in range(count)])


def _alter(admin: Any, name: str, *entries: Any, type_: Any = ResourceType.TOPIC) -> None:
    resource = ConfigResource(type_, name, incremental_configs=list(entries))
    admin.incremental_alter_configs([resource])[resource].result(WAIT_S_MAX)


def _set(name: str, value: str, operation: Any = AlterConfigOpType.SET) -> Any:
    return ConfigEntry(name, value, incremental_operation=operation)


def _configs(admin: Any, name: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, name)
    found = admin.describe_configs([resource])[resource].result(WAIT_S_MAX)
    return {key: entry.value for key, entry in found.items()}


def _delete_records(admin: Any, topic: str, offset: int) -> int:
    wanted = TopicPartition(topic, 0, offset)
    return int(admin.delete_records([wanted])[wanted].result(WAIT_S_MAX).low_watermark)


def _earliest(admin: Any, topic: str) -> int:
    wanted = TopicPartition(topic, 0)
    earliest = cast("Any", OffsetSpec).earliest()
    found = admin.list_offsets({wanted: earliest})[wanted].result(WAIT_S_MAX)
    return int(found.offset)


def _read_all(admin: Any, server: Server, topic: str) -> list[int]:
    """The offsets of everything that is there."""
    start, end = _earliest(admin, topic), confluent_end(server.kafka, topic)
    return offsets(confluent_read(server.kafka, topic, end - start, start=start))


def _until(holds: Callable[[], bool], why: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not holds():
        assert time.monotonic() < deadline, why()
        time.sleep(0.02)


def test_one_configuration_changes_and_the_others_stay(admin: Any, topic: str) -> None:
    _create(admin, topic, retention_ms="7200000", segment_bytes="1048576")
    _alter(admin, topic, _set("retention.ms", "3600000"), _set("max.message.bytes", "2000000"))
    found = _configs(admin, topic)
    assert found["retention.ms"] == "3600000"
    assert found["max.message.bytes"] == "2000000"
    assert found["segment.bytes"] == "1048576"
    _alter(
        admin,
        topic,
        _set("retention.ms", "", AlterConfigOpType.DELETE),
        _set("cleanup.policy", "compact", AlterConfigOpType.APPEND),
    )
    found = _configs(admin, topic)
    assert found["retention.ms"] == "604800000"
    assert found["cleanup.policy"] == "delete,compact"


def test_configuration_that_is_replaced_as_a_whole(admin: Any, topic: str) -> None:
    _create(admin, topic, retention_ms="7200000")
    resource = ConfigResource(ResourceType.TOPIC, topic, set_config={"segment.bytes": "2000000"})
    with pytest.warns(DeprecationWarning):
        futures = admin.alter_configs([resource])
    futures[resource].result(WAIT_S_MAX)
    found = _configs(admin, topic)
    assert (found["retention.ms"], found["segment.bytes"]) == ("604800000", "2000000")


@pytest.mark.parametrize(
    ("type_", "name", "code"),
    [
        (ResourceType.TOPIC, None, KafkaError.INVALID_CONFIG),
        (ResourceType.TOPIC, "missing", KafkaError.UNKNOWN_TOPIC_OR_PART),
        (ResourceType.BROKER, "1", KafkaError.INVALID_REQUEST),
    ],
)
def test_change_that_is_refused(
    admin: Any, topic: str, type_: Any, name: str | None, code: int
) -> None:
    _create(admin, topic)
    with pytest.raises(KafkaException) as caught:
        _alter(admin, name or topic, _set("retention.ms", "soon"), type_=type_)
    assert caught.value.args[0].code() == code
    assert "retention.ms" in caught.value.args[0].str() or name == "missing"


def test_records_that_are_deleted(admin: Any, server: Server, topic: str) -> None:
    _create(admin, topic)
    _write(server, topic, 100)
    assert _delete_records(admin, topic, 40) == 40
    assert _earliest(admin, topic) == 40
    assert _read_all(admin, server, topic) == list(range(40, 100))
    assert _delete_records(admin, topic, 10) == 40
    assert _delete_records(admin, topic, -1) == 100
    assert _read_all(admin, server, topic) == []
    _write(server, topic, 1)
    assert _read_all(admin, server, topic) == [100]


def test_records_that_nobody_has_written_yet(admin: Any, server: Server, topic: str) -> None:
    _create(admin, topic)
    _write(server, topic, 5)
    with pytest.raises(KafkaException) as caught:
        _delete_records(admin, topic, 6)
    assert caught.value.args[0].code() == KafkaError.OFFSET_OUT_OF_RANGE


def test_reader_whose_position_was_deleted(admin: Any, server: Server, topic: str) -> None:
    """It is told, and goes where it was configured to go."""
    _create(admin, topic)
    _write(server, topic, 20)
    _delete_records(admin, topic, 15)
    reader = confluent_consumer(server.kafka, topic, 3, **{"auto.offset.reset": "earliest"})
    try:
        found: list[Any] = []

        def all_came() -> bool:
            found.extend(reader.consume(100, timeout=0.1))
            return len(found) >= 5

        _until(all_came, lambda: found)
        assert [message.offset() for message in found] == [15, 16, 17, 18, 19]
    finally:
        reader.close()


def test_partitions_that_cannot_be_added(admin: Any, topic: str) -> None:
    _create(admin, topic)
    with pytest.raises(KafkaException) as caught:
        admin.create_partitions([NewPartitions(topic, 3)])[topic].result(WAIT_S_MAX)
    assert caught.value.args[0].code() == KafkaError.INVALID_PARTITIONS
    assert "one partition" in caught.value.args[0].str()


def test_access_control_that_is_not_there(admin: Any, topic: str) -> None:
    granted = AclBinding(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:anna", "*",
        AclOperation.READ, AclPermissionType.ALLOW,
    )  # fmt: skip
    with pytest.raises(KafkaException) as caught:
        admin.create_acls([granted])[granted].result(WAIT_S_MAX)
    assert caught.value.args[0].code() == KafkaError.SECURITY_DISABLED


@pytest.mark.anyio
async def test_another_client_deletes_records(admin: Any, server: Server, topic: str) -> None:
    _create(admin, topic)
    _write(server, topic, 10)
    client = AIOKafkaAdminClient(bootstrap_servers=server.kafka)
    await client.start()
    try:
        wanted = {aiokafka.TopicPartition(topic, 0): RecordsToDelete(before_offset=7)}
        await client.delete_records(wanted)
    finally:
        await client.close()
    assert _earliest(admin, topic) == 7


def _log_size(data_dir: Path) -> int:
    """Bytes of all files of topics, but for internal ones."""
    size = 0
    for folder, _, names in os.walk(data_dir):  # what vanishes meanwhile is passed over
        for name in names:
            if name.endswith(".log") and "__" not in folder:
                with suppress(FileNotFoundError):
                    size += (Path(folder) / name).stat().st_size
    return size


@pytest.mark.parametrize(
    ("config", "size_left_max"), [("retention.bytes", 300_000), ("retention.ms", 0)]
)
def test_space_that_comes_back(launch: Launch, topic: str, config: str, size_left_max: int) -> None:
    server = launch(
        environment={"WALRUS_RETENTION_CHECK_MS": "50", "WALRUS_MONITOR_CHECK_MS": "50"}
    )
    admin: Any = AdminClient({"bootstrap.servers": server.kafka})
    _create(admin, topic, segment_bytes="100000")
    for _ in range(10):
        _write(server, topic, 100, 1000)
        time.sleep(0.06)
    assert _log_size(server.data_dir) > 1_000_000
    _alter(admin, topic, _set(config, "200000" if config == "retention.bytes" else "1"))
    _until(
        lambda: _log_size(server.data_dir) <= size_left_max,
        lambda: f"{_log_size(server.data_dir)} bytes are left\n{server.log()[-3000:]}",
    )
    _until(
        lambda: server.metric("walrus_storage_log_bytes") == _log_size(server.data_dir),
        lambda: server.get("/metrics")[1],
    )
    assert server.metric("walrus_cluster_under_replicated_segments") == 0
    _alter(admin, topic, _set(config, "", AlterConfigOpType.DELETE))
    start = _earliest(admin, topic)
    assert start >= 500
    server.kill()
    server.start()
    admin = AdminClient({"bootstrap.servers": server.kafka})
    assert _earliest(admin, topic) == start
    _write(server, topic, 1)
    assert _read_all(admin, server, topic) == list(range(start, 1001))
