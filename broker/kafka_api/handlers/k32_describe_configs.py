"""DescribeConfigs, v1-v4.

Behaviour
  * Topics: every config with its value, where that comes from (the topic, or the default) and what
    it falls back to. Tools read an empty list as a broken broker.
  * Brokers: what this node runs with, under its own names and Kafka's, read-only; asked of another
    node's id it is INVALID_REQUEST. The empty name means cluster-wide settings, and there are none.
  * Consumer groups: every config with its value, set or default, whether there is such a group or
    not.
  * At most 1,000 resources in one request; those beyond are INVALID_REQUEST.
  * A list of names filters, no list or an empty one does not. A missing topic is
    UNKNOWN_TOPIC_OR_PARTITION.
Versions
  v1 synonyms · v3 types and documentation (KIP-569) · v4 flexible
Not here
  loggers and client metrics as resources: INVALID_REQUEST
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import anyio.lowlevel
from kio.schema.errors import ErrorCode

from broker.controller.topic_name import check_topic_name
from broker.errors import InvalidRequest, RequestError
from broker.kafka_api.context import Context
from broker.kafka_api.describe import (
    BROKER_RESOURCE,
    GROUP_RESOURCE,
    TOPIC_RESOURCE,
    Entry,
    broker_entry,
    group_entries,
    topic_entries,
)
from broker.kafka_api.errors import code_of, text_of
from broker.kafka_api.handler import Finish, Response, ready
from broker.kafka_api.wire import Maker, maker

if TYPE_CHECKING:
    from kio.schema.describe_configs.v4.request import (
        DescribeConfigsRequest,
        DescribeConfigsResource,
    )

RESOURCE_COUNT_MAX: Final = 1000
"""Resources described in one answer. Each is a few kilobytes, so a small request would else make
a huge answer; the rest of a longer list is refused one by one."""


async def begin(ctx: Context, request: DescribeConfigsRequest) -> Finish:
    """Describe every resource, each with its own error."""
    make = maker(request)
    results = []
    for index, resource in enumerate(request.resources):
        await anyio.lowlevel.checkpoint()  # a long list does not keep everybody else waiting
        try:
            if index >= RESOURCE_COUNT_MAX:
                raise InvalidRequest(f"more than {RESOURCE_COUNT_MAX} resources in one request")
            entries = _filtered(_entries(ctx, resource), resource)
        except RequestError as error:
            results.append(_result(make, resource, code_of(error), text_of(error), ()))
        else:
            configs = tuple(_config(make, request, entry) for entry in entries)
            results.append(_result(make, resource, ErrorCode.none, None, configs))
    return ready(make.DescribeConfigsResponse(results=tuple(results)))


def failed(ctx: Context, request: DescribeConfigsRequest, code: ErrorCode) -> Response:
    """The same error for every resource."""
    make = maker(request)
    text = "the broker failed while serving this request"
    results = tuple(_result(make, resource, code, text, ()) for resource in request.resources)
    response: Response = make.DescribeConfigsResponse(results=results)
    return response


def _entries(ctx: Context, resource: DescribeConfigsResource) -> Sequence[Entry]:
    name = resource.resource_name
    if resource.resource_type == TOPIC_RESOURCE:
        check_topic_name(name)
        return topic_entries(ctx.controller.topic(name).configs)
    if resource.resource_type == GROUP_RESOURCE:
        return group_entries(ctx.controller.group_configs(name))
    if resource.resource_type != BROKER_RESOURCE:
        raise InvalidRequest(f"resources of type {resource.resource_type} have no configs here")
    if not name:
        return ()
    if name != str(ctx.controller.node_id):
        raise InvalidRequest(f"this is node {ctx.controller.node_id}, not {name!r}: ask that node")
    return [broker_entry(config) for config in ctx.config.broker_configs]


def _filtered(entries: Sequence[Entry], resource: DescribeConfigsResource) -> Sequence[Entry]:
    names = resource.configuration_keys
    return [entry for entry in entries if entry.name in names] if names else entries


def _config(make: Maker, request: DescribeConfigsRequest, entry: Entry) -> object:
    synonyms = tuple(
        make.DescribeConfigsSynonym(name=one.name, value=one.value, source=one.source)
        for one in (entry.synonyms if request.include_synonyms else ())
    )
    is_documented = getattr(request, "include_documentation", False)
    return make.DescribeConfigsResourceResult(
        name=entry.name,
        value=entry.value,
        read_only=entry.is_read_only,
        config_source=entry.source,
        is_sensitive=False,
        synonyms=synonyms,
        config_type=entry.type,
        documentation=entry.documentation if is_documented else None,
    )


def _result(
    make: Maker,
    resource: DescribeConfigsResource,
    code: ErrorCode,
    text: str | None,
    configs: tuple[object, ...],
) -> object:
    return make.DescribeConfigsResult(
        error_code=code,
        error_message=text,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
        configs=configs,
    )
