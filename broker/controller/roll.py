"""A planned rollover: close this segment exactly, open the next, and let nobody notice.

Appends that arrive meanwhile are parked, not failed. When everything appended is committed, one
compare-and-set fixes the end and opens the successor; the lease table then installs the new bucket
and the parked appends go on there. After the proposal the old segment is never written again unless
the command is known to have been refused.
"""

from collections.abc import Callable, Collection
from contextlib import suppress

import anyio
import structlog

from broker.controller.metadata import Metadata
from broker.controller.partition import LocalPartition
from broker.errors import RequestError
from broker.replication.writer import WriterPhase
from raft.commands import CommitRoll, Next, SealedEnd
from raft.state import ClusterState, Topic

_log = structlog.get_logger(__name__)

DRAIN_TIMEOUT_S = 5.0
"""How long appends may be parked for a roll whose quorum does not answer."""


async def roll(
    partition: LocalPartition,
    metadata: Metadata,
    *,
    choose: Callable[[ClusterState, Topic, Collection[int]], Next | None],
    reason: str,
) -> bool:
    """True if the segment was closed. False if that cannot be now, or someone else was faster.

    `choose(state, topic, caught_up)` says who writes next; `caught_up` hold all of the segment.
    """
    bucket = partition.bucket
    if bucket is None or bucket.lease is None or bucket.writer.phase is not WriterPhase.OPEN:
        return False
    segment = bucket.segment
    bucket.writer.park()
    is_drained = False
    with anyio.move_on_after(DRAIN_TIMEOUT_S), suppress(RequestError):
        await partition.drained()
        is_drained = True
    if not is_drained:
        bucket.writer.unpark()
        partition.unpark()
        return False
    writer = bucket.writer
    caught_up = [node for node, end in writer.durable.items() if end >= writer.next_offset]
    state = metadata.state
    next_writer = choose(state, partition.metadata, caught_up)
    if next_writer is None:
        bucket.writer.unpark()
        partition.unpark()
        return False
    command = CommitRoll(
        topic_id=partition.metadata.topic_id,
        sid=bucket.sid,
        open_epoch=bucket.lease.epoch,
        end=SealedEnd(*segment.end, appended_ms=bucket.last_append_ms),
        holders=tuple((node, state.brokers[node].disk) for node in caught_up),
        next=next_writer,
    )
    try:
        applied = await metadata.propose(command)
    except RequestError as error:
        _log.error(
            "rollover outcome unknown; the segment stays closed",
            topic=partition.topic.name,
            sid=bucket.sid,
            error=str(error),
        )
        return False
    if applied.refusal:
        _log.warning(
            "rollover refused", topic=partition.topic.name, sid=bucket.sid, why=applied.refusal
        )
        bucket.writer.unpark()
        partition.unpark()
        return False
    _log.info(
        "rolled over",
        topic=partition.topic.name,
        sealed_sid=bucket.sid,
        end_offset=segment.end_offset,
        bytes=segment.size,
        reason=reason,
    )
    return True
