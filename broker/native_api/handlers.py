"""What each native command does. One `begin_…` per command: stage 1 now, and a `Finish` that
answers."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial

import msgspec

from broker.errors import (
    InvalidTopic,
    OutcomeUnknown,
    RequestError,
    TopicExists,
    UnknownTopic,
)
from broker.native_api import commands
from broker.native_api.cursor import Ticket
from broker.native_api.errors import text_of
from broker.native_api.framing import EMPTY, OK, bare, error, ok_with
from broker.native_api.majority import in_time
from broker.native_api.packer import Pack, Packer
from broker.native_api.shared import SharedCursors
from broker.ports import Controller, Finish, NodeStatus, Reply, TopicView


@dataclass(frozen=True, slots=True)
class Context:
    """What the commands work on."""

    controller: Controller
    packer: Packer
    cursors: SharedCursors
    status: Callable[[], NodeStatus]
    metrics: Callable[[], Mapping[str, object]]
    """What METRICS shows beside the node's status: see `begin_metrics`."""


async def begin_register(ctx: Context, command: commands.Register) -> Finish:
    """REGISTER: done before the next command of the connection begins. A topic that exists is
    fine. Raises MetadataUnavailable where no majority decides it in time."""
    try:
        ctx.controller.topic(command.topic)
    except UnknownTopic:
        with in_time(warning="; the topic may yet be created"):
            try:
                await ctx.controller.create_topic(command.topic, configs={})
            except TopicExists:
                pass  # Somebody else was quicker.
    return partial(_say, OK)


async def begin_put(ctx: Context, command: commands.Put) -> tuple[Pack, Finish]:
    """PUT: takes its place in the topic's pack now, answers when that is durable."""
    topic = public_topic(ctx, command.topic)
    pack = ctx.packer.put(topic, command.payload)
    return pack, partial(_finish_put, topic, pack)


async def _finish_put(topic: TopicView, pack: Pack) -> Reply:
    try:
        await pack.settled()
    except RequestError as failure:
        return refusal(failure, topic.name, topic)
    return OK


async def begin_get(ctx: Context, command: commands.Get) -> tuple[Ticket, Finish]:
    """GET: takes its place in the line now, answers when the cursor is durably past its record."""
    topic = public_topic(ctx, command.topic)
    ticket = await ctx.cursors.get(topic)
    return ticket, partial(_finish_get, topic, ticket)


async def _finish_get(topic: TopicView, ticket: Ticket) -> Reply:
    await ticket.ended()
    return answer_get(topic, ticket)


def answer_get(topic: TopicView, ticket: Ticket) -> Reply:
    """The reply to a GET whose ticket is done."""
    try:
        value = ticket.outcome()
    except OutcomeUnknown as unknown:
        return error(f"outcome unknown, the message may have been taken: {unknown}")
    except RequestError as failure:
        return refusal(failure, topic.name, topic)
    return EMPTY if value is None else ok_with(value)


async def begin_state(ctx: Context, command: commands.State) -> Finish:
    """STATE: the chain of segments as this node knows it now.

    `last_sealed_entry_offset` is the base offset of the open segment: one past the last sealed
    record. Counts are offsets, so records that compaction removed are still counted.
    """
    topic = ctx.controller.topic(command.topic)
    last = topic.segments[-1]
    sealed = {
        str(segment.sid): segment.end_offset - segment.base_offset
        for segment in topic.segments
        if segment.end_offset is not None
    }
    state = {
        "current_segment": last.sid,
        "leader_node": topic.leader_id,
        "last_sealed_entry_offset": (
            last.base_offset if last.end_offset is None else last.end_offset
        ),
        "sealed_segments": sealed,
        "segment_leaders": {str(segment.sid): segment.writer for segment in topic.segments},
    }
    return partial(_say, bare(msgspec.json.encode(state)))


async def begin_metrics(ctx: Context) -> Finish:
    """METRICS: pretty JSON, an object.

    From the metadata log, with the original's names: `current_leader`, `state`, `last_log_index`,
    `membership_config`. Then `node`, the node's status, and whatever else the node counts.
    """
    shown = {**ctx.metrics(), "node": asdict(ctx.status())}
    return partial(_say, bare(msgspec.json.format(msgspec.json.encode(shown), indent=2)))


def refusal(failure: RequestError, name: str, topic: TopicView | None = None) -> Reply:
    """The ERR reply of a command about topic `name`."""
    segment = topic.segments[-1].sid if topic is not None and topic.segments else 0
    return error(text_of(failure, name, segment))


def public_topic(ctx: Context, name: str) -> TopicView:
    """The topic, unless clients have no business in it."""
    topic = ctx.controller.topic(name)
    if topic.is_internal:
        raise InvalidTopic(f"topic {name} is internal")
    return topic


async def _say(reply: Reply) -> Reply:
    return reply
