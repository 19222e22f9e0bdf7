"""Changing configs: what AlterConfigs and IncrementalAlterConfigs have in common."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from kio.schema.errors import ErrorCode

from broker.controller.topic_name import check_topic_name
from broker.errors import InvalidRequest, RequestError
from broker.kafka_api.context import Context
from broker.kafka_api.describe import BROKER_RESOURCE, TOPIC_RESOURCE
from broker.kafka_api.errors import code_of, text_of
from broker.kafka_api.handler import within
from broker.kafka_api.wire import Maker

Edit = Callable[[Mapping[str, str]], Mapping[str, str]]
"""From what is set for a topic to what is to be set; raises RequestError for what cannot be
meant."""

RESOURCE_COUNT_MAX: Final = 1000
"""Resources changed by one request; the rest of a longer list is refused one by one."""


class Named(Protocol):
    @property
    def name(self) -> str: ...


class Resource(Protocol):
    """What is to be changed, in the requests of both APIs."""

    @property
    def resource_type(self) -> int: ...

    @property
    def resource_name(self) -> str: ...

    @property
    def configs(self) -> Sequence[Named]: ...


async def alter_all(
    ctx: Context,
    make: Maker,
    resources: Sequence[Resource],
    edit_of: Callable[[Any], Edit],
    *,
    validate_only: bool,
) -> tuple[object, ...]:
    """Change one resource after the other; the result of each. `edit_of` takes a resource."""
    times = Counter((one.resource_type, one.resource_name) for one in resources)
    deadline = ctx.clock.monotonic() + ctx.config.admin_wait_ms_max / 1000
    results = []
    for index, resource in enumerate(resources):
        try:
            if index >= RESOURCE_COUNT_MAX:
                raise InvalidRequest(f"more than {RESOURCE_COUNT_MAX} resources in one request")
            if times[resource.resource_type, resource.resource_name] > 1:
                raise InvalidRequest("the resource stands more than once in the request")
            topic_id = _topic_id(ctx, resource)
            if topic_id is not None:
                edit = edit_of(resource)
                work = ctx.controller.configure(topic_id, edit, validate_only=validate_only)
                await within(max(0.0, deadline - ctx.clock.monotonic()), work)
        except RequestError as error:
            results.append(_result(make, resource, code_of(error), text_of(error)))
        else:
            results.append(_result(make, resource, ErrorCode.none, None))
    return tuple(results)


def failed_all(make: Maker, resources: Iterable[Resource], code: ErrorCode) -> tuple[object, ...]:
    """The same error for every resource."""
    text = "the broker failed while serving this request"
    return tuple(_result(make, resource, code, text) for resource in resources)


def _topic_id(ctx: Context, resource: Resource) -> UUID | None:
    """The topic to change; None where nothing is asked of a node. Raises what refuses the rest."""
    name = resource.resource_name
    repeated = [
        key for key, count in Counter(one.name for one in resource.configs).items() if count > 1
    ]
    if repeated:
        raise InvalidRequest(f"config {repeated[0]} stands more than once")
    if resource.resource_type == TOPIC_RESOURCE:
        check_topic_name(name)
        return ctx.controller.topic(name).topic_id
    if resource.resource_type != BROKER_RESOURCE:
        raise InvalidRequest(f"resources of type {resource.resource_type} have no configs here")
    if name not in ("", str(ctx.controller.node_id)):
        raise InvalidRequest(f"this is node {ctx.controller.node_id}, not {name!r}: ask that node")
    if resource.configs:
        names = ", ".join(one.name for one in resource.configs)
        raise InvalidRequest(f"{names}: a node's settings change when it is restarted with others")
    return None


def _result(make: Maker, resource: Resource, code: ErrorCode, text: str | None) -> object:
    return make.AlterConfigsResourceResponse(
        error_code=code,
        error_message=text,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
    )
