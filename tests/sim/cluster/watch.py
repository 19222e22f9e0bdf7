"""The invariants of the specification, asserted on the nodes at every step they take.

The steps are the product's own: whatever changes a variable of `spec/Replication.tla` is wrapped
while a run lasts, and what must hold of that variable is looked at when the step is done. What is
durable is read off the disks; what was promised, acknowledged and chosen is remembered here and
never asked of the code that is watched. `spec/README.md` has the table of the variables.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol
from unittest.mock import patch
from weakref import WeakKeyDictionary

from broker.controller.bucket import Bucket
from broker.replication import messages
from broker.replication.copies import LocalCopy
from broker.replication.quorum import ack_quorum, seal_quorum
from broker.replication.repair import CatchUp
from broker.replication.replica import Definite, Refused, SealAnswer
from broker.replication.writer import Writer
from engine.batch import BatchHeader
from engine.format import parse_topic_directory
from raft import machine as raft_machine
from raft.commands import Applied, Envelope
from raft.invariants import InvariantViolated, check_invariants
from raft.state import EMPTY, ClusterState, Segment, SegmentState, Topic
from tests.sim.cluster.durable import DurableDisks
from tests.sim.cluster.node import LIFE, Machine, Process

Key = tuple[bytes, int]
"""Topic id and segment id."""


class Watched(Protocol):
    """What is looked at."""

    machines: dict[int, Machine]

    def violated(self, what: str) -> None: ...


class Watch:
    """One run's; `looking` while it lasts."""

    def __init__(self, world: Watched) -> None:
        self._world = world
        self._disks = DurableDisks(world.machines)
        self.state: ClusterState = EMPTY
        """`meta`, `registered`, `void`: after the newest command that anybody applied."""
        self._topics: dict[bytes, Topic] = {}
        """As last known, deleted ones too."""
        self._segments: dict[Key, Segment] = {}
        """As opened or sealed last, deleted ones too."""
        self._ends: dict[Key, int] = {}
        """Of segments that have ended; a replaced one ended at its base."""
        self._records: dict[Key, dict[int, tuple[int, int]]] = {}
        """`frames`: what any copy ever held, base offset → (next offset, CRC)."""
        self._acked: dict[Key, int] = {}
        """`acked`: the highest mark below which anybody called records committed."""
        self._promised: dict[tuple[bytes, Key], int] = {}
        """`promise`: (disk, segment) → the highest epoch in whose name an answer left."""
        self._chosen: dict[tuple[Key, int], int] = {}
        """`attempt`: (segment, seal epoch) → the end that its recoverer has chosen."""
        self._answers: dict[tuple[Key, int], dict[int, int]] = {}
        """`answers`: (segment, seal epoch) → node → the end that it vouched for."""
        self._disks_at_first: dict[Key, dict[int, bytes]] = {}
        """`void`, the other way round: the disks that were there when the segment was opened."""
        self._authors: dict[Key, Process] = {}
        self._durable: dict[tuple[bytes, Key], int] = {}
        """`durable`, at the last look."""
        self._writers: WeakKeyDictionary[Writer, Key] = WeakKeyDictionary()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Wrap the steps of the product."""
        steps: tuple[tuple[Any, str, Callable[[Any], Any]], ...] = (
            (raft_machine, "apply", self._watch_apply),
            (Bucket, "__init__", self._watch_bucket),
            (Bucket, "append", self._watch_writer),
            (Bucket, "progress", self._watch_marks),
            (Writer, "on_durable", self._watch_told),
            (LocalCopy, "append", self._watch_append),
            (LocalCopy, "repair", self._watch_repair),
            (LocalCopy, "answer_seal", self._watch_promise),
            (CatchUp, "copy", self._watch_chosen),
        )
        with ExitStack() as stack:
            for target, name, wrap in steps:
                stack.enter_context(patch.object(target, name, wrap(getattr(target, name))))
            yield

    def disks_at_first(self, topic_id: bytes, sid: int) -> dict[int, bytes]:
        """Of the replicas, when the segment was opened."""
        return self._disks_at_first.get((topic_id, sid), {})

    # ---- the metadata ----------------------------------------------------------------------------

    def _watch_apply(self, apply: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(
            state: ClusterState, index: int, envelope: Envelope
        ) -> tuple[ClusterState, Applied]:
            after, answer = apply(state, index, envelope)
            if after.revision > self.state.revision:
                before, self.state = self.state, after
                self._applied(before, after)
            return after, answer

        return wrapped

    def _applied(self, before: ClusterState, after: ClusterState) -> None:
        """DomainConsistency, OnlyLastIsOpen, Contiguous, SealedCountsStable, and those below."""
        try:
            check_invariants(after, before if before.revision else None)
        except InvariantViolated as error:
            self._violated(f"metadata: {error}")
        for topic_id, topic in after.topics.items():
            old = before.topics.get(topic_id)
            if topic is not old:
                self._topics[topic_id] = topic
                self._changed(old, topic)

    def _changed(self, old: Topic | None, topic: Topic) -> None:
        for segment in topic.segments:
            self._segments[topic.topic_id, segment.sid] = segment
        if old is None or old.last.sid != topic.last.sid:
            self._opened(topic)
        if old is not None and old.last.sid != topic.last.sid:
            self._ended(old.last, topic)

    def _opened(self, topic: Topic) -> None:
        """OpenedForRegistered."""
        last = topic.last
        broker = self.state.brokers.get(last.writer)
        if broker is None or broker.incarnation != last.writer_incarnation:
            self._violated(f"{_at(topic, last.sid)} was opened for a process that is not there")
        brokers = self.state.brokers
        self._disks_at_first[topic.topic_id, last.sid] = {
            node: brokers[node].disk for node in last.replicas if node in brokers
        }

    def _ended(self, was: Segment, topic: Topic) -> None:
        """ExactSeal, NoAckBeyondSeal, SealedInTurn, SealedIsDurable."""
        key = (topic.topic_id, was.sid)
        segment = topic.segment(was.sid)
        end = self._ends[key] = was.base_offset if segment is None else segment.end_offset
        at = f"{_at(topic, was.sid)} ended at {end}"
        if self._acked.get(key, 0) > end:
            self._violated(f"{at}, was acknowledged to {self._acked[key]}")
        if was.state is SegmentState.SEALING:
            self._check_chosen(key, was, end, at)
        if segment is None:
            return
        if end not in {next_offset for next_offset, _ in self._records.get(key, {}).values()}:
            self._violated(f"{at}, where nobody ever wrote")
        self._check_holders(topic, segment, at)

    def _check_holders(self, topic: Topic, segment: Segment, at: str) -> None:
        """Who is named with a disk that is gone by now said the truth: the loss came after it."""
        machines = self._world.machines
        there = [node for node, disk in segment.holders if machines[node].disk_id == disk]
        quorum = _majority(segment) - (len(segment.holders) - len(there))
        what = f"{at} with holders {there}"
        self._check_safe(topic, segment, there, segment.end_offset, what, quorum=quorum)

    def _check_chosen(self, key: Key, was: Segment, end: int, at: str) -> None:
        """The longest of enough answers to this very attempt."""
        answers = self._answers.get((key, was.seal_epoch), {})
        chosen = self._chosen.get((key, was.seal_epoch), end)
        count = sum(answer <= end for answer in answers.values())
        if chosen != end or end not in answers.values() or count < seal_quorum(len(was.replicas)):
            self._violated(f"{at} by seal {was.seal_epoch}, to which the answers were {answers}")

    # ---- what is appended ------------------------------------------------------------------------

    def _watch_bucket(self, init: Callable[..., None]) -> Callable[..., None]:
        def wrapped(bucket: Bucket, **options: Any) -> None:
            lease = options["lease"]
            self._writers[options["writer"]] = (lease.topic_id, lease.sid)
            init(bucket, **options)

        return wrapped

    def _watch_writer(self, append: Callable[..., Any]) -> Callable[..., Any]:
        """SingleWriter."""

        def wrapped(bucket: Bucket, *args: Any, **options: Any) -> Any:
            key = self._writers[bucket.writer]
            segment, process = self._segments.get(key), _process()
            appended = append(bucket, *args, **options)
            if process is not None and segment is not None and not appended.is_duplicate:
                me = (process.node, process.controller.incarnation)
                named = (segment.writer, segment.writer_incarnation)
                if me != named or self._authors.setdefault(key, process) is not process:
                    self._violated(f"{self._name(key)} is written by {me}, belongs to {named}")
            return appended

        return wrapped

    def _watch_append(self, append: Callable[..., None]) -> Callable[..., None]:
        """PromisesHonoured."""

        def wrapped(copy: LocalCopy, placed: BatchHeader, buffers: Any) -> None:
            append(copy, placed, buffers)
            key, process = _key(copy), _process()
            if process is None:
                return
            self._check_record(key, placed)
            promised = self._promised.get((process.machine.disk_id, key), 0)
            if promised:
                self._violated(
                    f"node {process.node} took {placed.base_offset} of {self._name(key)} after its"
                    f" promise to {promised}"
                )

        return wrapped

    def _watch_repair(self, repair: Callable[..., None]) -> Callable[..., None]:
        """PromisesHonoured: only to an end that metadata has fixed, or that the attempt has chosen
        to which this copy is promised."""

        def wrapped(copy: LocalCopy, placed: BatchHeader, batch: Any) -> None:
            repair(copy, placed, batch)
            key, process = _key(copy), _process()
            if process is None:
                return
            self._check_record(key, placed)
            promised = self._promised.get((process.machine.disk_id, key), 0)
            limit = max(self._ends.get(key, -1), self._chosen.get((key, promised), -1))
            if placed.next_offset > limit:
                self._violated(
                    f"node {process.node}, promised to {promised}, was repaired to"
                    f" {placed.next_offset} of {self._name(key)}, beyond {limit}"
                )

        return wrapped

    def _check_record(self, key: Key, placed: BatchHeader) -> None:
        """CopiesAgree, OneRecordPerOffset."""
        record = (placed.next_offset, placed.crc)
        known = self._records.setdefault(key, {}).setdefault(placed.base_offset, record)
        if known != record:
            self._violated(f"{self._name(key)} has two records at {placed.base_offset}")

    # ---- what is told, committed, served ---------------------------------------------------------

    def _watch_told(self, on_durable: Callable[..., bool]) -> Callable[..., bool]:
        """`told`: durable first, then told."""

        def wrapped(writer: Writer, replica: int, end_offset: int) -> bool:
            key = self._writers.get(writer)
            if key is not None and key not in self._ends and self._is_kept(key):
                topic, segment = self._topics[key[0]], self._segments[key]
                disk = self._world.machines[replica].disk_id
                durable = self._durable_end(replica, topic, segment)
                if writer.disks.get(replica) == disk and end_offset > durable:
                    self._violated(
                        f"node {replica} told that {self._name(key)} is durable to {end_offset},"
                        f" it is to {durable}"
                    )
            return on_durable(writer, replica, end_offset)

        return wrapped

    def _watch_marks(self, progress: Callable[[Bucket], None]) -> Callable[[Bucket], None]:
        """AcknowledgedIsDurable, NoAckBeyondSeal."""

        def wrapped(bucket: Bucket) -> None:
            key, mark = self._writers[bucket.writer], bucket.writer.high_watermark
            if _process() is not None and mark > self._acked.get(key, 0) and self._is_known(key):
                self._acked[key] = mark
                self._check_acked(key, mark, bucket.writer)
            progress(bucket)

        return wrapped

    def _check_acked(self, key: Key, mark: int, writer: Writer) -> None:
        what = f"{self._name(key)} is committed to {mark}"
        if key in self._ends:
            if mark > self._ends[key]:
                self._violated(f"{what}, ended at {self._ends[key]}")
            return
        if mark > writer.next_offset:
            self._violated(f"{what}, was written to {writer.next_offset}")
        topic, segment = self._topics[key[0]], self._segments[key]
        # What a disk acknowledged before it was lost may count: it was true.
        lost = [
            node
            for node, disk in self.disks_at_first(*key).items()
            if self._world.machines[node].disk_id != disk
        ]
        quorum = _majority(segment) - len(lost)
        self._check_safe(topic, segment, segment.replicas, mark, what, quorum=quorum)

    def _check_safe(
        self,
        topic: Topic,
        segment: Segment,
        nodes: Any,
        end_offset: int,
        what: str,
        *,
        quorum: int,
    ) -> None:
        """Enough of `nodes` would still have it all after a power cut."""
        ends = {node: self._durable_end(node, topic, segment) for node in nodes}
        if sum(end >= end_offset for end in ends.values()) < quorum:
            self._violated(f"{what}, and is durable to {ends}")

    def committed(self, topic_id: bytes, end_offset: int, what: str) -> None:
        """Everything below `end_offset` was acknowledged or served: it must be committed, by what
        was seen here (ReadCursorWithinBounds)."""
        topic = self._topics[topic_id]
        last = topic.last
        limit = max(last.base_offset, self._acked.get((topic_id, last.sid), 0))
        if end_offset > limit:
            self._violated(f"{what} {topic.name} to {end_offset}, it is committed to {limit}")

    # ---- what is promised and chosen -------------------------------------------------------------

    def _watch_promise(self, answer_seal: Callable[..., Any]) -> Callable[..., Any]:
        """PromisesKept; an answer is durable, and nobody vouches for a lost disk."""

        async def wrapped(copy: LocalCopy, seal_epoch: int) -> SealAnswer:
            answer: SealAnswer = await answer_seal(copy, seal_epoch)
            process = _process()
            if process is not None and not isinstance(answer, Refused):
                self._answered(process, _key(copy), seal_epoch, answer)
            return answer

        return wrapped

    def _answered(self, process: Process, key: Key, seal_epoch: int, answer: SealAnswer) -> None:
        topic, segment = self._topics[key[0]], self._segments[key]
        node, disk = process.node, process.machine.disk_id
        who = f"node {node} answered {answer} to the seal {seal_epoch} of {self._name(key)}"
        if seal_epoch < self._promised.get((disk, key), 0):
            self._violated(f"{who} after its promise to {self._promised[disk, key]}")
        self._promised[disk, key] = max(seal_epoch, self._promised.get((disk, key), 0))
        if key in self._ends:
            return
        if self._disks.promised_epoch(node, topic, key[1]) < seal_epoch:
            self._violated(f"{who}, and would have forgotten it")
        if isinstance(answer, Definite):
            durable = self._durable_end(node, topic, segment)
            if answer.end.end_offset > durable:
                self._violated(f"{who}, and is durable to {durable}")
            if node not in segment.replicas:
                return  # It helps to hold what was chosen, and has no say in it.
            if self._disks_at_first[key].get(node) != disk:
                self._violated(f"{who}, though its disk was replaced")
            else:
                answers = self._answers.setdefault((key, seal_epoch), {})
                answers.setdefault(node, answer.end.end_offset)

    def _watch_chosen(self, copy: Callable[..., Any]) -> Callable[..., Any]:
        """An attempt chooses one end, and that covers what is acknowledged."""

        async def wrapped(catch_up: CatchUp, ask: messages.CopyAsk) -> int:
            key = (ask.topic_id, ask.sid)
            end = self._chosen.setdefault((key, ask.seal_epoch), ask.end_offset)
            if end != ask.end_offset:
                self._violated(f"{self._name(key)} has two ends at {ask.seal_epoch}")
            if key not in self._ends and ask.end_offset < self._acked.get(key, 0):
                self._violated(
                    f"{self._name(key)} is to end at {ask.end_offset}, is acknowledged to"
                    f" {self._acked[key]}"
                )
            end_offset: int = await copy(catch_up, ask)
            return end_offset

        return wrapped

    # ---- looking ---------------------------------------------------------------------------------

    def _durable_end(self, node: int, topic: Topic, segment: Segment) -> int:
        """TruncatedOnlyToCommitted."""
        key = (topic.topic_id, segment.sid)
        disk = self._world.machines[node].disk_id
        end = self._disks.end_offset(node, topic, segment)
        before = self._durable.get((disk, key), end)
        self._durable[disk, key] = end
        if end < min(before, self._ends.get(key, before)) and self._is_kept(key):
            self._violated(f"node {node} cut {self._name(key)} from {before} to {end}")
        return end

    def _is_known(self, key: Key) -> bool:
        return key[0] in self.state.topics and key in self._segments

    def _is_kept(self, key: Key) -> bool:
        topic = self.state.topics.get(key[0])
        return topic is not None and key[1] in {segment.sid for segment in topic.kept}

    def _name(self, key: Key) -> str:
        return _at(self._topics[key[0]], key[1])

    def _violated(self, what: str) -> None:
        self._world.violated(what)


def _process() -> Process | None:
    """Who takes this step; None for what a dead process still does, which reaches nothing."""
    process = LIFE.get()
    return process if process is not None and process.is_alive else None


def _majority(segment: Segment) -> int:
    return ack_quorum(len(segment.replicas))


def _at(topic: Topic, sid: int) -> str:
    return f"{topic.name} segment {sid}"


def _key(copy: LocalCopy) -> Key:
    parsed = parse_topic_directory(copy.log.directory.name)
    assert parsed is not None
    return parsed[1], copy.segment.sid
