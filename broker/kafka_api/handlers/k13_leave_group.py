"""LeaveGroup, v0-v5.

Behaviour
  * The members are gone at once, and the group rebalances; when the last one leaves it is empty and
    keeps its offsets.
  * A member id that was given out and never used is given back.
  * A static member may be named by its instance id alone, as tools that remove it do.
  * Of a group that does not exist nobody is a member: UNKNOWN_MEMBER_ID for each (v3+), as with
    Kafka, and nothing at the top.
Versions
  v3 many members at once (KIP-345) · v4 flexible · v5 reason (KIP-800)
Not here
  the next protocol of groups (KIP-848)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from kio.schema.errors import ErrorCode

from broker.errors import RequestError
from broker.groups.messages import GroupRefused, Who
from broker.kafka_api.context import Context
from broker.kafka_api.groups import group_code, refusal_code
from broker.kafka_api.handler import Finish, Response, ready
from broker.kafka_api.wire import maker

if TYPE_CHECKING:
    from kio.schema.leave_group.v5.request import LeaveGroupRequest

MANY_VERSION_MIN: Final = 3


async def begin(ctx: Context, request: LeaveGroupRequest) -> Finish:
    """All of it."""
    if not request.group_id:
        return ready(failed(ctx, request, ErrorCode.invalid_group_id))
    leavers = _leavers(request)
    try:
        refusals = await ctx.groups.leave(request.group_id, leavers)
    except GroupRefused as error:
        refusals = [error.refusal for _ in leavers]
    except RequestError as error:
        return ready(failed(ctx, request, group_code(error)))
    codes = [refusal_code(refusal) for refusal in refusals]
    if request.__version__ < MANY_VERSION_MIN:
        return ready(failed(ctx, request, codes[0]))
    make = maker(request)
    members = tuple(
        make.MemberResponse(
            member_id=who.member_id, group_instance_id=who.instance_id, error_code=code
        )
        for who, code in zip(leavers, codes, strict=True)
    )
    return ready(make.LeaveGroupResponse(error_code=ErrorCode.none, members=members))


def failed(ctx: Context, request: LeaveGroupRequest, code: ErrorCode) -> Response:
    """Nobody in particular."""
    return maker(request).LeaveGroupResponse(error_code=code, members=())  # type: ignore[no-any-return]


def _leavers(request: LeaveGroupRequest) -> Sequence[Who]:
    if request.__version__ < MANY_VERSION_MIN:
        return [Who(request.member_id)]  # type: ignore[attr-defined]
    return [Who(one.member_id, one.group_instance_id) for one in request.members]
