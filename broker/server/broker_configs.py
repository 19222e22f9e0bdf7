"""What DescribeConfigs tells about this node (pure).

Three kinds of lines: the node's settings under their own names, with dots; the same under Kafka's
names where Kafka has one, for tools that look for those; and what holds for every node of this kind
and cannot be set. The defaults of topics and groups are among the last, under the names that their
configs give as synonyms.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from broker.config.settings import SETTINGS, Config, Setting
from broker.config.values import Addresses, Bytes, HostPort, Integer, Listeners, Switch, plain
from broker.controller import group_config, topic_config
from broker.controller.definitions import INT_MAX, ConfigType
from broker.controller.topics import REPLICATION_FACTOR_DEFAULT
from broker.groups.coordinator import METADATA_LENGTH_MAX
from broker.groups.sweeper import SWEEP_INTERVAL_S
from broker.kafka_api import BrokerConfig

KAFKA_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "node_id": ("broker.id",),
    "data_dir": ("log.dir", "log.dirs"),
    "auto_create_topics": ("auto.create.topics.enable",),
    "retention_check_ms": ("log.retention.check.interval.ms",),
    "request_size_max": ("socket.request.max.bytes",),
    "fetch_size_max": ("fetch.max.bytes",),
    "connections_max": ("max.connections",),
    "idle_ms_max": ("connections.max.idle.ms",),
}
"""By the name of a setting. Others, as `group_max_size`, need only dots."""

_FIXED: Final = (
    BrokerConfig(
        "default.replication.factor", str(REPLICATION_FACTOR_DEFAULT), ConfigType.INT,
        "The replication factor of topics that ask for none; a smaller cluster has fewer.",
    ),
    BrokerConfig("delete.topic.enable", "true", ConfigType.BOOLEAN, "Topics can be deleted."),
    BrokerConfig(
        "group.coordinator.rebalance.protocols", "classic", ConfigType.LIST,
        "The group protocols that members may use.",
    ),
    BrokerConfig("num.partitions", "1", ConfigType.INT, "A topic has one partition, always."),
    BrokerConfig(
        "offset.metadata.max.bytes", str(METADATA_LENGTH_MAX), ConfigType.INT,
        "The largest metadata of a committed offset, in characters.",
    ),
    BrokerConfig(
        "offsets.retention.check.interval.ms", str(int(SWEEP_INTERVAL_S * 1000)), ConfigType.LONG,
        "How often offsets that are too old are looked for.",
    ),
)  # fmt: skip


def broker_configs(config: Config) -> tuple[BrokerConfig, ...]:
    """Everything, by name."""
    found = [*_settings(config), *_listeners(config), *_FIXED, *_defaults()]
    return tuple(sorted(found, key=lambda one: one.name))


def _settings(config: Config) -> Iterator[BrokerConfig]:
    for setting in SETTINGS:
        value = getattr(config, setting.name)
        for name in (setting.name.replace("_", "."), *KAFKA_NAMES.get(setting.name, ())):
            yield BrokerConfig(
                name=name,
                value=_text(plain(value)),
                type=_type_of(setting),
                documentation=setting.help,
                is_default=value == setting.default,
            )


def _listeners(config: Config) -> Iterator[BrokerConfig]:
    """In Kafka's form, as they were set: port 0 is any free one, or the one that was bound."""
    bound, advertised = [], []
    for one in config.kafka_listeners:
        bound.append(f"{one.name}://{HostPort(one.bind_host, one.bind_port)}")
        port = one.advertised_port or one.bind_port
        advertised.append(f"{one.name}://{HostPort(one.advertised_host, port)}")
    for name, values, about in (
        ("listeners", bound, "Where Kafka clients are listened to."),
        ("advertised.listeners", advertised, "Where Kafka clients are told to come."),
    ):
        yield BrokerConfig(name, ",".join(values), ConfigType.LIST, about, is_default=False)


def _defaults() -> Iterator[BrokerConfig]:
    for item in (*topic_config.DEFINITIONS, *group_config.DEFINITIONS):
        yield BrokerConfig(item.synonym, item.default, item.type, item.documentation)


def _type_of(setting: Setting) -> ConfigType:
    kind = setting.kind
    if isinstance(kind, Integer | Bytes):
        return ConfigType.INT if kind.high <= INT_MAX else ConfigType.LONG
    if isinstance(kind, Switch):
        return ConfigType.BOOLEAN
    return ConfigType.LIST if isinstance(kind, Addresses | Listeners) else ConfigType.STRING


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "" if value is None else str(value)
