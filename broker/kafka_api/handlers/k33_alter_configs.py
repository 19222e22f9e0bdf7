"""AlterConfigs, v0-v2.

Behaviour
  * Replaces everything that is set for a topic or a consumer group by what the request names; what
    it leaves out goes back to its default. IncrementalAlterConfigs changes one config and leaves
    the others alone.
  * Known configs are checked. Unknown ones are stored for a topic, and INVALID_CONFIG for a group.
    With validate_only nothing changes.
  * The settings of a node cannot be changed while it runs: INVALID_REQUEST.
  * A resource, or a config of it, that stands twice is INVALID_REQUEST, as is one without a value.
  * In force when answered.
Versions
  v2 flexible
Not here
  configs of client metrics and loggers
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from broker.errors import InvalidRequest
from broker.kafka_api.alter import Alter
from broker.ports import EditConfigs

if TYPE_CHECKING:
    from kio.schema.alter_configs.v2.request import AlterConfigsResource


def _edit(resource: AlterConfigsResource) -> EditConfigs:
    def edit(_: Mapping[str, str]) -> Mapping[str, str]:
        wanted = {}
        for config in resource.configs:
            if config.value is None:
                raise InvalidRequest(f"{config.name} has no value")
            wanted[config.name] = config.value
        return wanted

    return edit


_api = Alter(_edit, lambda make, found: make.AlterConfigsResponse(responses=found))
begin, failed = _api.begin, _api.failed
