"""One local copy, read back from the disk: at a start, and where a write has met a full disk."""

import structlog

from broker.controller.housekeeping import sealed_end
from broker.replication import header as segment_header
from broker.replication.copies import Copies, LocalCopy
from broker.replication.replica import Replica
from broker.replication.store import Store
from engine.batch import BatchHeader
from engine.producer_state import ProducerState
from engine.segment import Segment
from raft.state import Segment as SegmentMetadata
from raft.state import SegmentState, Topic

_log = structlog.get_logger(__name__)


class ReadBack:
    """For one node's disk."""

    def __init__(self, *, node: int, store: Store, copies: Copies) -> None:
        self._node = node
        self._store = store
        self._copies = copies

    def segment(self, topic: Topic, metadata: SegmentMetadata) -> None:
        """Blocking. Open this node's copy as the metadata describes it, in the place of one that
        has failed. Only the tail of a topic is scanned; sealed history is taken at its word.

        Of a copy that nobody relies on, what is behind a corruption is given up (and saved beside
        it): the rest comes from others. Raises engine.errors.CorruptSegmentError when any other
        file may not be trusted, and OSError.
        """
        log = self._store.log(topic.name, topic.topic_id)
        is_sealed = metadata.state is SegmentState.SEALED
        is_closed_here = log.is_sealed_on_disk(metadata.sid)
        if is_sealed and is_closed_here and not _is_tail(topic, metadata):
            log.adopt(metadata.sid, metadata.base_offset, sealed_end(metadata))
            return
        headers: list[BatchHeader] = []
        copy: LocalCopy
        segment = log.recover(
            metadata.sid,
            metadata.base_offset,
            metadata.epoch,
            headers.append,
            head=lambda: copy.first_head(),
            keep_prefix=self._may_lack_some(metadata),
        )
        if segment.torn_size:
            _log.warning(
                "a torn tail was cut",
                segment=str(log.directory / str(metadata.sid)),
                cut_bytes=segment.torn_size,
                end_offset=segment.end_offset,
            )
        window = _window(segment, headers)
        replica = Replica(
            epoch=metadata.epoch,
            end_offset=segment.end_offset,
            promised_epoch=segment.promised_epoch,
            is_sealed=segment.sealed,
            unknown=self._doubt(metadata),
        )
        copy = self._copies.add(log, topic.topic_id, segment, window, replica)
        copy.head = segment.head() or b""

    def _may_lack_some(self, metadata: SegmentMetadata) -> bool:
        """It cannot vouch for its length, or another node holds all of it."""
        others = [node for node, _ in metadata.holders if node != self._node]
        return _is_last_resort(metadata) or bool(self._doubt(metadata) or others)

    def _doubt(self, metadata: SegmentMetadata) -> str:
        """Why this copy cannot vouch for its length; empty when it can."""
        if _is_last_resort(metadata):
            return ""
        if any(node == self._node for node, _ in metadata.void):
            return "this disk was replaced, or may have lost writes"
        return ""


def _window(segment: Segment, headers: list[BatchHeader]) -> ProducerState | None:
    """None while the segment's head, and with it what came before, has not been received."""
    stored = segment.head()
    if not stored and not headers and segment.base_offset > 0:
        return None
    window = ProducerState()
    if stored:
        window = ProducerState.restore(segment_header.decode(stored).producers)
    for header in headers:
        window.update(header)
    return window


def _is_last_resort(segment: SegmentMetadata) -> bool:
    """The only copy there is, on a disk that may have lost writes: better a prefix than nothing."""
    return bool(segment.void) and len(segment.replicas) == 1


def _is_tail(topic: Topic, segment: SegmentMetadata) -> bool:
    """Is this the last segment that can hold records? The idempotence window is rebuilt from it."""
    return segment in topic.segments[-2:]
