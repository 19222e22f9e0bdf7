"""Batches that a producer has sent behind one that was refused (pure).

An idempotent producer has up to five batches under way. When the first of them is refused because
this node does not lead, and a moment later it does, the second one would be out of order; for a
producer that the topic does not know yet it would even be taken before the first. librdkafka meets
an out-of-order batch with a new epoch and sends all that is unanswered once more, in every
partition: what another one of them had stored already is there twice. So what continues a refused
batch is refused, too, until the producer has gone back.
"""

from collections.abc import Container
from typing import Final

from broker.errors import NotEnoughReplicas, NotLeader, OutcomeUnknown, StorageFailed
from broker.ports import Buffer
from engine.batch import SEQUENCE_MAX, BatchHeader, CorruptBatchError, parse_header

TOPICS_MAX: Final = 10_000
"""Of one connection, more than a client writes at a time; beyond it the oldest is forgotten."""

_MAY_COME_AGAIN: Final = (NotLeader, NotEnoughReplicas, OutcomeUnknown, StorageFailed)
"""After these the same batch may be taken a moment later."""


class Behind:
    """Of one connection, on which the batches of a producer for one topic come in their order."""

    def __init__(self) -> None:
        self._next: dict[str, tuple[int, int, int]] = {}
        """By topic: producer id, epoch and sequence of the batch that would continue the last one
        refused."""

    @property
    def topics(self) -> Container[str]:
        """Those whose next batch has to be asked for."""
        return self._next

    def refused(self, topic: str, batch: Buffer, error: Exception) -> None:
        """If it may come again after that, its producer does not know yet."""
        header = _header(batch) if isinstance(error, _MAY_COME_AGAIN) else None
        if header is None:
            return
        following = (header.last_sequence + 1) & SEQUENCE_MAX
        self._next.pop(topic, None)
        self._next[topic] = (header.producer_id, header.producer_epoch, following)
        if len(self._next) > TOPICS_MAX:
            del self._next[next(iter(self._next))]

    def holds(self, topic: str, batch: Buffer) -> bool:
        """Whether `batch` continues the last one refused, and so was sent before its producer knew.
        Any other one shows that it does."""
        following = self._next.pop(topic, None)
        if following is None or (header := _header(batch)) is None:
            return False
        return following == (header.producer_id, header.producer_epoch, header.base_sequence)


def _header(batch: Buffer) -> BatchHeader | None:
    """Of an idempotent producer's batch; None for any other."""
    try:
        header = parse_header(batch)
    except CorruptBatchError:
        return None
    return header if header.producer_id >= 0 and header.base_sequence >= 0 else None
