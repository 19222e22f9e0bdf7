"""JoinGroup, v0-v9.

Behaviour
  * Held until the join phase of the group is over: all members have joined, or its time is up.
  * The leader gets everybody's metadata, the others nothing; all get the same generation.
  * From v4 on a member without id is given one and told to join with it (MEMBER_ID_REQUIRED).
  * A follower that joins again with the same metadata is answered at once; a leader that does wants
    a new generation.
  * REBALANCE_IN_PROGRESS is never said here: it ends aiokafka's coordinator task.
Versions
  v1 rebalance timeout (before: the session timeout) · v4 member ids first (KIP-394) · v5 static
  members (KIP-345) · v6 flexible · v7 protocol type in the answer, protocol nullable · v8 reason
  (KIP-800) · v9 skip assignment (KIP-814)
Not here
  the next protocol of groups (KIP-848)
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from kio.schema.errors import ErrorCode

from broker.errors import RequestError
from broker.groups.messages import Join, JoinAnswer, Ticket
from broker.groups.shard import Waiting
from broker.kafka_api.context import Context
from broker.kafka_api.groups import group_code, refusal_code
from broker.kafka_api.handler import Finish, Response, ready
from broker.kafka_api.wire import maker

if TYPE_CHECKING:
    from kio.schema.join_group.v9.request import JoinGroupRequest

MEMBER_ID_VERSION_MIN: Final = 4
NULLABLE_PROTOCOL_VERSION_MIN: Final = 7
SKIP_VERSION_MIN: Final = 9


async def begin(ctx: Context, request: JoinGroupRequest) -> Finish:
    """Join now; stage 2 waits for the others."""
    if not request.group_id:
        return ready(failed(ctx, request, ErrorCode.invalid_group_id))
    try:
        waiting = await ctx.groups.join(request.group_id, partial(_event, ctx, request))
    except RequestError as error:
        return ready(failed(ctx, request, group_code(error)))
    return partial(_finish, request, waiting)


def failed(ctx: Context, request: JoinGroupRequest, code: ErrorCode) -> Response:
    """No generation, and why."""
    return _response(request, code, JoinAnswer(member_id=request.member_id))


def _event(ctx: Context, request: JoinGroupRequest, new_id: str, ticket: Ticket) -> Join:
    session = request.session_timeout
    instance_id = getattr(request, "group_instance_id", None)
    return Join(
        ticket=ticket,
        member_id=request.member_id,
        # Kafka's form: people look for the client's name in it.
        fresh_id=f"{instance_id or ctx.client.client_id}-{new_id}",
        instance_id=instance_id,
        client_id=ctx.client.client_id,
        client_host="/" + ctx.peer.rpartition(":")[0],
        session_ms=round(session.total_seconds() * 1000),
        rebalance_ms=round(getattr(request, "rebalance_timeout", session).total_seconds() * 1000),
        protocol_type=request.protocol_type,
        protocols=tuple((one.name, one.metadata) for one in request.protocols),
        must_know_its_id=request.__version__ >= MEMBER_ID_VERSION_MIN,
        may_skip_assignment=request.__version__ >= SKIP_VERSION_MIN,
    )


async def _finish(request: JoinGroupRequest, waiting: Waiting[JoinAnswer]) -> Response:
    answer = await waiting.answer()
    return _response(request, refusal_code(answer.refusal), answer)


def _response(request: JoinGroupRequest, code: ErrorCode, answer: JoinAnswer) -> Response:
    make = maker(request)
    protocol = answer.protocol
    if request.__version__ < NULLABLE_PROTOCOL_VERSION_MIN:
        protocol = protocol or ""
    return make.JoinGroupResponse(  # type: ignore[no-any-return]
        error_code=code,
        generation_id=answer.generation,
        protocol_type=answer.protocol_type,
        protocol_name=protocol,
        leader=answer.leader,
        skip_assignment=answer.skip_assignment,
        member_id=answer.member_id,
        members=tuple(
            make.JoinGroupResponseMember(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                metadata=member.metadata,
            )
            for member in answer.members
        ),
    )
