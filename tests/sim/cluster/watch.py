"""Is every step that a node takes one that the specification allows, and do its invariants hold?

The steps are the product's own: whatever changes a variable of `spec/Replication.tla` is wrapped
while a run lasts. When it is done, `model.py` is asked whether an action of the specification does
the same, and what must hold of the variable is looked at. What is durable is read off the disks;
what was promised, acknowledged and chosen is remembered and never asked of the code that is
watched. `spec/README.md` has the tables of the variables and of the actions.
"""

from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol
from unittest.mock import patch
from weakref import WeakKeyDictionary

from broker.controller.bucket import Bucket
from broker.controller.metadata import Metadata
from broker.controller.read_back import ReadBack
from broker.replication import messages
from broker.replication.copies import Copies, LocalCopy
from broker.replication.quorum import ack_quorum
from broker.replication.repair import CatchUp
from broker.replication.replica import Definite, Refused, SealAnswer
from broker.replication.writer import Writer
from engine.batch import BatchHeader, Offset
from engine.format import parse_topic_directory
from raft import machine as raft_machine
from raft.commands import AnyCommand, Applied, CommitRoll, Envelope
from raft.invariants import InvariantViolated, check_invariants
from raft.state import EMPTY, ClusterState, Segment, SegmentState, Topic
from tests.sim.cluster.durable import DurableDisks
from tests.sim.cluster.model import Key, Model, NotAllowed
from tests.sim.cluster.node import LIFE, Machine, Process

Holders = tuple[tuple[int, bytes], ...]
"""Nodes and their disks."""


class Watched(Protocol):
    """What is looked at."""

    machines: dict[int, Machine]

    def violated(self, what: str) -> None: ...


class Losing(Protocol):
    """See `losses.Losses`."""

    def given_up(self, key: Key) -> Iterator[bytes]: ...
    def ended(self, key: Key, end_offset: int) -> None: ...


