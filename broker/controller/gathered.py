"""Batches that came to one segment in one turn of the event loop, and go to its log together.

What an append costs, but for a look at its header, is then paid once for all of them. Nothing else
is appended before them, so what was found of a batch when it came still holds.
"""

from collections.abc import Sequence

from broker.ports import Produced
from engine.batch import BatchHeader

Buffer = bytearray | memoryview
"""Ours: the offsets go into it."""

Safety = tuple[int, float]
"""What is to be waited for: acks, and for how many seconds."""


class Gathered:
    """Checked batches in order, and who brought them."""

    __slots__ = ("batches", "log_start_offset", "now_ms", "producer_ids", "waiting")

    def __init__(self, *, now_ms: int, log_start_offset: int) -> None:
        self.now_ms = now_ms
        """Wall time when the first one came."""
        self.log_start_offset = log_start_offset
        self.batches: list[tuple[BatchHeader, Buffer, Produced]] = []
        self.producer_ids: set[int] = set()
        """Idempotent producers, of whom the window knows all but this one batch."""
        self.waiting: dict[Safety, list[Produced]] = {}

    def add(self, header: BatchHeader, batch: Buffer, produced: Produced, safety: Safety) -> None:
        self.batches.append((header, batch, produced))
        if header.producer_id >= 0:
            self.producer_ids.add(header.producer_id)
        waiting = self.waiting.get(safety)
        if waiting is None:
            waiting = self.waiting[safety] = []
        waiting.append(produced)

    def refuse(self, error: Exception) -> None:
        """Nothing of them was appended."""
        for _, _, produced in self.batches:
            produced.refused(error)


def tell(produced: Sequence[Produced], failure: Exception | None) -> None:
    """All of them are as safe as was asked, or will not be."""
    for one in produced:
        one.committed(failure)
