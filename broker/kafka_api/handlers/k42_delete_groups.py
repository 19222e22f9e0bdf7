"""DeleteGroups, v0-v2.

Behaviour
  * A group without members goes, with its positions; answered when that is durable.
  * One with members is NON_EMPTY_GROUP, one that does not exist GROUP_ID_NOT_FOUND.
Versions
  v2 flexible
Not here
  groups of other types
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from kio.schema.errors import ErrorCode

from broker.errors import RequestError
from broker.groups.state_log import Durable
from broker.kafka_api.context import Context
from broker.kafka_api.groups import group_code
from broker.kafka_api.handler import Finish, Response
from broker.kafka_api.wire import maker

if TYPE_CHECKING:
    from kio.schema.delete_groups.v2.request import DeleteGroupsRequest


async def begin(ctx: Context, request: DeleteGroupsRequest) -> Finish:
    """Delete now; stage 2 waits for the disk."""
    begun: list[Durable | ErrorCode] = []
    for group_id in request.groups_names:
        try:
            begun.append(await ctx.groups.delete_group(group_id))
        except RequestError as error:
            begun.append(group_code(error))
    return partial(_finish, request, begun)


def failed(ctx: Context, request: DeleteGroupsRequest, code: ErrorCode) -> Response:
    """The same error for every group."""
    return _response(request, [code for _ in request.groups_names])


async def _finish(request: DeleteGroupsRequest, begun: list[Durable | ErrorCode]) -> Response:
    codes = []
    for outcome in begun:
        if isinstance(outcome, ErrorCode):
            codes.append(outcome)
            continue
        try:
            await outcome()
        except RequestError as error:
            codes.append(group_code(error))
        else:
            codes.append(ErrorCode.none)
    return _response(request, codes)


def _response(request: DeleteGroupsRequest, codes: Sequence[ErrorCode]) -> Response:
    make = maker(request)
    return make.DeleteGroupsResponse(  # type: ignore[no-any-return]
        results=tuple(
            make.DeletableGroupResult(group_id=group_id, error_code=code)
            for group_id, code in zip(request.groups_names, codes, strict=True)
        )
    )
