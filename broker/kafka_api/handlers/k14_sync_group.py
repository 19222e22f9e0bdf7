"""SyncGroup, v0-v5.

Behaviour
  * Held until the leader has sent the assignments and they are durable.
  * Each member gets the leader's bytes. A consumer that the leader forgot gets an assignment of
    nothing, well-formed: no bytes at all are an error to some clients.
  * In a stable group: the present assignment, at once.
  * While the group is being read back: REBALANCE_IN_PROGRESS, upon which everybody joins again.
    COORDINATOR_LOAD_IN_PROGRESS is an error here that Java's consumer throws, and aiokafka's too.
Versions
  v3 static members (KIP-345) · v4 flexible · v5 protocol type and name, which must be given, and
  are echoed (KIP-559): without them it is INCONSISTENT_GROUP_PROTOCOL
Not here
  the next protocol of groups (KIP-848)
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from kio.schema.errors import ErrorCode

from broker.errors import Loading, RequestError
from broker.groups.messages import Sync, SyncAnswer, Ticket
from broker.groups.shard import Waiting
from broker.kafka_api.context import Context
from broker.kafka_api.groups import group_code, refusal_code
from broker.kafka_api.handler import Finish, Response, ready
from broker.kafka_api.wire import maker

if TYPE_CHECKING:
    from kio.schema.sync_group.v5.request import SyncGroupRequest

PROTOCOL_VERSION_MIN: Final = 5


async def begin(ctx: Context, request: SyncGroupRequest) -> Finish:
    """Hand the assignments in now; stage 2 waits for the leader's."""
    if request.__version__ >= PROTOCOL_VERSION_MIN and not _names_protocol(request):
        return ready(failed(ctx, request, ErrorCode.inconsistent_group_protocol))
    if not request.group_id:
        return ready(failed(ctx, request, ErrorCode.invalid_group_id))
    try:
        waiting = await ctx.groups.sync(request.group_id, partial(_event, request))
    except Loading:
        return ready(failed(ctx, request, ErrorCode.rebalance_in_progress))
    except RequestError as error:
        return ready(failed(ctx, request, group_code(error)))
    return partial(_finish, request, waiting)


def _names_protocol(request: SyncGroupRequest) -> bool:
    return request.protocol_type is not None and request.protocol_name is not None


def failed(ctx: Context, request: SyncGroupRequest, code: ErrorCode) -> Response:
    """No assignment, and why."""
    return _response(request, code, SyncAnswer())


def _event(request: SyncGroupRequest, ticket: Ticket) -> Sync:
    return Sync(
        ticket=ticket,
        member_id=request.member_id,
        generation=request.generation_id,
        instance_id=getattr(request, "group_instance_id", None),
        protocol_type=getattr(request, "protocol_type", None),
        protocol=getattr(request, "protocol_name", None),
        assignments={one.member_id: one.assignment for one in request.assignments},
    )


async def _finish(request: SyncGroupRequest, waiting: Waiting[SyncAnswer]) -> Response:
    answer = await waiting.answer()
    return _response(request, refusal_code(answer.refusal), answer)


def _response(request: SyncGroupRequest, code: ErrorCode, answer: SyncAnswer) -> Response:
    return maker(request).SyncGroupResponse(  # type: ignore[no-any-return]
        error_code=code,
        protocol_type=answer.protocol_type,
        protocol_name=answer.protocol,
        assignment=answer.assignment,
    )
