"""Configs as Kafka's admin tools read them: value, where it comes from, and what it would be
otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from broker.controller import group_config, topic_config
from broker.controller.definitions import ConfigType, Definition
from broker.kafka_api.context import BrokerConfig

TOPIC_RESOURCE: Final = 2
BROKER_RESOURCE: Final = 4
GROUP_RESOURCE: Final = 32
"""Kafka's ConfigResource.Type: what has configs here."""

TOPIC_SOURCE: Final = 1
STATIC_BROKER_SOURCE: Final = 4
DEFAULT_SOURCE: Final = 5
GROUP_SOURCE: Final = 8
"""Kafka's ConfigSource: set for the topic, set when the broker was started, built in, set for the
group."""

WITHOUT_SYNONYM: Final = frozenset(
    {
        "flush.ms",
        "follower.replication.throttled.replicas",
        "leader.replication.throttled.replicas",
        "remote.storage.enable",
        "retention.ms",
        "segment.jitter.ms",
        "segment.ms",
    }
)
"""Topic configs whose default Kafka shows without a synonym: its broker has none by that name, or
has a default in other units only (`log.retention.hours`)."""


@dataclass(frozen=True, slots=True)
class Synonym:
    """A place the value is looked for, in order; the first one that has it wins."""

    name: str
    value: str
    source: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One config of one resource."""

    name: str
    value: str
    source: int
    type: ConfigType
    documentation: str | None
    synonyms: tuple[Synonym, ...]
    is_read_only: bool = False


def topic_entries(configs: Mapping[str, str]) -> tuple[Entry, ...]:
    """Every config of a topic, set or not, and after them the unknown ones that were set."""
    known = [_known(item, configs, TOPIC_SOURCE) for item in topic_config.DEFINITIONS]
    others = sorted(configs.keys() - topic_config.BY_NAME.keys())
    return (*known, *(_unknown(name, configs[name]) for name in others))


def group_entries(configs: Mapping[str, str]) -> tuple[Entry, ...]:
    """Every config of a consumer group, set or not."""
    return tuple(_known(item, configs, GROUP_SOURCE) for item in group_config.DEFINITIONS)


def _known(definition: Definition, configs: Mapping[str, str], source: int) -> Entry:
    name = definition.name
    default = Synonym(definition.synonym, definition.default, DEFAULT_SOURCE)
    own = (Synonym(name, configs[name], source),) if name in configs else ()
    chain = (*own, default)
    first = chain[0]
    synonyms = own if name in WITHOUT_SYNONYM else chain
    return Entry(
        name, first.value, first.source, definition.type, definition.documentation, synonyms
    )


def _unknown(name: str, value: str) -> Entry:
    synonyms = (Synonym(name, value, TOPIC_SOURCE),)
    return Entry(name, value, TOPIC_SOURCE, ConfigType.UNKNOWN, None, synonyms)


def broker_entry(config: BrokerConfig) -> Entry:
    """A setting of this node: read-only, for it is changed by restarting with another one."""
    source = DEFAULT_SOURCE if config.is_default else STATIC_BROKER_SOURCE
    return Entry(
        name=config.name,
        value=config.value,
        source=source,
        type=config.type,
        documentation=config.documentation or None,
        synonyms=(Synonym(config.name, config.value, source),),
        is_read_only=True,
    )
