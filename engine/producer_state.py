"""The idempotence window: who produced what last, so that a repeat is recognised (pure).

Rules, those of Kafka (KIP-98, `ProducerStateEntry`):
  * Per producer id, the last five batches of its current epoch are remembered.
  * A batch in the window again is a duplicate; the answer is the original's offsets, not an error.
  * One below a window that is full is an old duplicate. One that skips sequences is a gap, and so
    is one from before all that the producer ever brought: clients take an old duplicate for stored.
  * A new epoch starts at sequence 0; an older epoch is fenced. Sequences wrap from 2^31-1 to 0.
  * A producer id never seen (or expired) may start with any sequence.
  * Producer id -1 has no window. Control batches carry an epoch but no sequence.
"""

import struct
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

from crc32c import crc32c

from engine.batch import SEQUENCE_MAX, BatchHeader
from engine.errors import SnapshotError as SnapshotError

WINDOW_BATCH_COUNT = 5
EXPIRY_AGE_MS_MIN = 24 * 60 * 60 * 1000
"""Producers that fall silent for less than a day must not be forgotten: they would be answered a
gap."""
PRODUCER_COUNT_MAX = 10_000
"""Per topic. Beyond it the one silent for longest is forgotten (Kafka has no limit but time)."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """Append it."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """It is in the log already, at these offsets."""

    base_offset: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class OldDuplicate:
    """It was appended once; where is no longer known."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Its base sequence is not `expected`."""

    expected: int


@dataclass(frozen=True, slots=True)
class Fenced:
    """Its producer epoch is older than `current_epoch`."""

    current_epoch: int


Verdict: TypeAlias = Fresh | Duplicate | OldDuplicate | Gap | Fenced

_FRESH = Fresh()


class _Batch(NamedTuple):
    first_sequence: int
    last_sequence: int
    base_offset: int
    end_offset: int


class _Producer(NamedTuple):
    epoch: int
    last_timestamp: int
    batches: tuple[_Batch, ...]
    """Oldest first; at most WINDOW_BATCH_COUNT."""


_batch = partial(tuple.__new__, _Batch)
_producer = partial(tuple.__new__, _Producer)
"""From all fields, at every append."""


