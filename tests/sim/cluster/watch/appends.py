"""The data: from a copy that is read back, or opened, to the mark below which it is served."""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from broker.controller.bucket import Bucket
from broker.controller.read_back import ReadBack
from broker.replication.copies import Copies, LocalCopy
from broker.replication.writer import Writer
from engine.batch import BatchHeader, Offset, Placed
from raft.state import Segment, Topic
from tests.sim.cluster.model import Key
from tests.sim.cluster.watch.facts import Facts, Steps, actor, key_of, majority


class Appends:
    """Of all copies."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._model = facts.model
        self._violated = facts.violated
        self._writers: WeakKeyDictionary[Writer, Key] = WeakKeyDictionary()

    def steps(self) -> Steps:
        return (
            (ReadBack, "segment", self._watch_read_back),
            (Copies, "open", self._watch_open),
            (Bucket, "__init__", self._watch_bucket),
            (LocalCopy, "append", self._watch_append),
            (LocalCopy, "repair", self._watch_repair),
            (Writer, "on_durable", self._watch_told),
            (Bucket, "progress", self._watch_marks),
        )

    # ---- what is read back and appended ----------------------------------------------------------

    def _watch_read_back(self, read_back: Callable[..., None]) -> Callable[..., None]:
        """`Restart`, for one copy."""

        def wrapped(reader: ReadBack, topic: Topic, metadata: Segment) -> None:
            read_back(reader, topic, metadata)
            key, process = (topic.topic_id, metadata.sid), actor()
            copy = reader._copies.get(*key)
            if process is not None and copy is not None and self._facts.is_kept(key):
                with self._facts.step(key):
                    end = copy.segment.end_offset
                    self._model.restart(process.node, process.machine.disk_id, key, end)

        return wrapped

    def _watch_open(self, open_copy: Callable[..., LocalCopy]) -> Callable[..., LocalCopy]:
        """A copy that holds nothing yet."""

        def wrapped(copies: Copies, log: Any, topic_id: bytes, **options: Any) -> LocalCopy:
            process, key = actor(), (topic_id, options["sid"])
            if process is not None:
                self._model.log[process.machine.disk_id, key] = options["base_offset"]
            return open_copy(copies, log, topic_id, **options)

        return wrapped

    def _watch_bucket(self, init: Callable[..., None]) -> Callable[..., None]:
        """`BecomeWriter`."""

        def wrapped(bucket: Bucket, **options: Any) -> None:
            lease = options["lease"]
            key = self._writers[options["writer"]] = (lease.topic_id, lease.sid)
            process = actor()
            if process is not None:
                with self._facts.step(key):
                    me = (process.node, process.broker.incarnation)
                    self._model.become_writer(process, me, key)
            init(bucket, **options)

        return wrapped

    def _watch_append(self, append: Callable[..., Offset]) -> Callable[..., Offset]:
        """`Append1` and `Receive`."""

        def wrapped(copy: LocalCopy, batches: Sequence[Placed]) -> Offset:
            end_offset = append(copy, batches)
            key, process, model = key_of(copy), actor(), self._model
            if process is None:
                return end_offset
            disk = process.machine.disk_id
            for placed, _ in batches:
                with self._facts.step(key):
                    if process.node == model.segments[key].writer:
                        model.append(process, disk, key, placed)
                    else:
                        model.receive(disk, key, placed)
            return end_offset

        return wrapped

    def _watch_repair(self, repair: Callable[..., None]) -> Callable[..., None]:
        """`Repair` and `FetchSealed`."""

        def wrapped(copy: LocalCopy, placed: BatchHeader, batch: Any) -> None:
            repair(copy, placed, batch)
            key, process = key_of(copy), actor()
            if process is not None:
                with self._facts.step(key):
                    self._model.repair(process.machine.disk_id, key, placed)

        return wrapped

    # ---- what is told, committed, served ---------------------------------------------------------

    def _watch_told(self, on_durable: Callable[..., bool]) -> Callable[..., bool]:
        """`Sync`: durable first, then told."""

        def wrapped(writer: Writer, replica: int, end_offset: int) -> bool:
            key = self._writers.get(writer)
            if actor() is not None and key is not None:
                disk = self._facts.disk(replica)
                is_there = writer.disks.get(replica) == disk
                # What was said before its disk was damaged may be heard after it.
                is_there = is_there and (disk, key) not in self._facts.harmed
                if key not in self._model.ends and is_there and self._facts.is_kept(key):
                    with self._facts.step(key):
                        self._model.sync(replica, disk, key, end_offset)
                self._model.hear(replica, key, end_offset)
            return on_durable(writer, replica, end_offset)

        return wrapped

    def _watch_marks(self, progress: Callable[[Bucket], None]) -> Callable[[Bucket], None]:
        """`AdvanceHighWatermark`; AcknowledgedIsDurable, NoAckBeyondSeal."""

        def wrapped(bucket: Bucket) -> None:
            key, mark = self._writers[bucket.writer], bucket.writer.high_watermark
            acked = self._model.acked.get(key, 0)
            if actor() is not None and mark > acked and self._facts.is_known(key):
                self._check_acked(key, mark)
                with self._facts.step(key):
                    self._model.advance_high_watermark(key, mark, bucket.writer.next_offset)
            progress(bucket)

        return wrapped

    def _check_acked(self, key: Key, mark: int) -> None:
        """Enough of the replicas would still have it all after a power cut."""
        what, ends = f"{self._facts.name(key)} is committed to {mark}", self._model.ends
        if key in ends:
            if mark > ends[key]:
                self._violated(f"{what}, ended at {ends[key]}")
            return
        # What a disk acknowledged before it was lost, or damaged, may count: it was true.
        lost = [
            node
            for node, disk in self._facts.disks_at_first.get(key, {}).items()
            if self._facts.disk(node) != disk or (disk, key) in self._facts.harmed
        ]
        segment = self._model.segments[key]
        durable = {node: self._facts.durable_end(node, key) for node in segment.replicas}
        if sum(end >= mark for end in durable.values()) < majority(segment) - len(lost):
            self._violated(f"{what}, and is durable to {durable}")

    def check_committed(self, topic_id: bytes, end_offset: int, what: str) -> None:
        """ReadCursorWithinBounds; what a producer is answered as well."""
        topic = self._facts.topics[topic_id]
        last = topic.last
        limit = max(last.base_offset, self._model.acked.get((topic_id, last.sid), 0))
        if end_offset > limit:
            self._violated(f"{what} {topic.name} to {end_offset}, it is committed to {limit}")
