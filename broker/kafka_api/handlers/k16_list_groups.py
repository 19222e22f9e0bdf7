"""ListGroups, v0-v5.

Behaviour
  * The groups that this node coordinates, and no others: clients ask every node and add up.
  * Groups that only ever committed by hand are listed, with an empty protocol type.
  * Filters compare without regard to case; a state or type that does not exist matches nothing.
Versions
  v3 flexible · v4 states (KIP-518) · v5 types (KIP-848; all are "classic")
Not here
  groups of other types
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kio.schema.errors import ErrorCode

from broker.errors import RequestError
from broker.kafka_api.context import Context
from broker.kafka_api.groups import group_code
from broker.kafka_api.handler import Finish, Response, ready
from broker.kafka_api.wire import maker

if TYPE_CHECKING:
    from kio.schema.list_groups.v5.request import ListGroupsRequest

GROUP_TYPE = "classic"


async def begin(ctx: Context, request: ListGroupsRequest) -> Finish:
    """All of it."""
    states = {state.lower() for state in getattr(request, "states_filter", ())}
    types = {name.lower() for name in getattr(request, "types_filter", ())}
    try:
        groups = await ctx.groups.list_groups()
    except RequestError as error:
        return ready(failed(ctx, request, group_code(error)))
    make = maker(request)
    rows = tuple(
        make.ListedGroup(
            group_id=group.group_id,
            protocol_type=group.protocol_type,
            group_state=group.state.value,
            group_type=GROUP_TYPE,
        )
        for group in groups
        if (not states or group.state.value.lower() in states)
        and (not types or GROUP_TYPE in types)
    )
    return ready(make.ListGroupsResponse(error_code=ErrorCode.none, groups=rows))


def failed(ctx: Context, request: ListGroupsRequest, code: ErrorCode) -> Response:
    """No groups, and why."""
    return maker(request).ListGroupsResponse(error_code=code, groups=())  # type: ignore[no-any-return]
