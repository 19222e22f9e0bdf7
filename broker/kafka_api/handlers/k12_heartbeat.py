"""Heartbeat, v0-v4.

Behaviour
  * Starts the member's session anew. REBALANCE_IN_PROGRESS while the group waits for its members to
    join again, UNKNOWN_MEMBER_ID and ILLEGAL_GENERATION for those who are not in it.
  * While the group is being read back nobody knows who is in it, and everybody's session begins
    when it has been: no error, as with Kafka. COORDINATOR_LOAD_IN_PROGRESS ends aiokafka's
    coordinator, and sarama's session.
Versions
  v3 static members (KIP-345) · v4 flexible
Not here
  the next protocol of groups (KIP-848)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kio.schema.errors import ErrorCode

from broker.errors import Loading, RequestError
from broker.groups.messages import Who
from broker.kafka_api.context import Context
from broker.kafka_api.groups import group_code, refusal_code
from broker.kafka_api.handler import Finish, Response, ready
from broker.kafka_api.wire import maker

if TYPE_CHECKING:
    from kio.schema.heartbeat.v4.request import HeartbeatRequest


async def begin(ctx: Context, request: HeartbeatRequest) -> Finish:
    """All of it."""
    if not request.group_id:
        return ready(failed(ctx, request, ErrorCode.invalid_group_id))
    who = Who(request.member_id, getattr(request, "group_instance_id", None))
    try:
        refusal = await ctx.groups.heartbeat(request.group_id, who, request.generation_id)
    except Loading:
        return ready(failed(ctx, request, ErrorCode.none))
    except RequestError as error:
        return ready(failed(ctx, request, group_code(error)))
    return ready(failed(ctx, request, refusal_code(refusal)))


def failed(ctx: Context, request: HeartbeatRequest, code: ErrorCode) -> Response:
    """There is nothing to say but the number."""
    return maker(request).HeartbeatResponse(error_code=code)  # type: ignore[no-any-return]