class ProducerState:
    """The windows of all producers of one topic, ordered by their last append."""

    def __init__(self, *, producer_count_max: int = PRODUCER_COUNT_MAX) -> None:
        self._producers: dict[int, _Producer] = {}
        self._count_max = producer_count_max

    def __len__(self) -> int:
        return len(self._producers)

    def check(self, header: BatchHeader) -> Verdict:
        """What a batch with this header is, given all that was updated before. Changes nothing."""
        if header.producer_id < 0 or (producer := self._producers.get(header.producer_id)) is None:
            return _FRESH
        if header.producer_epoch < producer.epoch:
            return Fenced(producer.epoch)
        if _is_next(producer, header) or header.is_control:
            return _FRESH
        if header.producer_epoch > producer.epoch:
            return _FRESH if header.base_sequence == 0 else Gap(0)
        if not producer.batches:
            return _FRESH
        return _check_sequence(producer.batches, header.base_sequence, header.last_sequence)

    def update(self, header: BatchHeader) -> None:
        """Remember an appended batch; `header` has its final base offset."""
        producer_id, epoch = header.producer_id, header.producer_epoch
        if producer_id < 0:
            return
        timestamp = header.max_timestamp
        kept: tuple[_Batch, ...] = ()
        previous = self._producers.pop(producer_id, None)
        if previous is not None:
            if previous.epoch == epoch:
                kept = previous.batches
            timestamp = max(timestamp, previous.last_timestamp)
        if not header.is_control:
            batch = _batch(
                (header.base_sequence, header.last_sequence, header.base_offset, header.next_offset)
            )
            kept = (*kept, batch)[-WINDOW_BATCH_COUNT:]
        self._producers[producer_id] = _producer((epoch, timestamp, kept))
        if len(self._producers) > self._count_max:
            del self._producers[next(iter(self._producers))]

    def expire(self, now_ms: int, age_ms: int) -> int:
        """Forget producers whose last batch is more than `age_ms` older than `now_ms`; how many.

        Raises ValueError below 24 hours.
        """
        if age_ms < EXPIRY_AGE_MS_MIN:
            raise ValueError(f"producers are remembered for {EXPIRY_AGE_MS_MIN} ms at least")
        expired = [i for i, p in self._producers.items() if p.last_timestamp < now_ms - age_ms]
        for producer_id in expired:
            del self._producers[producer_id]
        return len(expired)

    def snapshot(self) -> bytes:
        """All windows, to be put in the head of the next segment."""
        out = bytearray(_SNAPSHOT.pack(_SNAPSHOT_MAGIC, SNAPSHOT_VERSION, len(self._producers)))
        for producer_id, (epoch, timestamp, batches) in self._producers.items():
            out += _PRODUCER.pack(producer_id, epoch, timestamp, len(batches))
            for batch in batches:
                out += _BATCH.pack(*batch)
        return bytes(out) + crc32c(out).to_bytes(4)

    @classmethod
    def restore(
        cls, data: bytes, *, producer_count_max: int = PRODUCER_COUNT_MAX
    ) -> "ProducerState":
        """The inverse of `snapshot`. Raises SnapshotError for damage or an unknown version."""
        if len(data) < _SNAPSHOT.size + 4 or crc32c(data[:-4]) != int.from_bytes(data[-4:]):
            raise SnapshotError("a producer snapshot fails its checksum")
        magic, version, count = _SNAPSHOT.unpack_from(data)
        if magic != _SNAPSHOT_MAGIC or version != SNAPSHOT_VERSION:
            raise SnapshotError(f"a producer snapshot of version {version}, not {SNAPSHOT_VERSION}")
        state = cls(producer_count_max=producer_count_max)
        position = _SNAPSHOT.size
        for _ in range(count):
            producer_id, epoch, timestamp, batch_count = _PRODUCER.unpack_from(data, position)
            position += _PRODUCER.size
            stop = position + batch_count * _BATCH.size
            batches = tuple(_Batch(*fields) for fields in _BATCH.iter_unpack(data[position:stop]))
            state._producers[producer_id] = _Producer(epoch, timestamp, batches)
            position = stop
        return state


def _is_next(producer: _Producer, header: BatchHeader) -> bool:
    """What most batches are."""
    batches = producer.batches
    if not batches or header.producer_epoch != producer.epoch:
        return False
    return header.base_sequence == (batches[-1].last_sequence + 1) & SEQUENCE_MAX


def _check_sequence(batches: tuple[_Batch, ...], first: int, last: int) -> Verdict:
    """Same epoch, not empty: next in line, a repeat, or neither."""
    expected = (batches[-1].last_sequence + 1) & SEQUENCE_MAX
    if first == expected:
        return _FRESH
    for batch in batches:
        if (batch.first_sequence, batch.last_sequence) == (first, last):
            return Duplicate(batch.base_offset, batch.end_offset)
    # "Older" is a question of distance on a circle of 2^31 sequences: less than half of it behind
    # us.
    newest = batches[-1].last_sequence
    is_older = first >= 0 and (newest - last) & SEQUENCE_MAX < 2**30
    is_complete = len(batches) < WINDOW_BATCH_COUNT
    is_before_all = (newest - first) & SEQUENCE_MAX > (
        (newest - batches[0].first_sequence) & SEQUENCE_MAX
    )
    return OldDuplicate() if is_older and not (is_complete and is_before_all) else Gap(expected)


SNAPSHOT_VERSION = 1
_SNAPSHOT_MAGIC = b"WPRD"
_SNAPSHOT = struct.Struct(">4sHI")
_PRODUCER = struct.Struct(">qhqB")
_BATCH = struct.Struct(">iiqq")
