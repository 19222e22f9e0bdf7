"""DescribeCluster, v0-v2.

Behaviour
  * The cluster id, the live brokers as the client's listener advertises them, and the controller
    (this node, see `handler.live_controller_id`).
  * Asked for controllers instead of brokers: MISMATCHED_ENDPOINT_TYPE, as Kafka's brokers answer.
Versions
  v0 flexible (KIP-700) · v1 endpoint type (KIP-919) · v2 fenced brokers (KIP-1073; only live ones
  are listed)
Not here
  fenced brokers
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kio.schema.errors import ErrorCode

from broker.kafka_api.context import Context
from broker.kafka_api.handler import (
    CLUSTER_OPERATIONS,
    OPERATIONS_NOT_ASKED,
    Finish,
    Response,
    live_controller_id,
    ready,
)
from broker.kafka_api.wire import maker

if TYPE_CHECKING:
    from kio.schema.describe_cluster.v2.request import DescribeClusterRequest

BROKERS: Final = 1
CONTROLLERS: Final = 2
"""Which kind of node is to be described."""


async def begin(ctx: Context, request: DescribeClusterRequest) -> Finish:
    """Describe the cluster as it is now."""
    endpoint = getattr(request, "endpoint_type", BROKERS)
    if endpoint == CONTROLLERS:
        return ready(failed(ctx, request, ErrorCode.mismatched_endpoint_type))
    if endpoint != BROKERS:
        return ready(failed(ctx, request, ErrorCode.unsupported_endpoint_type))
    make = maker(request)
    is_asked = request.include_cluster_authorized_operations
    brokers = tuple(
        make.DescribeClusterBroker(
            broker_id=broker.node_id,
            host=broker.host,
            port=broker.port,
            rack=broker.rack,
            is_fenced=False,
        )
        for broker in ctx.controller.brokers(ctx.listener)
    )
    response = make.DescribeClusterResponse(
        error_code=ErrorCode.none,
        error_message=None,
        endpoint_type=BROKERS,
        cluster_id=ctx.controller.cluster_id,
        controller_id=live_controller_id(ctx),
        brokers=brokers,
        cluster_authorized_operations=CLUSTER_OPERATIONS if is_asked else OPERATIONS_NOT_ASKED,
    )
    return ready(response)


def failed(ctx: Context, request: DescribeClusterRequest, code: ErrorCode) -> Response:
    """No brokers, and why."""
    response: Response = maker(request).DescribeClusterResponse(
        error_code=code,
        error_message=code.name.replace("_", " "),
        endpoint_type=getattr(request, "endpoint_type", BROKERS),
        cluster_id="",
        controller_id=-1,
        brokers=(),
        cluster_authorized_operations=OPERATIONS_NOT_ASKED,
    )
    return response
