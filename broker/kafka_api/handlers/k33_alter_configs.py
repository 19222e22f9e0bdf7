"""AlterConfigs, v0-v2.

Behaviour
  * Replaces everything that is set for a topic by what the request names; what it leaves out goes
    back to its default. IncrementalAlterConfigs changes one config and leaves the others alone.
  * Known configs are checked, unknown ones are stored. With validate_only nothing changes.
  * The settings of a node cannot be changed while it runs: INVALID_REQUEST.
  * A resource, or a config of it, that stands twice is INVALID_REQUEST, as is one without a value.
  * In force when answered, but for min.insync.replicas: that holds from the next segment on.
Versions
  v2 flexible
Not here
  configs of groups, client metrics and loggers
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kio.schema.errors import ErrorCode

from broker.errors import InvalidRequest
from broker.kafka_api.alter import Edit, alter_all, failed_all
from broker.kafka_api.context import Context
from broker.kafka_api.handler import Finish, Response, ready
from broker.kafka_api.wire import maker

if TYPE_CHECKING:
    from kio.schema.alter_configs.v2.request import AlterConfigsRequest, AlterConfigsResource


async def begin(ctx: Context, request: AlterConfigsRequest) -> Finish:
    """Change in the order asked, before the connection's next request is looked at."""
    make = maker(request)
    responses = await alter_all(
        ctx, make, request.resources, _edit, validate_only=request.validate_only
    )
    return ready(make.AlterConfigsResponse(responses=responses))


def failed(ctx: Context, request: AlterConfigsRequest, code: ErrorCode) -> Response:
    """The same error for every resource."""
    make = maker(request)
    response: Response = make.AlterConfigsResponse(
        responses=failed_all(make, request.resources, code)
    )
    return response


def _edit(resource: AlterConfigsResource) -> Edit:
    def edit(_: Mapping[str, str]) -> Mapping[str, str]:
        wanted = {}
        for config in resource.configs:
            if config.value is None:
                raise InvalidRequest(f"{config.name} has no value")
            wanted[config.name] = config.value
        return wanted

    return edit
