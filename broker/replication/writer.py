"""The one writer of one segment (pure).

A Writer exists only because the metadata names this node *and this incarnation* as the writer of an
open segment; it is never rebuilt from local files. It is the only place where offsets are given
out. It stops for good (`close`) when the segment is sealed, rolled, or the disk refuses; it never
resumes.

    OPEN ──park──▶ PARKED ──unpark──▶ OPEN      a planned roll: appends wait, nothing fails
      └───────close───────┴─────▶ CLOSED
"""

from collections import Counter
from enum import Enum

from broker.errors import (
    DuplicateSequence,
    FencedProducer,
    NotEnoughReplicas,
    NotLeader,
    OutOfOrderSequence,
)
from broker.replication.quorum import committed_offset
from engine.batch import BatchHeader
from engine.producer_state import Duplicate, Fenced, Fresh, Gap, OldDuplicate, ProducerState


class WriterPhase(Enum):
    OPEN = "open"
    PARKED = "parked"
    CLOSED = "closed"


class Writer:
    """Assigns offsets in one segment and knows how far they are safe.

    `durable` maps each replica to the end of what it has made durable; the high watermark is the
    `quorum`-th largest of them and never goes back. It counts for every record whatever its `acks`,
    so consumers never see what a failover could take away (KIP-966's strict minimum). When the
    topic asks for a quorum of more replicas than the segment has, all of them are enough, and
    acks=all is refused.
    """

    def __init__(
        self,
        *,
        node: int,
        disk: bytes,
        epoch: int,
        base_offset: int,
        replicas: tuple[int, ...],
        quorum: int,
        window: ProducerState,
    ) -> None:
        if node not in replicas:
            raise ValueError(f"node {node} is not among the replicas {replicas}")
        self.node = node
        self.disks = {node: disk}
        """The disks whose ends `durable` tells: ours, and each follower's when it began."""
        self.incarnations: dict[int, int] = {}
        """Of the followers, when they began last: what an earlier one says counts no more."""
        self.base_offset = base_offset
        self.epoch = epoch
        self.quorum = min(quorum, len(replicas))
        self.needed = quorum
        """How many replicas must be live for acks=all."""
        self.window = window
        self.phase = WriterPhase.OPEN
        self.next_offset = base_offset
        self.high_watermark = base_offset
        self.durable = dict.fromkeys(replicas, base_offset)
        self.heard: dict[int, float] = {}
        """Followers and when they last acknowledged anything, on the node's monotonic clock."""
        self.has_quorum = quorum <= 1
        """Enough replicas are live to honour acks=all."""
        self._live = Counter([node])
        """How many live streams each replica has: a broken one may end after its successor
        began."""

    def admit(self, header: BatchHeader, *, acks: int) -> Duplicate | None:
        """May this batch be appended at `next_offset`?

        None: yes; call `accept` once the log has taken it. A Duplicate: it is here already, at
        those offsets. Raises NotLeader, NotEnoughReplicas, OutOfOrderSequence, DuplicateSequence,
        FencedProducer; in each case nothing has changed. PARKED is the caller's business: it waits
        before it asks.
        """
        if self.phase is not WriterPhase.OPEN:
            raise NotLeader("the segment is closed")
        if acks == -1 and not self.has_quorum:
            raise NotEnoughReplicas(
                f"{self._live_count} of {self.needed} required replicas are live"
            )
        match self.window.check(header):
            case Fresh():
                return None
            case Duplicate() as duplicate:
                return duplicate
            case OldDuplicate():
                raise DuplicateSequence(f"{_who(header)}: older than the window of five batches")
            case Gap(expected=expected):
                raise OutOfOrderSequence(f"{_who(header)}: expected {expected}")
            case Fenced(current_epoch=epoch):
                raise FencedProducer(f"{_who(header)}: its epoch is older than {epoch}")

    def is_next(self, header: BatchHeader) -> bool:
        """Whether nothing but the phase and the quorum could keep `admit` from letting it in."""
        return isinstance(self.window.check(header), Fresh)

    def accept(self, base_offset: int, end_offset: int) -> None:
        """The log holds what was given these offsets; so does the window."""
        if base_offset != self.next_offset:
            raise AssertionError(f"batches at {base_offset}, expected {self.next_offset}")
        self.next_offset = end_offset

    def on_follow(self, replica: int, incarnation: int, disk: bytes, end_offset: int) -> None:
        """A follower begins, with this disk, where its copy ends. What another disk of it
        acknowledged went with it, and so did what this one never synced if it lost power."""
        if self.disks.get(replica, disk) != disk:
            self.durable[replica] = self.base_offset
        self.durable[replica] = min(self.durable[replica], end_offset)
        self.disks[replica] = disk
        self.incarnations[replica] = incarnation

    def holders(self) -> dict[int, bytes]:
        """Those who have everything on disk, the writer included, and on which disk."""
        return {
            node: disk
            for node, disk in self.disks.items()
            if self.durable[node] >= self.next_offset
        }

    def on_durable(self, replica: int, end_offset: int) -> bool:
        """A replica has everything below `end_offset` on its disk. True if the high watermark
        moved."""
        if replica not in self.durable or end_offset <= self.durable[replica]:
            return False
        self.durable[replica] = end_offset
        return self._commit()

    def _commit(self) -> bool:
        committed = committed_offset(self.durable.values(), self.quorum)
        if committed <= self.high_watermark:
            return False
        self.high_watermark = committed
        return True

    def require(self, quorum: int) -> None:
        """The topic asks for another quorum, a majority of the replicas or more. What is committed
        stays so."""
        self.needed, self.quorum = quorum, min(quorum, len(self.durable))
        self.has_quorum = self._live_count >= quorum
        self._commit()

    def on_live(self, replica: int, *, live: bool) -> None:
        """A stream to a follower has caught up, or one that had is gone or far behind."""
        self._live[replica] += 1 if live else -1
        self.has_quorum = self._live_count >= self.needed

    @property
    def may_have_quorum(self) -> bool:
        """The segment has enough replicas for acks=all, live or not."""
        return self.needed <= len(self.durable)

    @property
    def _live_count(self) -> int:
        return sum(count > 0 for count in self._live.values())

    @property
    def is_drained(self) -> bool:
        """Everything that was appended is committed."""
        return self.high_watermark == self.next_offset

    def park(self) -> None:
        """A roll begins: admit nothing until `unpark` or `close`."""
        if self.phase is WriterPhase.OPEN:
            self.phase = WriterPhase.PARKED

    def unpark(self) -> None:
        """The roll is known not to have happened."""
        if self.phase is WriterPhase.PARKED:
            self.phase = WriterPhase.OPEN

    def close(self) -> None:
        """For good."""
        self.phase = WriterPhase.CLOSED


def _who(header: BatchHeader) -> str:
    return (
        f"producer {header.producer_id} epoch {header.producer_epoch}"
        f" sequence {header.base_sequence}"
    )
