"""What one round of GETs takes out of the log: the waiting way, and the one for records that are at
hand."""

from dataclasses import dataclass, field

import structlog

from broker.errors import NotLeader, OffsetOutOfRange, RequestError
from broker.native_api.reader import TopicReader, UnreadableBatch
from broker.ports import AnyPartition, QuickPartition

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

ROUND_SIZE_MAX = 1024 * 1024
"""Bytes handed out by one round, but for its last record."""


@dataclass(slots=True)
class Haul:
    """What one round took out of the log."""

    offset: int
    """Where the cursor stands after it."""
    taken: list[bytes | UnreadableBatch] = field(default_factory=list)
    """For the first tickets of the round, in order."""
    has_more: bool = False
    """The round was large enough; there may be records for the others."""
    failure: RequestError | None = None
    """What the others are told; None: there is nothing yet."""


async def haul(reader: TopicReader, partition: AnyPartition, offset: int, count: int) -> Haul:
    """What `count` GETs take from `offset` on."""
    took = Haul(offset)
    size = 0
    try:
        while len(took.taken) < count and size < ROUND_SIZE_MAX:
            try:
                found = await reader.next(partition, took.offset)
            except UnreadableBatch as error:
                _log.warning("native GET skips a batch", reason=str(error))
                took.taken.append(error)
                took.offset = error.next_offset
                continue
            if found is None:
                return took
            took.taken.append(found.value)
            took.offset = found.offset + 1
            size += len(found.value)
        took.has_more = True
    except OffsetOutOfRange:
        name, end = partition.topic.name, partition.high_watermark
        if took.offset <= end:
            # It is below a log start that its leader knows of and we do not yet.
            took.failure = NotLeader(f"the log start of {name} moves just now")
        else:
            # The log ends before the cursor: it lost its tail, which weaker durability allows.
            took.offset = end
            _log.warning("native cursor set back", topic=name, offset=offset, end=end)
    except RequestError as error:
        took.failure = error
    return took


def haul_now(reader: TopicReader, partition: QuickPartition, offset: int, count: int) -> Haul:
    """The beginning of what `haul` takes, as far as nothing has to be waited for. Raises what the
    reader raises."""
    took = Haul(offset)
    size = 0
    while len(took.taken) < count and size < ROUND_SIZE_MAX:
        found = reader.next_now(partition, took.offset)
        if found is None:
            break
        took.taken.append(found.value)
        took.offset = found.offset + 1
        size += len(found.value)
    return took
