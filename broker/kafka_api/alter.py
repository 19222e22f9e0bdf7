"""Changing configs: AlterConfigs and IncrementalAlterConfigs, which differ in what a request's
configs ask for."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from kio.schema.errors import ErrorCode

from broker.controller.topic_name import check_topic_name
from broker.errors import InvalidRequest, RequestError
from broker.kafka_api.context import Context
from broker.kafka_api.describe import BROKER_RESOURCE, GROUP_RESOURCE, TOPIC_RESOURCE
from broker.kafka_api.errors import code_of, text_of
from broker.kafka_api.handler import Finish, Response, ready, within
from broker.kafka_api.wire import Maker, maker
from broker.ports import EditConfigs

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


class Configure(Protocol):
    """How one resource is changed."""

    def __call__(self, edit: EditConfigs, *, validate_only: bool) -> Awaitable[None]: ...


class Alter:
    """The two entry points of an API of this kind.

    `edit_of` makes what its configs ask for out of a resource of a request; `answer` makes the
    response of the results.
    """

    def __init__(
        self,
        edit_of: Callable[[Any], EditConfigs],
        answer: Callable[[Maker, tuple[object, ...]], Response],
    ) -> None:
        self._edit_of = edit_of
        self._answer = answer

    async def begin(self, ctx: Context, request: Any) -> Finish:
        """Change in the order asked, before the connection's next request is looked at."""
        make = maker(request)
        return ready(self._answer(make, await _alter_all(ctx, make, request, self._edit_of)))

    def failed(self, ctx: Context, request: Any, code: ErrorCode) -> Response:
        """The same error for every resource."""
        make = maker(request)
        text = "the broker failed while serving this request"
        found = tuple(_result(make, resource, code, text) for resource in request.resources)
        return self._answer(make, found)


async def _alter_all(
    ctx: Context, make: Maker, request: Any, edit_of: Callable[[Any], EditConfigs]
) -> tuple[object, ...]:
    """Change one resource after the other; the result of each."""
    resources: Sequence[Resource] = request.resources
    times = Counter((one.resource_type, one.resource_name) for one in resources)
    deadline = ctx.clock.monotonic() + ctx.config.admin_wait_ms_max / 1000
    results = []
    for index, resource in enumerate(resources):
        try:
            if index >= RESOURCE_COUNT_MAX:
                raise InvalidRequest(f"more than {RESOURCE_COUNT_MAX} resources in one request")
            if times[resource.resource_type, resource.resource_name] > 1:
                raise InvalidRequest("the resource stands more than once in the request")
            configure = _configure(ctx, resource)
            if configure is not None:
                work = configure(edit_of(resource), validate_only=request.validate_only)
                await within(max(0.0, deadline - ctx.clock.monotonic()), work)
        except RequestError as error:
            results.append(_result(make, resource, code_of(error), text_of(error)))
        else:
            results.append(_result(make, resource, ErrorCode.none, None))
    return tuple(results)


def _configure(ctx: Context, resource: Resource) -> Configure | None:
    """What changes it; None where nothing is asked of a node. Raises what refuses the rest."""
    name = resource.resource_name
    repeated = [
        key for key, count in Counter(one.name for one in resource.configs).items() if count > 1
    ]
    if repeated:
        raise InvalidRequest(f"config {repeated[0]} stands more than once")
    if resource.resource_type == TOPIC_RESOURCE:
        check_topic_name(name)
        return partial(ctx.controller.configure, ctx.controller.topic(name).topic_id)
    if resource.resource_type == GROUP_RESOURCE:
        return partial(ctx.controller.configure_group, name)
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
