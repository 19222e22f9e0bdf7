"""AlterConfigs: replaces what is set, and changes nothing when any of it cannot be meant."""

from typing import Any

import pytest

from broker.kafka_api.alter import RESOURCE_COUNT_MAX
from tests.broker.kafka_api.admin_layouts import ALTER_CONFIGS
from tests.broker.kafka_api.harness import Node

TOPIC, BROKER, GROUP = 2, 4, 32


async def alter(
    node: Node, type_: int, name: str, version: int = 2, validate_only: bool = False, **configs: Any
) -> tuple[int, str | None]:
    """(error, its text); `_` in the name of a config stands for a dot."""
    wanted = [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()]
    resources = [{"type": type_, "name": name, "configs": wanted}]
    answer = await node.connect().ask(
        ALTER_CONFIGS, version, resources=resources, validate_only=validate_only
    )
    (found,) = answer["resources"]
    assert (found["type"], found["name"]) == (type_, name)
    return found["error"], found["error_message"]


def configs_of(node: Node, name: str = "t") -> dict[str, str]:
    return dict(node.controller.topic(name).configs)


@pytest.mark.parametrize("version", range(3))
async def test_what_is_left_out_goes_back_to_its_default(node: Node, version: int) -> None:
    await node.create("t", retention_ms="5", segment_bytes="1000")
    assert await alter(node, TOPIC, "t", version, retention_ms="6") == (0, None)
    assert configs_of(node) == {"retention.ms": "6"}
    assert await alter(node, TOPIC, "t", version) == (0, None)
    assert configs_of(node) == {}


async def test_validate_only_changes_nothing(node: Node) -> None:
    await node.create("t", retention_ms="5")
    assert await alter(node, TOPIC, "t", validate_only=True, retention_ms="6") == (0, None)
    error, text = await alter(node, TOPIC, "t", validate_only=True, retention_ms="x")
    assert (error, "retention.ms" in (text or "")) == (40, True)
    assert configs_of(node) == {"retention.ms": "5"}


async def test_a_config_nobody_knows_is_stored(node: Node) -> None:
    await node.create("t")
    await alter(node, TOPIC, "t", vendor_special="x")
    assert configs_of(node) == {"vendor.special": "x"}


@pytest.mark.parametrize(
    ("type_", "name", "value", "error"),
    [
        (TOPIC, "t", "x", 40),
        (TOPIC, "t", None, 42),
        (TOPIC, "missing", "6", 3),
        (TOPIC, "bad name", "6", 17),
        (BROKER, "1", "6", 42),
        (BROKER, "2", "6", 42),
        (BROKER, "", "6", 42),
        (8, "1", "6", 42),
        (GROUP, "g", "6", 40),
        (GROUP, "", "6", 42),
    ],
)
async def test_what_cannot_be_changed_is_refused_in_words(
    node: Node, type_: int, name: str, value: str | None, error: int
) -> None:
    await node.create("t", retention_ms="5")
    found, text = await alter(node, type_, name, retention_ms=value)
    assert found == error
    assert text
    assert configs_of(node) == {"retention.ms": "5"}


async def test_configs_of_a_group_are_replaced(node: Node) -> None:
    assert await alter(node, GROUP, "g", consumer_session_timeout_ms="50000") == (0, None)
    assert await alter(node, GROUP, "g", consumer_heartbeat_interval_ms="6000") == (0, None)
    assert node.controller.group_configs("g") == {"consumer.heartbeat.interval.ms": "6000"}
    error, text = await alter(node, GROUP, "g", consumer_session_timeout_ms="1000")
    assert (error, "from 45000 to 60000" in (text or "")) == (40, True)
    assert await alter(node, GROUP, "g", validate_only=True) == (0, None)
    assert node.controller.group_configs("g") == {"consumer.heartbeat.interval.ms": "6000"}


async def test_a_node_is_told_how_its_settings_change(node: Node) -> None:
    error, text = await alter(node, BROKER, "1", log_retention_ms="6")
    assert error == 42
    assert text is not None
    assert "restarted" in text
    assert await alter(node, BROKER, "1") == (0, None)


async def test_what_stands_twice_is_refused_and_the_rest_is_done(node: Node) -> None:
    await node.create("t")
    await node.create("u")
    config = {"name": "retention.ms", "value": "6"}
    one, other = {"type": TOPIC, "name": "t"}, {"type": TOPIC, "name": "u"}
    resources = [{**one, "configs": [config]}, {**other, "configs": [config]}, one]
    answer = await node.connect().ask(ALTER_CONFIGS, 1, resources=resources)
    assert [found["error"] for found in answer["resources"]] == [42, 0, 42]
    resources = [{**other, "configs": [config, {**config, "value": "7"}]}]
    answer = await node.connect().ask(ALTER_CONFIGS, 1, resources=resources)
    assert [found["error"] for found in answer["resources"]] == [42]
    assert (configs_of(node), configs_of(node, "u")) == ({}, {"retention.ms": "6"})


async def test_a_small_request_cannot_ask_for_endless_work(node: Node) -> None:
    resources = [{"type": BROKER, "name": str(number)} for number in range(RESOURCE_COUNT_MAX + 1)]
    answer = await node.connect().ask(ALTER_CONFIGS, 2, resources=resources)
    assert "more than" in answer["resources"][-1]["error_message"]
