"""IncrementalAlterConfigs, v0-v1.

Behaviour
  * Sets a config of a topic or a consumer group (0), takes it back to its default (1), or appends
    to (2) or subtracts from (3) a config that is a list. Two changes at the same time are both in
    force afterwards.
  * Known configs are checked. Unknown ones are stored for a topic, and INVALID_CONFIG for a group.
    With validate_only nothing changes.
  * The settings of a node cannot be changed while it runs: INVALID_REQUEST.
  * A resource, or a config of it, that stands twice is INVALID_REQUEST, as is one without a value.
  * In force when answered.
Versions
  v1 flexible
Not here
  configs of client metrics and loggers
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from broker.controller.definitions import ConfigType, words_of
from broker.controller.topic_config import BY_NAME
from broker.errors import InvalidConfig, InvalidRequest
from broker.kafka_api.alter import Alter
from broker.ports import EditConfigs

if TYPE_CHECKING:
    from kio.schema.incremental_alter_configs.v1.request import (
        AlterableConfig,
        AlterConfigsResource,
    )

SET: Final = 0
DELETE: Final = 1
APPEND: Final = 2
SUBTRACT: Final = 3
"""Kafka's AlterConfigOp.OpType."""


def _edit(resource: AlterConfigsResource) -> EditConfigs:
    def edit(configs: Mapping[str, str]) -> Mapping[str, str]:
        changed = dict(configs)
        for config in resource.configs:
            _apply(changed, config)
        return changed

    return edit


def _apply(configs: dict[str, str], config: AlterableConfig) -> None:
    name, operation = config.name, config.config_operation
    if operation == DELETE:
        configs.pop(name, None)
        return
    if operation not in (SET, APPEND, SUBTRACT):
        raise InvalidRequest(f"{name}: nobody knows operation {operation}")
    if config.value is None:
        raise InvalidRequest(f"{name} has no value")
    if operation == SET:
        configs[name] = config.value
        return
    definition = BY_NAME.get(name)  # of a topic: a group has no list
    if definition is None or definition.type is not ConfigType.LIST:
        raise InvalidConfig(f"{name} is no list: it can be set, not appended to or subtracted from")
    words = words_of(configs.get(name, definition.default))
    given = words_of(config.value)
    if operation == APPEND:
        words += [word for word in given if word not in words]
    else:
        words = [word for word in words if word not in given]
    configs[name] = ",".join(words)


_api = Alter(_edit, lambda make, found: make.IncrementalAlterConfigsResponse(responses=found))
begin, failed = _api.begin, _api.failed
