"""ApiVersions, v0-v4.

Behaviour
  * The first request of every connection, answered at once from the table in `apis.py`: what is not
    right there is not listed, and a client then does without.
  * A version nobody knows is answered in v0 with UNSUPPORTED_VERSION and this one API, so that the
    client can come down (KIP-511); its body cannot be read. The session does that with
    `unknown_version`.
  * No features: clients then use the first version of transactions, and nothing else changes.
Versions
  v1 throttle time · v3 flexible, the client's software name and version (KIP-511) · v4 features of
  level 0 (KIP-584)
Not here
  refusing an empty or odd software name, as Kafka does: nothing here asks for it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kio.schema.api_versions.v0.response import ApiVersion, ApiVersionsResponse
from kio.schema.errors import ErrorCode
from kio.static.primitive import i16

from broker.kafka_api.context import Context
from broker.kafka_api.handler import Finish, Response, ready
from broker.kafka_api.wire import maker

if TYPE_CHECKING:
    from kio.schema.api_versions.v4.request import ApiVersionsRequest


async def begin(ctx: Context, request: ApiVersionsRequest) -> Finish:
    """List what is offered."""
    return ready(_response(ctx, request, ErrorCode.none))


def failed(ctx: Context, request: ApiVersionsRequest, code: ErrorCode) -> Response:
    """The list, and the error on top."""
    return _response(ctx, request, code)


def unknown_version(lowest: int, highest: int) -> Response:
    """What a client of the future is told, in v0: this API in the versions that exist here."""
    own = ApiVersion(api_key=i16(18), min_version=i16(lowest), max_version=i16(highest))
    return ApiVersionsResponse(error_code=ErrorCode.unsupported_version, api_keys=(own,))


def _response(ctx: Context, request: ApiVersionsRequest, code: ErrorCode) -> Response:
    make = maker(request)
    api_keys = tuple(
        make.ApiVersion(api_key=key, min_version=lowest, max_version=highest)
        for key, lowest, highest in ctx.advertised
    )
    response: Response = make.ApiVersionsResponse(error_code=code, api_keys=api_keys)
    return response
