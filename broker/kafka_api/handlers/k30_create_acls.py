"""CreateAcls, v1-v3.

Behaviour
  * SECURITY_DISABLED for each, as a broker without an authorizer answers.
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
    from kio.schema.create_acls.v3.request import CreateAclsRequest


async def begin(ctx: Context, request: CreateAclsRequest) -> Finish:
    """Nothing is created."""
    return ready(_response(request, ErrorCode.security_disabled, NO_AUTHORIZER))


def failed(ctx: Context, request: CreateAclsRequest, code: ErrorCode) -> Response:
    """The same error for each."""
    return _response(request, code, "the broker failed while serving this request")


def _response(request: CreateAclsRequest, code: ErrorCode, text: str) -> Response:
    make = maker(request)
    results = tuple(
        make.AclCreationResult(error_code=code, error_message=text) for _ in request.creations
    )
    response: Response = make.CreateAclsResponse(results=results)
    return response
