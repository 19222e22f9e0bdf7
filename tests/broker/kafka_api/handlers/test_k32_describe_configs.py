"""DescribeConfigs: tools take an empty list for a broken broker."""

from typing import Any

import pytest

from broker.controller.definitions import ConfigType
from broker.controller.topic_config import DEFINITIONS
from broker.kafka_api.handlers.k32_describe_configs import RESOURCE_COUNT_MAX
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.layouts import DESCRIBE_CONFIGS

TOPIC, BROKER, GROUP = 2, 4, 32


async def describe(
    node: Node, type_: int, name: str, version: int = 4, keys: Any = None, **values: Any
) -> dict[str, Any]:
    resources = [{"type": type_, "name": name, "keys": keys}]
    answer = await node.connect().ask(DESCRIBE_CONFIGS, version, resources=resources, **values)
    (found,) = answer["resources"]
    assert (found["type"], found["name"]) == (type_, name)
    return dict(found)


@pytest.mark.parametrize("version", range(1, 5))
async def test_every_topic_config_is_there_with_its_default(node: Node, version: int) -> None:
    await node.create("t", retention_ms="5")
    found = await describe(node, TOPIC, "t", version)
    assert found["error"] == 0
    configs = {one["name"]: one for one in found["configs"]}
    assert set(configs) == {item.name for item in DEFINITIONS}
    retention, size = configs["retention.ms"], configs["max.message.bytes"]
    assert (retention["value"], retention["source"]) == ("5", 1)
    assert (size["value"], size["source"]) == ("1048588", 5)
    assert not any(one["sensitive"] or one["read_only"] for one in configs.values())
    assert not any(one["synonyms"] for one in configs.values()), "not asked for"
    if version >= 3:
        assert retention["type"] == ConfigType.LONG
        assert retention["documentation"] is None, "not asked for"


async def test_synonyms_and_documentation_when_asked(node: Node) -> None:
    await node.create("t", retention_bytes="5")
    found = await describe(
        node,
        TOPIC,
        "t",
        keys=["retention.bytes"],
        include_synonyms=True,
        include_documentation=True,
    )
    (one,) = found["configs"]
    assert one["synonyms"] == [
        {"name": "retention.bytes", "value": "5", "source": 1},
        {"name": "log.retention.bytes", "value": "-1", "source": 5},
    ]
    assert "segment" in one["documentation"]


async def test_a_default_that_kafkas_broker_keeps_in_hours_has_no_synonym(node: Node) -> None:
    """kafkajs' own tests compare."""
    await node.create("default")
    await node.create("set", retention_ms="5")

    async def told(topic: str) -> tuple[str, int, list[object]]:
        found = await describe(node, TOPIC, topic, keys=["retention.ms"], include_synonyms=True)
        (one,) = found["configs"]
        return one["value"], one["source"], one["synonyms"]

    assert await told("default") == ("604800000", 5, [])
    own = {"name": "retention.ms", "value": "5", "source": 1}
    assert await told("set") == ("5", 1, [own])


@pytest.mark.parametrize(
    ("keys", "count"),
    [(None, len(DEFINITIONS)), ([], len(DEFINITIONS)), (["segment.bytes", "no.such"], 1)],
)
async def test_a_list_of_names_filters_and_an_empty_one_does_not(
    node: Node, keys: list[str] | None, count: int
) -> None:
    await node.create("t")
    assert len((await describe(node, TOPIC, "t", keys=keys))["configs"]) == count


async def test_a_config_nobody_knows_is_read_back(node: Node) -> None:
    await node.create("t", vendor_special="x")
    (one,) = (await describe(node, TOPIC, "t", keys=["vendor.special"]))["configs"]
    assert (one["value"], one["source"], one["type"]) == ("x", 1, ConfigType.UNKNOWN)


@pytest.mark.parametrize(("name", "error"), [("missing", 3), ("bad name", 17), ("", 17)])
async def test_a_topic_that_is_not_there(node: Node, name: str, error: int) -> None:
    found = await describe(node, TOPIC, name)
    assert (found["error"], found["configs"]) == (error, [])


async def test_this_broker_answers_what_it_runs_with(node: Node) -> None:
    found = await describe(node, BROKER, "1", include_documentation=True, include_synonyms=True)
    configs = {one["name"]: one for one in found["configs"]}
    assert (configs["node.id"]["value"], configs["node.id"]["source"]) == ("1", 4)
    assert (configs["log.dirs"]["value"], configs["log.dirs"]["source"]) == ("/data", 5)
    assert configs["log.dirs"]["documentation"] == "Where the log is."
    assert all(one["read_only"] for one in configs.values())


@pytest.mark.parametrize(
    ("type_", "name", "error"),
    [(BROKER, "2", 42), (BROKER, "x", 42), (BROKER, "", 0), (8, "1", 42), (GROUP, "", 42)],
)
async def test_other_brokers_and_other_things(
    node: Node, type_: int, name: str, error: int
) -> None:
    found = await describe(node, type_, name)
    assert (found["error"], found["configs"]) == (error, [])


async def test_every_config_of_a_group_is_there_whether_it_exists_or_not(node: Node) -> None:
    session = "consumer.session.timeout.ms"
    await node.controller.configure_group("g", lambda _: {session: "50000"})
    found = await describe(node, GROUP, "g", include_synonyms=True, include_documentation=True)
    configs = {one["name"]: one for one in found["configs"]}
    assert set(configs) == {session, "consumer.heartbeat.interval.ms"}
    assert (configs[session]["value"], configs[session]["source"]) == ("50000", 8)
    assert configs[session]["synonyms"] == [
        {"name": session, "value": "50000", "source": 8},
        {"name": "group.consumer.session.timeout.ms", "value": "45000", "source": 5},
    ]
    for one in configs.values():
        assert one["type"] == ConfigType.INT
        assert not one["read_only"]
        assert "classic" in one["documentation"]
    found = await describe(node, GROUP, "nobody", keys=[session])
    (one,) = found["configs"]
    assert (one["value"], one["source"]) == ("45000", 5)


async def test_a_small_request_cannot_ask_for_a_huge_answer(node: Node) -> None:
    await node.create("t")
    resources = [{"type": TOPIC, "name": "t", "keys": ["retention.ms"]}] * (RESOURCE_COUNT_MAX + 2)
    answer = await node.connect().ask(DESCRIBE_CONFIGS, 4, resources=resources)
    errors = [one["error"] for one in answer["resources"]]
    assert errors == [0] * RESOURCE_COUNT_MAX + [42, 42]
