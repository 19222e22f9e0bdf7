"""A planned rollover: close this segment exactly, open the next, and let nobody notice.

Appends that arrive meanwhile are parked, not failed. When everything appended is committed, one
compare-and-set fixes the end and opens the successor; the lease table then installs the new bucket
and the parked appends go on there. After the proposal the old segment is never written again unless
the command is known to have been refused.
"""

import structlog

from broker.controller.metadata import Metadata
from broker.controller.partition import LocalPartition
from broker.errors import RequestError
from broker.replication.writer import WriterPhase
from raft.commands import CommitRoll, Next, SealedEnd

_log = structlog.get_logger(__name__)


async def roll(
    partition: LocalPartition, metadata: Metadata, *, next_writer: Next, disk: bytes, reason: str
) -> bool:
    """True if the segment was closed. False if there was nothing to close, or someone else was
    faster."""
    bucket = partition.bucket
    if bucket is None or bucket.lease is None or bucket.writer.phase is not WriterPhase.OPEN:
        return False
    segment = bucket.segment
    if segment.end_offset == segment.base_offset:
        return False
    bucket.writer.park()
    try:
        await partition.drained()
    except RequestError:
        return False
    command = CommitRoll(
        topic_id=partition.metadata.topic_id,
        sid=bucket.sid,
        open_epoch=bucket.lease.epoch,
        end=SealedEnd(segment.end_offset, segment.size, segment.digest, segment.max_timestamp),
        holders=((bucket.writer.node, disk),),
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
