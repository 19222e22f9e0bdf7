"""What a handler is, and the few things that all of them say.

A handler is a module in `handlers/`. Its `begin` is stage 1 of a request: it runs before the next
request of the connection is looked at and fixes the order of every effect. What it returns is stage
2, which may wait; it makes the response, or None where nothing is sent. Its `failed` makes the
response to the same request that says of everything asked that it failed, for the errors that
nobody foresaw.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

import anyio
from kio.schema.errors import ErrorCode

from broker.errors import OutcomeUnknown, UnknownPartition
from broker.kafka_api.context import Context
from broker.kafka_api.wire import Request, Response
from broker.ports import Partition, TopicView

T = TypeVar("T")

Finish = Callable[[], Awaitable[Response | None]]


class Handler(Protocol):
    """The face of the modules in `handlers/`."""

    @property
    def begin(self) -> Callable[[Context, Any], Awaitable[Finish]]: ...

    @property
    def failed(self) -> Callable[[Context, Any, ErrorCode], Response]: ...


def ready(response: Response | None) -> Finish:
    """Stage 2 of a request that was answered in stage 1."""
    return partial(_same, response)


async def _same(response: Response | None) -> Response | None:
    return response


async def within(wait_s: float, work: Awaitable[T]) -> T:
    """The result of `work`. Raises OutcomeUnknown when it takes longer than `wait_s` seconds."""
    with anyio.move_on_after(wait_s):
        return await work
    raise OutcomeUnknown(f"not known to be done after {wait_s:.3f} s")


def led_partition(ctx: Context, topic: TopicView, index: int) -> Partition:
    """Raises UnknownPartition, NotLeader, UnknownTopicId."""
    if index != 0:
        raise UnknownPartition(f"{topic.name} has partition 0 and no partition {index}")
    return ctx.controller.partition(topic)


def live_controller_id(ctx: Context) -> int:
    """The node that clients should send topic changes to: this one, which forwards what it must.

    Clients loop for ever on an id that is not among the brokers they are told of (redpanda#6551),
    so while this node's own registration is not visible yet, any live one will do.
    """
    ids = [broker.node_id for broker in ctx.controller.brokers(ctx.listener)]
    own_id = ctx.controller.node_id
    return own_id if own_id in ids or not ids else ids[0]


TOPIC_OPERATIONS = 0xDF8
CLUSTER_OPERATIONS = 0x1FA0
"""Every operation of the resource, as a bit field (KIP-430): what a broker without an authorizer
answers."""

OPERATIONS_NOT_ASKED = -(2**31)

NO_AUTHORIZER = "no authorizer is configured: everybody may do everything"
"""What the APIs of access control answer with SECURITY_DISABLED."""

__all__ = (
    "CLUSTER_OPERATIONS",
    "NO_AUTHORIZER",
    "OPERATIONS_NOT_ASKED",
    "TOPIC_OPERATIONS",
    "Finish",
    "Handler",
    "Request",
    "Response",
    "led_partition",
    "live_controller_id",
    "ready",
    "within",
)
