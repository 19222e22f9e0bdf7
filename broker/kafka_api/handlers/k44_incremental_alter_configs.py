"""IncrementalAlterConfigs, v0-v1.

Behaviour
  * Sets a config of a topic (0), takes it back to its default (1), or appends to (2) or subtracts
    from (3) a config that is a list. Two changes at the same time are both in force afterwards.
  * Known configs are checked, unknown ones are stored. With validate_only nothing changes.
  * The settings of a node cannot be changed while it runs: INVALID_REQUEST.
  * A resource, or a config of it, that stands twice is INVALID_REQUEST, as is one without a value.
  * In force when answered, but for min.insync.replicas: that holds from the next segment on.
Versions
  v1 flexible
Not here
  configs of groups, client metrics and loggers
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from kio.schema.errors import ErrorCode

from broker.controller.topic_config import BY_NAME, ConfigType
from broker.errors import InvalidConfig, InvalidRequest
from broker.kafka_api.alter import Edit, alter_all, failed_all
from broker.kafka_api.context import Context
from broker.kafka_api.handler import Finish, Response, ready
from broker.kafka_api.wire import maker

if TYPE_CHECKING:
    from kio.schema.incremental_alter_configs.v1.request import (
        AlterableConfig,
        AlterConfigsResource,
        IncrementalAlterConfigsRequest,
    )

SET: Final = 0
DELETE: Final = 1
APPEND: Final = 2
SUBTRACT: Final = 3
"""Kafka's AlterConfigOp.OpType."""


async def begin(ctx: Context, request: IncrementalAlterConfigsRequest) -> Finish:
    """Change in the order asked, before the connection's next request is looked at."""
    make = maker(request)
    responses = await alter_all(
        ctx, make, request.resources, _edit, validate_only=request.validate_only
    )
    return ready(make.IncrementalAlterConfigsResponse(responses=responses))


def failed(ctx: Context, request: IncrementalAlterConfigsRequest, code: ErrorCode) -> Response:
    """The same error for every resource."""
    make = maker(request)
    response: Response = make.IncrementalAlterConfigsResponse(
        responses=failed_all(make, request.resources, code)
    )
    return response


def _edit(resource: AlterConfigsResource) -> Edit:
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
    definition = BY_NAME.get(name)
    if definition is None or definition.type is not ConfigType.LIST:
        raise InvalidConfig(f"{name} is no list: it can be set, not appended to or subtracted from")
    words = _words(configs.get(name, definition.default))
    given = _words(config.value)
    if operation == APPEND:
        words += [word for word in given if word not in words]
    else:
        words = [word for word in words if word not in given]
    configs[name] = ",".join(words)


def _words(value: str) -> list[str]:
    return [word.strip() for word in value.split(",") if word.strip()]
