"""What tools read of a node's configs."""

from collections import Counter
from pathlib import Path

import msgspec

from broker.config.settings import SETTINGS, Config
from broker.controller import group_config, topic_config
from broker.controller.definitions import ConfigType
from broker.kafka_api import BrokerConfig
from broker.server.broker_configs import broker_configs


def described(**changes: object) -> dict[str, BrokerConfig]:
    config = msgspec.structs.replace(Config(), **changes)
    return {one.name: one for one in broker_configs(config)}


def test_no_name_stands_twice() -> None:
    names = Counter(one.name for one in broker_configs(Config()))
    assert [name for name, count in names.items() if count > 1] == []


def test_every_setting_and_every_synonym_of_a_topic_or_group_is_there() -> None:
    found = described()
    assert found.keys() >= {setting.name.replace("_", ".") for setting in SETTINGS}
    for item in (*topic_config.DEFINITIONS, *group_config.DEFINITIONS):
        assert (found[item.synonym].value, found[item.synonym].is_default) == (item.default, True)


def test_every_line_is_explained() -> None:
    assert [one.name for one in broker_configs(Config()) if not one.documentation] == []


def test_tools_find_the_names_and_types_they_know() -> None:
    found = described(node_id=7, data_dir=Path("/data"), auto_create_topics=False)
    for name, value, type_, is_default in (
        ("broker.id", "7", ConfigType.INT, False),
        ("node.id", "7", ConfigType.INT, False),
        ("log.dirs", "/data", ConfigType.STRING, False),
        ("auto.create.topics.enable", "false", ConfigType.BOOLEAN, False),
        ("group.max.session.timeout.ms", "1800000", ConfigType.INT, True),
        ("disk.reserve.bytes", str(128 * 2**20), ConfigType.LONG, True),
        ("listeners", "PLAINTEXT://127.0.0.1:9092", ConfigType.LIST, False),
        ("advertised.listeners", "PLAINTEXT://127.0.0.1:9092", ConfigType.LIST, False),
        ("join", "", ConfigType.LIST, True),
        ("num.partitions", "1", ConfigType.INT, True),
        ("default.replication.factor", "3", ConfigType.INT, True),
        ("log.retention.ms", "604800000", ConfigType.LONG, True),
        ("group.consumer.session.timeout.ms", "45000", ConfigType.INT, True),
    ):
        one = found[name]
        assert (one.value, one.type, one.is_default) == (value, type_, is_default), name
