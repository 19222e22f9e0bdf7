"""Metadata, v0-v13.

Behaviour
  * Lists every live broker with the address that the client's own listener advertises, for a moment
    also one that has died (see `controller/lately.py`), and topics with their one partition. The
    controller is this node (see `handler.live_controller_id`).
  * No list of topics means all of them (in v0 an empty list does); an empty list means none.
  * A topic that is missing is created if the request and the node allow it, and answered finished;
    a bad name is INVALID_TOPIC_EXCEPTION and never created.
  * While a topic's next leader is being made out, one of its live replicas is named: it will be the
    leader, or says NOT_LEADER_OR_FOLLOWER until it knows who is, which every client lives through.
    Without a majority of them alive there is nobody to wait for: LEADER_NOT_AVAILABLE, leader -1.
Versions
  v1 null = all, rack, controller · v2 cluster id · v4 allow_auto_topic_creation · v5 offline
  replicas · v7 leader epoch (KIP-320) · v8 authorized operations (KIP-430; of the cluster only to
  v10) · v9 flexible · v10 topic ids · v12 topics by id (KIP-516) · v13 top-level error (KIP-1102,
  always 0)
Not here
  rebootstrapping (KIP-1102)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kio.schema.errors import ErrorCode

from broker.controller.topic_name import check_topic_name
from broker.errors import (
    Loading,
    MetadataUnavailable,
    NotLeader,
    OutcomeUnknown,
    RequestError,
    TopicExists,
    UnknownTopic,
)
from broker.kafka_api.context import Context
from broker.kafka_api.errors import Refused, code_of
from broker.kafka_api.handler import (
    CLUSTER_OPERATIONS,
    OPERATIONS_NOT_ASKED,
    TOPIC_OPERATIONS,
    Finish,
    Response,
    live_controller_id,
    ready,
    within,
)
from broker.kafka_api.wire import Maker, maker
from broker.ports import TopicView

if TYPE_CHECKING:
    from kio.schema.metadata.v13.request import MetadataRequest, MetadataRequestTopic

BY_ID_VERSION_MIN: Final = 12


@dataclass(frozen=True, slots=True)
class _Missing:
    """A topic that was asked for and cannot be described."""

    asked: MetadataRequestTopic
    code: ErrorCode


_Found = TopicView | _Missing


async def begin(ctx: Context, request: MetadataRequest) -> Finish:
    """Create what is missing and may be created, then describe."""
    is_all = request.topics is None or (request.__version__ == 0 and not request.topics)
    found: list[_Found] = []
    if is_all:
        views: list[TopicView] = sorted(ctx.controller.topics(), key=lambda view: view.name)
        found += views
    else:
        found += [await _look_up(ctx, request, asked) for asked in request.topics or ()]
    return ready(_response(ctx, request, found, ErrorCode.none))


def failed(ctx: Context, request: MetadataRequest, code: ErrorCode) -> Response:
    """The brokers, and the same error for every topic that was named."""
    found: list[_Found] = [_Missing(asked, code) for asked in request.topics or ()]
    return _response(ctx, request, found, code)


async def _look_up(ctx: Context, request: MetadataRequest, asked: MetadataRequestTopic) -> _Found:
    try:
        return await _find(ctx, request, asked)
    except (NotLeader, OutcomeUnknown, MetadataUnavailable, Loading):
        # Creation is under way or must be tried again: every client takes this as "ask again".
        return _Missing(asked, ErrorCode.leader_not_available)
    except RequestError as error:
        return _Missing(asked, code_of(error))


async def _find(ctx: Context, request: MetadataRequest, asked: MetadataRequestTopic) -> TopicView:
    topic_id = getattr(asked, "topic_id", None)
    if topic_id is not None and request.__version__ >= BY_ID_VERSION_MIN:
        # Java's describeTopics by id leaves the name "", not null: the id decides, as with Kafka.
        return ctx.controller.topic_by_id(topic_id)
    if asked.name is None:
        text = f"a topic without a name needs an id, and Metadata v{BY_ID_VERSION_MIN}"
        raise Refused(ErrorCode.invalid_request, text)
    try:
        return ctx.controller.topic(asked.name)
    except UnknownTopic:
        check_topic_name(asked.name)
        allowed = getattr(request, "allow_auto_topic_creation", True)
        if not (allowed and ctx.config.auto_create_topics):
            raise
    wait_s = ctx.config.admin_wait_ms_max / 1000
    try:
        return await within(wait_s, ctx.controller.create_topic(asked.name, configs={}))
    except TopicExists:
        return ctx.controller.topic(asked.name)  # another client was quicker


def _missing(make: Maker, version: int, missing: _Missing) -> object:
    name: str | None = missing.asked.name
    topic_id = getattr(missing.asked, "topic_id", None)
    if version < BY_ID_VERSION_MIN:
        name = name or ""  # these versions cannot say null
    elif topic_id is not None:
        name = None  # it was looked up by its id
    return make.MetadataResponseTopic(
        error_code=missing.code,
        name=name,
        topic_id=topic_id,
        is_internal=False,
        partitions=(),
        topic_authorized_operations=OPERATIONS_NOT_ASKED,
    )


def _described(make: Maker, view: TopicView, live: frozenset[int], operations: int) -> object:
    return make.MetadataResponseTopic(
        error_code=ErrorCode.none,
        name=view.name,
        topic_id=view.topic_id,
        is_internal=view.is_internal,
        partitions=(_partition(make, view, live),),
        topic_authorized_operations=operations,
    )


def _partition(make: Maker, view: TopicView, live: frozenset[int]) -> object:
    leader_id = _leader(view, live)
    return make.MetadataResponsePartition(
        error_code=ErrorCode.leader_not_available if leader_id < 0 else ErrorCode.none,
        partition_index=0,
        leader_id=leader_id,
        leader_epoch=view.leader_epoch,
        replica_nodes=view.replicas,
        isr_nodes=view.in_sync,
        offline_replicas=view.offline,
    )


def _leader(view: TopicView, live: frozenset[int]) -> int:
    """Whom to send clients to; -1 for nobody.

    Kafka names a new leader in the moment the old one is fenced. Here that takes a question to the
    replicas, and segmentio's kafka-go gives records up for good if it is told of no leader just
    then. A leader that is not among the brokers of the same answer sends clients in circles.
    """
    if view.leader_id in live:
        return view.leader_id
    replicas = [node for node in view.in_sync if node in live]
    return replicas[0] if 2 * len(replicas) > len(view.replicas) else -1


def _response(
    ctx: Context, request: MetadataRequest, found: list[_Found], code: ErrorCode
) -> Response:
    make = maker(request)
    brokers = tuple(
        make.MetadataResponseBroker(
            node_id=broker.node_id, host=broker.host, port=broker.port, rack=broker.rack
        )
        for broker in ctx.controller.brokers(ctx.listener, lately=True)
    )
    live = frozenset(broker.node_id for broker in ctx.controller.brokers(ctx.listener))
    wants_topic = getattr(request, "include_topic_authorized_operations", False)
    wants_cluster = getattr(request, "include_cluster_authorized_operations", False)
    operations = TOPIC_OPERATIONS if wants_topic else OPERATIONS_NOT_ASKED
    topics = tuple(
        _missing(make, request.__version__, one)
        if isinstance(one, _Missing)
        else _described(make, one, live, operations)
        for one in found
    )
    response: Response = make.MetadataResponse(
        brokers=brokers,
        cluster_id=ctx.controller.cluster_id,
        controller_id=live_controller_id(ctx),
        topics=topics,
        cluster_authorized_operations=CLUSTER_OPERATIONS if wants_cluster else OPERATIONS_NOT_ASKED,
        error_code=code,
    )
    return response
