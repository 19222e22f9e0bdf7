"""DeleteAcls, v1-v3.

Behaviour
  * SECURITY_DISABLED for each filter, as a broker without an authorizer answers.
Versions
  v1 patterns (KIP-290) · v2 flexible · v3 user resources
Not here
  access control
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kio.schema.errors import ErrorCode

from broker.kafka_api.context import Context
from broker.kafka_api.handler import NO_AUTHORIZER, Finish, Response, ready
from broker.kafka_api.wire import maker

if TYPE_CHECKING:
    from kio.schema.delete_acls.v3.request import DeleteAclsRequest


async def begin(ctx: Context, request: DeleteAclsRequest) -> Finish:
    """Nothing is deleted."""
    return ready(_response(request, ErrorCode.security_disabled, NO_AUTHORIZER))


def failed(ctx: Context, request: DeleteAclsRequest, code: ErrorCode) -> Response:
    """The same error for each filter."""
    return _response(request, code, "the broker failed while serving this request")


def _response(request: DeleteAclsRequest, code: ErrorCode, text: str) -> Response:
    make = maker(request)
    results = tuple(
        make.DeleteAclsFilterResult(error_code=code, error_message=text, matching_acls=())
        for _ in request.filters
    )
    response: Response = make.DeleteAclsResponse(filter_results=results)
    return response
