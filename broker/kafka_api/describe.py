"""Configs as Kafka's admin tools read them: value, where it comes from, and what it would be
otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from broker.controller.topic_config import BY_NAME, DEFINITIONS, ConfigType
from broker.kafka_api.context import BrokerConfig

TOPIC_RESOURCE: Final = 2
BROKER_RESOURCE: Final = 4
"""Kafka's ConfigResource.Type: what has configs here."""

TOPIC_SOURCE: Final = 1
STATIC_BROKER_SOURCE: Final = 4
DEFAULT_SOURCE: Final = 5
"""Kafka's ConfigSource: set for the topic, set when the broker was started, built in."""


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
    known = [_known(item.name, configs) for item in DEFINITIONS]
    unknown = [_unknown(name, configs[name]) for name in sorted(configs.keys() - BY_NAME.keys())]
    return (*known, *unknown)


def _known(name: str, configs: Mapping[str, str]) -> Entry:
    definition = BY_NAME[name]
    default = Synonym(definition.synonym, definition.default, DEFAULT_SOURCE)
    synonyms: tuple[Synonym, ...] = (default,)
    if name in configs:
        synonyms = (Synonym(name, configs[name], TOPIC_SOURCE), default)
    value, source = synonyms[0].value, synonyms[0].source
    return Entry(name, value, source, definition.type, definition.documentation, synonyms)


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
