"""Producer ids that nobody has had before: taken from the metadata a block at a time."""

import anyio

from broker.controller.metadata import Metadata
from broker.errors import MetadataUnavailable
from raft.commands import AllocateProducerIds

PER_BLOCK = 1000
"""Ids taken with one command; what a process has left when it ends is never given out."""


class ProducerIds:
    """One process's supply."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._block = range(0)
        self._lock = anyio.Lock()

    async def next(self) -> int:
        """Raises MetadataUnavailable."""
        async with self._lock:
            if not self._block:
                try:
                    applied = await self._metadata.propose(AllocateProducerIds(PER_BLOCK))
                except MetadataUnavailable as error:
                    why = "this node reaches no majority of the cluster; nothing was done"
                    raise MetadataUnavailable(why) from error
                if applied.refusal:
                    raise MetadataUnavailable(f"no producer ids: {applied.refusal}")
                self._block = range(applied.value, applied.value + PER_BLOCK)
            producer_id, self._block = self._block[0], self._block[1:]
            return producer_id
