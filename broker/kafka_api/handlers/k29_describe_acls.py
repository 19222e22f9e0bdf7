"""DescribeAcls, v1-v3.

Behaviour
  * SECURITY_DISABLED, as a broker without an authorizer answers: everybody may do everything.
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
    from kio.schema.describe_acls.v3.request import DescribeAclsRequest


async def begin(ctx: Context, request: DescribeAclsRequest) -> Finish:
    """There is nothing to describe."""
    return ready(_response(request, ErrorCode.security_disabled, NO_AUTHORIZER))


def failed(ctx: Context, request: DescribeAclsRequest, code: ErrorCode) -> Response:
    """No ACLs, and why."""
    return _response(request, code, "the broker failed while serving this request")


def _response(request: DescribeAclsRequest, code: ErrorCode, text: str) -> Response:
    response: Response = maker(request).DescribeAclsResponse(
        error_code=code, error_message=text, resources=()
    )
    return response
