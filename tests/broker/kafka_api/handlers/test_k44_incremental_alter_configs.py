"""IncrementalAlterConfigs: one config changes, and the others stay what they were."""

from typing import Any

import pytest

from tests.broker.kafka_api.admin_layouts import INCREMENTAL_ALTER_CONFIGS
from tests.broker.kafka_api.harness import Node

TOPIC, BROKER, GROUP = 2, 4, 32
SET, DELETE, APPEND, SUBTRACT = range(4)


async def alter(
    node: Node,
    *changes: tuple[str, int, str | None],
    type_: int = TOPIC,
    name: str = "t",
    version: int = 1,
    **values: Any,
) -> tuple[int, str | None]:
    """(error, its text), for changes of (config, operation, value)."""
    configs = [{"name": key, "operation": what, "value": to} for key, what, to in changes]
    resources = [{"type": type_, "name": name, "configs": configs}]
    answer = await node.connect().ask(
        INCREMENTAL_ALTER_CONFIGS, version, resources=resources, **values
    )
    (found,) = answer["resources"]
    return found["error"], found["error_message"]


@pytest.mark.parametrize("version", range(2))
@pytest.mark.parametrize(
    ("config", "operation", "value", "expected"),
    [
        ("retention.ms", SET, "6", {"retention.ms": "6"}),
        ("retention.ms", DELETE, None, {}),
        ("retention.ms", DELETE, "ignored", {}),
        ("segment.ms", DELETE, None, {"retention.ms": "5"}),
        ("segment.ms", SET, "7", {"retention.ms": "5", "segment.ms": "7"}),
        ("cleanup.policy", APPEND, "compact", {"cleanup.policy": "delete,compact"}),
        ("cleanup.policy", APPEND, "delete", {"cleanup.policy": "delete"}),
        ("cleanup.policy", SUBTRACT, "delete", {"cleanup.policy": ""}),
        ("cleanup.policy", SUBTRACT, "compact", {"cleanup.policy": "delete"}),
    ],
)
async def test_one_config_changes(
    node: Node,
    version: int,
    config: str,
    operation: int,
    value: str | None,
    expected: dict[str, str],
) -> None:
    await node.create("t", retention_ms="5")
    assert await alter(node, (config, operation, value), version=version) == (0, None)
    if config == "cleanup.policy":
        expected = {"retention.ms": "5", **expected}
    assert dict(node.controller.topic("t").configs) == expected


async def test_several_changes_of_one_topic_are_one(node: Node) -> None:
    await node.create("t", retention_ms="5")
    changes = [("segment.ms", SET, "7"), ("retention.ms", DELETE, None)]
    assert await alter(node, *changes) == (0, None)
    assert dict(node.controller.topic("t").configs) == {"segment.ms": "7"}
    error, _ = await alter(node, ("segment.ms", SET, "8"), ("retention.ms", SET, "x"))
    assert error == 40
    assert dict(node.controller.topic("t").configs) == {"segment.ms": "7"}, "all or nothing"


@pytest.mark.parametrize(
    ("config", "operation", "value", "error"),
    [
        ("retention.ms", SET, "x", 40),
        ("retention.ms", SET, None, 42),
        ("retention.ms", APPEND, "6", 40),
        ("vendor.special", SUBTRACT, "6", 40),
        ("cleanup.policy", APPEND, "shred", 40),
        ("cleanup.policy", APPEND, None, 42),
        ("retention.ms", 4, "6", 42),
        ("retention.ms", -1, "6", 42),
    ],
)
async def test_what_cannot_be_meant_is_refused_in_words(
    node: Node, config: str, operation: int, value: str | None, error: int
) -> None:
    await node.create("t")
    found, text = await alter(node, (config, operation, value))
    assert found == error
    assert config in (text or "")
    assert not node.controller.topic("t").configs


async def test_validate_only_changes_nothing(node: Node) -> None:
    await node.create("t")
    assert await alter(node, ("segment.ms", SET, "7"), validate_only=True) == (0, None)
    assert not node.controller.topic("t").configs
    assert (await alter(node, ("segment.ms", SET, "0"), validate_only=True))[0] == 40


@pytest.mark.parametrize(
    ("type_", "name", "error"), [(TOPIC, "missing", 3), (BROKER, "1", 42), (16, "x", 42)]
)
async def test_other_resources(node: Node, type_: int, name: str, error: int) -> None:
    found, text = await alter(node, ("segment.ms", SET, "7"), type_=type_, name=name)
    assert found == error
    assert text


async def test_a_config_of_a_group_is_set_and_taken_back(node: Node) -> None:
    session, heartbeat = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"
    wanted = ((session, SET, "50000"), (heartbeat, SET, "6000"))
    assert await alter(node, *wanted, type_=GROUP, name="g") == (0, None)
    assert await alter(node, (session, DELETE, None), type_=GROUP, name="g") == (0, None)
    assert node.controller.group_configs("g") == {heartbeat: "6000"}
    for name, operation in ((session, APPEND), ("share.session.timeout.ms", SET)):
        error, text = await alter(node, (name, operation, "50000"), type_=GROUP, name="g")
        assert (error, name in (text or "")) == (40, True)
    assert node.controller.group_configs("g") == {heartbeat: "6000"}
