"""A planned rollover: close this segment exactly, open the next, and let nobody notice.

Appends that arrive meanwhile are parked, not failed. When everything appended is committed, one
compare-and-set fixes the end and opens the successor; the lease table then installs the new bucket
and the parked appends go on there. After the proposal the old segment is never written again unless
no proposal can have closed it.
"""

from collections.abc import Callable, Collection
from contextlib import suppress

import anyio
import structlog

from broker.controller import placement
from broker.controller.bucket import Bucket
from broker.controller.metadata import Metadata
from broker.controller.partition import LocalPartition
from broker.errors import NotProposed, RequestError
from broker.replication.writer import WriterPhase
from raft.commands import CommitRoll, Next, SealedEnd
from raft.state import ClusterState, Topic

_log = structlog.get_logger(__name__)

Choose = Callable[[ClusterState, Topic, Collection[int]], Next | None]

DRAIN_TIMEOUT_S = 5.0
"""How long appends may be parked for a roll whose quorum does not answer."""

AGAIN_PAUSE_S = 0.2
"""Before a proposal whose outcome is unknown is made again."""


async def roll(
    partition: LocalPartition,
    metadata: Metadata,
    *,
    choose: Choose,
    reason: str,
) -> bool:
    """True if the segment was closed. False if that cannot be now, or someone else was faster.

    `choose(state, topic, caught_up)` says who writes next; `caught_up` hold all of the segment.
    """
    bucket = partition.bucket
    if bucket is None or bucket.lease is None or bucket.writer.phase is not WriterPhase.OPEN:
        return False
    if not metadata.reaches_majority:
        return False  # Nobody could decide it, and who writes is better refused than parked.
    if not bucket.writer.is_drained and not _may_drain(bucket, metadata.state):
        return False  # Those who write with acks=1 would be parked for nothing.
    bucket.park()
    if await _drained(partition):
        command = _command(partition, bucket, metadata.state, choose)
        if command is not None and await _commit(partition, metadata, command, choose):
            _log.info(
                "rolled over",
                topic=partition.topic.name,
                sealed_sid=bucket.sid,
                end_offset=bucket.segment.end_offset,
                bytes=bucket.segment.size,
                reason=reason,
            )
            return True
    bucket.writer.unpark()
    partition.unpark()
    return False


def _may_drain(bucket: Bucket, state: ClusterState) -> bool:
    """Enough of the replicas live to commit what was appended."""
    live = placement.live_nodes(state)
    return sum(node in live for node in bucket.writer.durable) >= bucket.writer.quorum


async def _drained(partition: LocalPartition) -> bool:
    with anyio.move_on_after(DRAIN_TIMEOUT_S), suppress(RequestError):
        await partition.drained()
        return True
    return False


def _command(
    partition: LocalPartition, bucket: Bucket, state: ClusterState, choose: Choose
) -> CommitRoll | None:
    """None when the lease is over, or nobody can write next."""
    if bucket.lease is None:
        return None
    holders = bucket.writer.holders()
    next_writer = choose(state, partition.metadata, holders.keys())
    if next_writer is None:
        return None
    return CommitRoll(
        topic_id=partition.metadata.topic_id,
        sid=bucket.sid,
        open_epoch=bucket.lease.epoch,
        end=SealedEnd(*bucket.segment.end, appended_ms=bucket.last_append_ms),
        holders=tuple(holders.items()),
        next=next_writer,
    )


async def _commit(
    partition: LocalPartition, metadata: Metadata, command: CommitRoll, choose: Choose
) -> bool:
    """True once the metadata says that the segment is closed; False only if it is known that no
    proposal of ours ever closes it.

    While the outcome of one is unknown, it is asked again for the same end: the segment can be
    closed only once, and nobody appends, so it does not matter which of the proposals wins.
    """
    name, bucket = partition.topic.name, partition.bucket
    is_open, is_unknown = True, False
    while is_open:
        try:
            applied = await metadata.propose(command)
        except NotProposed as error:
            why = str(error)
        except RequestError as error:
            why, is_unknown = str(error), True
        else:
            if not applied.refusal:
                return True
            why = str(applied.refusal)
        if not is_unknown:
            _log.warning("rollover refused", topic=name, sid=command.sid, why=why)
            return False
        _log.warning("rollover undecided; asking again", topic=name, sid=command.sid, why=why)
        await anyio.sleep(AGAIN_PAUSE_S)
        topic = metadata.state.topics.get(command.topic_id)
        is_open = topic is not None and topic.epoch == command.open_epoch
        if bucket is not None:
            command = _command(partition, bucket, metadata.state, choose) or command
    return True
