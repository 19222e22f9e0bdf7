"""InitProducerId, v0-v5.

Behaviour
  * A producer id that nobody had before, epoch 0.
  * A producer that brings its id and epoch gets the same id and the next epoch, so that it can
    start its sequences again; when epochs run out it gets a new id (KIP-360).
  * A transactional id is TRANSACTIONAL_ID_AUTHORIZATION_FAILED: the one refusal that every client
    takes for final.
  * An id that cannot be had now is COORDINATOR_LOAD_IN_PROGRESS, which clients retry.
Versions
  v2 flexible · v3 id and epoch in the request (KIP-360) · v4 PRODUCER_FENCED (KIP-588)
Not here
  transactions, v6 (KIP-939)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kio.schema.errors import ErrorCode

from broker.errors import RequestError
from broker.kafka_api.context import Context
from broker.kafka_api.handler import Finish, Response, ready
from broker.kafka_api.wire import maker

if TYPE_CHECKING:
    from kio.schema.init_producer_id.v5.request import InitProducerIdRequest

NONE: Final = -1
EPOCH_MAX: Final = 2**15 - 2
"""The last epoch given out. Kafka keeps 32767 for fencing, and so do clients."""


async def begin(ctx: Context, request: InitProducerIdRequest) -> Finish:
    """Hand out an id, or the next epoch of one."""
    producer_id = getattr(request, "producer_id", NONE)
    epoch = getattr(request, "producer_epoch", NONE)
    if request.transactional_id is not None:
        return ready(failed(ctx, request, ErrorCode.transactional_id_authorization_failed))
    if (producer_id == NONE) != (epoch == NONE) or producer_id < NONE or epoch < NONE:
        return ready(failed(ctx, request, ErrorCode.invalid_request))
    if producer_id != NONE and epoch < EPOCH_MAX:
        return ready(_response(request, ErrorCode.none, producer_id, epoch + 1))
    try:
        producer_id = await ctx.controller.producer_id()
    except RequestError:
        return ready(failed(ctx, request, ErrorCode.coordinator_load_in_progress))
    return ready(_response(request, ErrorCode.none, producer_id, 0))


def failed(ctx: Context, request: InitProducerIdRequest, code: ErrorCode) -> Response:
    """No id, and why."""
    return _response(request, code, NONE, NONE)


def _response(
    request: InitProducerIdRequest, code: ErrorCode, producer_id: int, epoch: int
) -> Response:
    response: Response = maker(request).InitProducerIdResponse(
        error_code=code, producer_id=producer_id, producer_epoch=epoch
    )
    return response