class Watch:
    """One run's; `looking` while it lasts."""

    def __init__(self, world: Watched) -> None:
        self._world = world
        self._disks = DurableDisks(world.machines)
        self.state: ClusterState = EMPTY
        """`meta`, `registered`: after the newest command that anybody applied."""
        self._model = Model(self._durable_end)
        self._topics: dict[bytes, Topic] = {}
        """As last known, deleted ones too."""
        self._disks_at_first: dict[Key, dict[int, bytes]] = {}
        """Those that were there when the segment was opened."""
        self._possible: dict[bytes, int] = {}
        """Topic id → how many replicas its last segment could have had when it was opened."""
        self._durable: dict[tuple[bytes, Key], int] = {}
        """`durable`, at the last look."""
        self.harmed: Container[tuple[bytes, Key]] = ()
        """(disk, segment) of copies that were damaged: no step of anybody's."""
        self.losses: Losing
        self._writers: WeakKeyDictionary[Writer, Key] = WeakKeyDictionary()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Wrap the steps of the product."""
        steps: tuple[tuple[Any, str, Callable[[Any], Any]], ...] = (
            (raft_machine, "apply", self._watch_apply),
            (ReadBack, "segment", self._watch_read_back),
            (Copies, "open", self._watch_open),
            (Bucket, "__init__", self._watch_bucket),
            (Bucket, "progress", self._watch_marks),
            (Writer, "on_durable", self._watch_told),
            (Metadata, "propose", self._watch_proposals),
            (LocalCopy, "append", self._watch_append),
            (LocalCopy, "repair", self._watch_repair),
            (LocalCopy, "answer_seal", self._watch_promise),
            (CatchUp, "copy", self._watch_chosen),
            (LocalCopy, "sealed", self._watch_closed),
        )
        with ExitStack() as stack:
            for target, name, wrap in steps:
                stack.enter_context(patch.object(target, name, wrap(getattr(target, name))))
            yield

    def disks_at_first(self, topic_id: bytes, sid: int) -> dict[int, bytes]:
        """Of the replicas, when the segment was opened."""
        return self._disks_at_first.get((topic_id, sid), {})

    def is_rolling(self, key: Key) -> bool:
        """May a roll still close it?"""
        return bool(self._model.rolls.get(key))

    @contextmanager
    def _step(self, key: Key) -> Iterator[None]:
        """What the model is asked in here was done; it says if that is no step."""
        try:
            yield
        except NotAllowed as error:
            process = _process()
            who = "somebody" if process is None else f"node {process.node}"
            self._violated(f"{self._name(key)}: {who} took no step of the specification: {error}")

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
        self._note_new_disks(before, after)
        for topic_id, topic in after.topics.items():
            old = before.topics.get(topic_id)
            if topic is not old:
                self._topics[topic_id] = topic
                self._changed(old, topic)

    def _note_new_disks(self, before: ClusterState, after: ClusterState) -> None:
        """`Restart` with a new disk: it is `void` for the segments that have not ended."""
        for node, broker in after.brokers.items():
            old = before.brokers.get(node)
            if old is not None and old.disk != broker.disk:
                for topic_id, topic in after.topics.items():
                    if node in topic.last.replicas:
                        self._model.void[broker.disk, (topic_id, topic.last.sid)] = topic.epoch

    def _changed(self, old: Topic | None, topic: Topic) -> None:
        last = topic.last
        for segment in topic.segments:
            before = self._model.segments.get((topic.topic_id, segment.sid))
            self._model.segments[topic.topic_id, segment.sid] = segment
            if segment is not before and not topic.is_emptied(segment):
                self._check_holders(topic, segment, () if before is None else before.holders)
        if old is None or old.last.sid != last.sid:
            self._opened(topic)
        if old is not None and old.last.sid != last.sid:
            self._ended(old.last, topic)
        if last.state is SegmentState.SEALING:
            key = (topic.topic_id, last.sid)
            with self._step(key):
                self._model.begin_seal(key, last.seal_epoch, last.recoverer)

    def _opened(self, topic: Topic) -> None:
        """OpenedForRegistered."""
        last = topic.last
        broker = self.state.brokers.get(last.writer)
        if broker is None or broker.incarnation != last.writer_incarnation:
            self._violated(f"{_at(topic, last.sid)} was opened for a process that is not there")
        brokers = self.state.brokers
        possible = min(topic.replication_factor, sum(not each.leaving for each in brokers.values()))
        # Who proposed it may not have known yet of a node that has just joined.
        known = min(possible, self._possible.get(topic.topic_id, 1))
        self._possible[topic.topic_id] = possible
        if len(last.replicas) < known // 2 + 1:
            self._violated(f"{_at(topic, last.sid)} was opened on {last.replicas} alone")
        self._disks_at_first[topic.topic_id, last.sid] = {
            node: brokers[node].disk for node in last.replicas if node in brokers
        }

    def _ended(self, was: Segment, topic: Topic) -> None:
        """`ApplyRoll`, `CommitSeal`; ExactSeal, NoAckBeyondSeal, SealedInTurn, SealedIsDurable."""
        key, model = (topic.topic_id, was.sid), self._model
        segment = topic.segment(was.sid)
        end = was.base_offset if segment is None else segment.end_offset
        at = f"{_at(topic, was.sid)} ended at {end}"
        if was.accepts_loss:
            self._check_loss(key, end, at)
            self.losses.ended(key, end)
        elif model.acked.get(key, 0) > end:
            self._violated(f"{at}, was acknowledged to {model.acked[key]}")
        with self._step(key):
            if was.state is SegmentState.SEALING:
                holders = () if segment is None else segment.holders
                model.commit_seal(key, was.seal_epoch, end, self._there(holders))
            else:
                model.apply_roll(key, end)
        model.ends[key] = end
        if segment is None:
            return
        if end not in {next_offset for next_offset, _ in model.frames.get(key, {}).values()}:
            self._violated(f"{at}, where nobody ever wrote")
        if len(segment.holders) < _majority(segment):
            self._violated(f"{at} with holders {segment.holders}")

    def _check_loss(self, key: Key, end: int, at: str) -> None:
        """An operator has given up some disks: what is on any other is kept."""
        given_up = set(self.losses.given_up(key))
        for node, disk in self.disks_at_first(*key).items():
            is_there = self._world.machines[node].disk_id == disk and disk not in given_up
            if is_there and (durable := self._durable_end(node, key)) > end:
                self._violated(f"{at}, and node {node}, which is there, is durable to {durable}")
        if not given_up:
            self._violated(f"{at} with a loss that nobody had to accept")

    def _check_holders(self, topic: Topic, segment: Segment, before: Holders) -> None:
        """Whoever becomes a holder has all of it, and would have it after a power cut."""
        key, end = (topic.topic_id, segment.sid), segment.end_offset
        for node, disk in self._there(tuple(set(segment.holders) - set(before))).items():
            if (disk, key) in self.harmed:
                continue  # What was said of it before was true.
            if (durable := self._durable_end(node, key)) < end:
                at = f"{_at(topic, segment.sid)}, which ended at {end}"
                self._violated(f"node {node} is a holder of {at}, and is durable to {durable}")

    def _there(self, holders: Holders) -> dict[int, bytes]:
        """Who is named with a disk that is gone by now said the truth: the loss came after it."""
        machines = self._world.machines
        return {node: disk for node, disk in holders if machines[node].disk_id == disk}

    # ---- what is read back and appended ----------------------------------------------------------

    def _watch_read_back(self, read_back: Callable[..., None]) -> Callable[..., None]:
        """`Restart`, for one copy."""

        def wrapped(reader: ReadBack, topic: Topic, metadata: Segment) -> None:
            read_back(reader, topic, metadata)
            key, process = (topic.topic_id, metadata.sid), _process()
            copy = reader._copies.get(*key)
            if process is not None and copy is not None and self._is_kept(key):
                with self._step(key):
                    end = copy.segment.end_offset
                    self._model.restart(process.node, process.machine.disk_id, key, end)

        return wrapped

    def _watch_open(self, open_copy: Callable[..., LocalCopy]) -> Callable[..., LocalCopy]:
        """A copy that holds nothing yet."""

        def wrapped(copies: Copies, log: Any, topic_id: bytes, **options: Any) -> LocalCopy:
            process, key = _process(), (topic_id, options["sid"])
            if process is not None:
                self._model.log[process.machine.disk_id, key] = options["base_offset"]
            return open_copy(copies, log, topic_id, **options)

        return wrapped

    def _watch_bucket(self, init: Callable[..., None]) -> Callable[..., None]:
        """`BecomeWriter`."""

        def wrapped(bucket: Bucket, **options: Any) -> None:
            lease = options["lease"]
            key = self._writers[options["writer"]] = (lease.topic_id, lease.sid)
            process = _process()
            if process is not None:
                with self._step(key):
                    me = (process.node, process.broker.incarnation)
                    self._model.become_writer(process, me, key)
            init(bucket, **options)

        return wrapped

    def _watch_append(self, append: Callable[..., Offset]) -> Callable[..., Offset]:
        """`Append1` and `Receive`."""

        def wrapped(copy: LocalCopy, placed: BatchHeader, buffers: Any) -> Offset:
            end_offset = append(copy, placed, buffers)
            key, process, model = _key(copy), _process(), self._model
            if process is None:
                return end_offset
            disk = process.machine.disk_id
            with self._step(key):
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
            key, process = _key(copy), _process()
            if process is not None:
                with self._step(key):
                    self._model.repair(process.machine.disk_id, key, placed)

        return wrapped

    # ---- what is told, committed, served ---------------------------------------------------------

    def _watch_told(self, on_durable: Callable[..., bool]) -> Callable[..., bool]:
        """`Sync`: durable first, then told."""

        def wrapped(writer: Writer, replica: int, end_offset: int) -> bool:
            key = self._writers.get(writer)
            if _process() is not None and key is not None:
                disk = self._world.machines[replica].disk_id
                is_there = writer.disks.get(replica) == disk
                # What was said before its disk was damaged may be heard after it.
                is_there = is_there and (disk, key) not in self.harmed
                if key not in self._model.ends and is_there and self._is_kept(key):
                    with self._step(key):
                        self._model.sync(replica, disk, key, end_offset)
                self._model.hear(replica, key, end_offset)
            return on_durable(writer, replica, end_offset)

        return wrapped

    def _watch_marks(self, progress: Callable[[Bucket], None]) -> Callable[[Bucket], None]:
        """`AdvanceHighWatermark`; AcknowledgedIsDurable, NoAckBeyondSeal."""

        def wrapped(bucket: Bucket) -> None:
            key, mark = self._writers[bucket.writer], bucket.writer.high_watermark
            acked = self._model.acked.get(key, 0)
            if _process() is not None and mark > acked and self._is_known(key):
                self._check_acked(key, mark)
                with self._step(key):
                    self._model.advance_high_watermark(key, mark, bucket.writer.next_offset)
            progress(bucket)

        return wrapped

    def _check_acked(self, key: Key, mark: int) -> None:
        what, ends = f"{self._name(key)} is committed to {mark}", self._model.ends
        if key in ends:
            if mark > ends[key]:
                self._violated(f"{what}, ended at {ends[key]}")
            return
        topic, segment = self._topics[key[0]], self._model.segments[key]
        # What a disk acknowledged before it was lost, or damaged, may count: it was true.
        lost = [
            node
            for node, disk in self.disks_at_first(*key).items()
            if self._world.machines[node].disk_id != disk or (disk, key) in self.harmed
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
        ends = {node: self._durable_end(node, (topic.topic_id, segment.sid)) for node in nodes}
        if sum(end >= end_offset for end in ends.values()) < quorum:
            self._violated(f"{what}, and is durable to {ends}")

    def committed(self, topic_id: bytes, end_offset: int, what: str) -> None:
        """Everything below `end_offset` was acknowledged or served: it must be committed, by what
        was seen here (ReadCursorWithinBounds)."""
        topic = self._topics[topic_id]
        last = topic.last
        limit = max(last.base_offset, self._model.acked.get((topic_id, last.sid), 0))
        if end_offset > limit:
            self._violated(f"{what} {topic.name} to {end_offset}, it is committed to {limit}")

    # ---- what is proposed, promised and chosen ---------------------------------------------------

    def _watch_proposals(self, propose: Callable[..., Any]) -> Callable[..., Any]:
        """`ProposeRoll`."""

        async def wrapped(metadata: Metadata, command: AnyCommand) -> Applied:
            process = _process()
            if process is not None and isinstance(command, CommitRoll):
                key = (command.topic_id, command.sid)
                with self._step(key):
                    disk, end = process.machine.disk_id, command.end.end_offset
                    self._model.propose_roll(process, disk, key, end)
            applied: Applied = await propose(metadata, command)
            return applied

        return wrapped

    def _watch_promise(self, answer_seal: Callable[..., Any]) -> Callable[..., Any]:
        """`Promise`; PromisesKept."""

        async def wrapped(copy: LocalCopy, seal_epoch: int) -> SealAnswer:
            answer: SealAnswer = await answer_seal(copy, seal_epoch)
            process = _process()
            if process is not None and not isinstance(answer, Refused):
                self._answered(process, _key(copy), seal_epoch, answer)
            return answer

        return wrapped

    def _answered(self, process: Process, key: Key, seal_epoch: int, answer: SealAnswer) -> None:
        node, disk = process.node, process.machine.disk_id
        end = answer.end.end_offset if isinstance(answer, Definite) else None
        with self._step(key):
            self._model.ask_promise(node, disk, key, seal_epoch, end)
        if key in self._model.ends:
            return
        who = f"node {node} answered {answer} to the seal {seal_epoch} of {self._name(key)}"
        if end is not None and (disk, key) in self.harmed:
            self._violated(f"{who}, though its copy was damaged")
        if self._disks.promised_epoch(node, self._topics[key[0]], key[1]) < seal_epoch:
            self._violated(f"{who}, and would have forgotten it")
        if end is not None and end > (durable := self._durable_end(node, key)):
            self._violated(f"{who}, and is durable to {durable}")

    def _watch_chosen(self, copy: Callable[..., Any]) -> Callable[..., Any]:
        """`ChooseEnd`: what is chosen covers what is acknowledged."""

        async def wrapped(catch_up: CatchUp, ask: messages.CopyAsk) -> int:
            key, model = (ask.topic_id, ask.sid), self._model
            if _process() is not None and key not in model.ends:
                accepts_loss = model.segments[key].accepts_loss
                choose = model.accept_end if accepts_loss else model.choose_end
                with self._step(key):
                    choose(key, ask.seal_epoch, ask.end_offset)
                acked = model.acked.get(key, 0)
                if ask.end_offset < acked and not accepts_loss:
                    what = f"is to end at {ask.end_offset}, is acknowledged to {acked}"
                    self._violated(f"{self._name(key)} {what}")
            end_offset: int = await copy(catch_up, ask)
            return end_offset

        return wrapped

    def _watch_closed(self, sealed: Callable[..., None]) -> Callable[..., None]:
        """`Close`."""

        def wrapped(copy: LocalCopy, end_offset: int) -> None:
            key, process = _key(copy), _process()
            if process is not None:
                with self._step(key):
                    self._model.close(process.machine.disk_id, key, end_offset)
            sealed(copy, end_offset)

        return wrapped

    # ---- looking ---------------------------------------------------------------------------------

    def _durable_end(self, node: int, key: Key) -> int:
        """TruncatedOnlyToCommitted."""
        topic, segment = self._topics[key[0]], self._model.segments[key]
        disk = self._world.machines[node].disk_id
        end = self._disks.end_offset(node, topic, segment)
        before = self._durable.get((disk, key), end)
        self._durable[disk, key] = end
        is_cut = end < min(before, self._model.ends.get(key, before))
        if is_cut and self._is_kept(key) and (disk, key) not in self.harmed:
            self._violated(f"node {node} cut {self._name(key)} from {before} to {end}")
        return end

    def _is_known(self, key: Key) -> bool:
        return key[0] in self.state.topics and key in self._model.segments

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
