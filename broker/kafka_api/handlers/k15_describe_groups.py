"""DescribeGroups, v0-v6.

Behaviour
  * Members with what they want and what they were assigned, while the group is stable; members
    alone while it rebalances.
  * A group that does not exist is "Dead" without an error, and from v6 on GROUP_ID_NOT_FOUND.
Versions
  v3 authorized operations (KIP-430) · v4 static members (KIP-345) · v5 flexible · v6 error message
  (KIP-1043)
Not here
  groups of other types
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kio.schema.errors import ErrorCode

from broker.errors import RequestError
from broker.groups.states import State
from broker.groups.views import GroupDescribed
from broker.kafka_api.context import Context
from broker.kafka_api.errors import text_of
from broker.kafka_api.groups import GROUP_OPERATIONS, group_code
from broker.kafka_api.handler import OPERATIONS_NOT_ASKED, Finish, Response, ready
from broker.kafka_api.wire import Maker, maker

if TYPE_CHECKING:
    from kio.schema.describe_groups.v6.request import DescribeGroupsRequest

NOT_FOUND_VERSION_MIN: Final = 6


async def begin(ctx: Context, request: DescribeGroupsRequest) -> Finish:
    """All of it."""
    make = maker(request)
    is_asked = getattr(request, "include_authorized_operations", False)
    operations = GROUP_OPERATIONS if is_asked else OPERATIONS_NOT_ASKED
    rows = []
    for group_id in request.groups:
        try:
            group = await ctx.groups.describe(group_id)
        except RequestError as error:
            code, text = group_code(error), text_of(error)
            state = ""
            if code is ErrorCode.group_id_not_found:
                state = State.DEAD.value
                if request.__version__ < NOT_FOUND_VERSION_MIN:
                    code = ErrorCode.none
            allowed = operations if code is ErrorCode.none else OPERATIONS_NOT_ASKED
            rows.append(_row(make, group_id, code, text, state, allowed))
        else:
            rows.append(_described(make, group, operations))
    return ready(make.DescribeGroupsResponse(groups=tuple(rows)))


def failed(ctx: Context, request: DescribeGroupsRequest, code: ErrorCode) -> Response:
    """The same error for every group."""
    make = maker(request)
    rows = tuple(_row(make, group_id, code, None) for group_id in request.groups)
    return make.DescribeGroupsResponse(groups=rows)  # type: ignore[no-any-return]


def _row(
    make: Maker,
    group_id: str,
    code: ErrorCode,
    text: str | None,
    state: str = "",
    operations: int = OPERATIONS_NOT_ASKED,
) -> object:
    return make.DescribedGroup(
        error_code=code,
        error_message=text,
        group_id=group_id,
        group_state=state,
        protocol_type="",
        protocol_data="",
        members=(),
        authorized_operations=operations,
    )


def _described(make: Maker, group: GroupDescribed, operations: int) -> object:
    return make.DescribedGroup(
        error_code=ErrorCode.none,
        error_message=None,
        group_id=group.group_id,
        group_state=group.state.value,
        protocol_type=group.protocol_type,
        protocol_data=group.protocol,
        members=tuple(
            make.DescribedGroupMember(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=member.metadata,
                member_assignment=member.assignment,
            )
            for member in group.members
        ),
        authorized_operations=operations,
    )
