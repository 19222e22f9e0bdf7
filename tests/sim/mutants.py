"""Mistakes that a replicated log could contain, to be put into this one: a simulation that does not
find them is worth nothing.

Each mutant replaces a method or two of the product while a run lasts. Some of them were real.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from broker.controller import leases, lifecycle, placement, supervisor
from broker.controller.bucket import Bucket
from broker.controller.holding import Holding
from broker.controller.metadata import Metadata
from broker.controller.partition import LocalPartition
from broker.controller.restart import Restart
from broker.errors import MetadataUnavailable
from broker.groups.state_log import StateLog
from broker.ports import Appended
from broker.replication import header as segment_header
from broker.replication import quorum, seal
from broker.replication.copies import LocalCopy
from broker.replication.replica import Replica, ReplicaPhase
from broker.replication.seal import Commit, Recovery, SealEffect
from engine.appender import Appender
from engine.batch import Offset
from engine.durability import NONE, FsyncPolicy
from engine.log import TopicLog
from engine.producer_state import Fresh, ProducerState
from engine.segment import Segment
from engine.segment_files import SegmentFiles
from raft.commands import AnyCommand, Applied, CommitRoll, Next
from raft.leases import Lease
from raft.state import ClusterState, SegmentState, Topic
from raft.state import Segment as SegmentMetadata
from tests.sim.raft.disk import SimFile

Mutant = Callable[[], AbstractContextManager[None]]

MUTANTS: dict[str, Mutant] = {}


def mutant(make: Callable[[], Iterator[tuple[Any, str, Any]]]) -> Mutant:
    """`make` yields (object, attribute, what stands in its place)."""

    @contextmanager
    def mutated() -> Iterator[None]:
        with ExitStack() as stack:
            for target, name, value in make():
                _check_that_it_fits(getattr(target, name), value)
                stack.enter_context(patch.object(target, name, value))
            yield

    MUTANTS[make.__name__.replace("_", "-")] = mutated
    return mutated


def _check_that_it_fits(original: Any, value: Any) -> None:
    """What cannot be called as the original is found for that, and for nothing else. Raises
    TypeError."""
    if not (inspect.isfunction(original) and inspect.isfunction(value)):
        return
    parameters = inspect.signature(original).parameters.values()
    keywords = {each.name: each for each in parameters if each.kind is each.KEYWORD_ONLY}
    places = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    inspect.signature(value).bind(*places, **keywords)


Patches = Iterator[tuple[Any, str, Any]]


# ---- acknowledging ------------------------------------------------------------------------------


@mutant
def acknowledge_before_sync() -> Patches:
    """What was written counts as durable."""
    yield FsyncPolicy, "parse", lambda _: NONE


@mutant
def acknowledge_at_append() -> Patches:
    """The answer leaves before anything is safe."""

    async def committed(*_: object, **__: object) -> None:
        return

    yield LocalPartition, "committed", committed


@mutant
def acknowledge_at_append_without_a_task() -> Patches:
    """The same on the quick way."""

    def at_once(_: LocalPartition, offset: int, wake: Any, *, acks: int, timeout_s: float) -> None:
        wake(None)

    yield LocalPartition, "when_committed", at_once


@mutant
def high_watermark_from_unsynced_ends() -> Patches:
    """A follower acknowledges what it has received."""
    append = LocalCopy.append

    def eager(self: LocalCopy, *args: Any) -> Offset:
        end_offset = append(self, *args)
        self.on_durable(end_offset)
        return end_offset

    yield LocalCopy, "append", eager


@mutant
def a_turn_is_overtaken() -> Patches:
    """What is appended at once does not go behind what came earlier in its turn."""
    append = Bucket.append

    def first(self: Bucket, *args: Any, **options: Any) -> Appended:
        gathered, self.gathered = self.gathered, None
        try:
            return append(self, *args, **options)
        finally:
            self.gathered = gathered

    yield Bucket, "append", first


@mutant
def one_copy_is_enough() -> Patches:
    """The ack quorum is one."""
    yield leases, "ack_quorum", lambda *_: 1


@mutant
def consumers_see_everything() -> Patches:
    """Reads go up to the writer's own end, not to the high watermark."""

    def end_offset(self: LocalPartition) -> int:
        return self.end_offset if self.bucket is not None else self._committed.offset

    yield LocalPartition, "high_watermark", property(end_offset)


# ---- sealing ------------------------------------------------------------------------------------


@mutant
def ignore_the_promise() -> Patches:
    """A copy goes on accepting from a writer it has promised to shut out."""

    def accepts(self: Replica, *, epoch: int, base_offset: int) -> bool:
        is_open = self.phase is not ReplicaPhase.SEALED
        return is_open and epoch == self.epoch and base_offset == self.end_offset

    yield Replica, "accepts", accepts
    yield Segment, "append", Segment.repair


@mutant
def seal_on_one_answer() -> Patches:
    """Nobody else is asked."""
    yield seal, "seal_quorum", lambda _: 1


@mutant
def seal_at_the_shortest() -> Patches:
    """The recoverer takes the shortest answer, as if only that were common to all."""

    def choose(self: Recovery) -> list[SealEffect]:
        definite = self._ends()
        if len(definite) < quorum.seal_quorum(len(self.replicas)):
            return []
        self._chosen = min(definite.values(), key=lambda end: end.end_offset)
        return self._commit_if_safe()

    yield Recovery, "_choose", choose


@mutant
def seal_without_repair() -> Patches:
    """The end is committed while one copy alone reaches it."""

    def commit(self: Recovery) -> list[SealEffect]:
        if self._chosen is None or self._is_done:
            return []
        self._is_done = True
        end = self._chosen.end_offset
        holders = [node for node in self.replicas if self._durable.get(node, -1) >= end]
        return [Commit(self._chosen, tuple(holders))]

    yield Recovery, "_commit_if_safe", commit


@mutant
def answer_a_seal_before_the_sync() -> Patches:
    """A copy answers with what it has queued."""
    yield Appender, "drain", lambda _, on_done: on_done(None)


# ---- who writes ---------------------------------------------------------------------------------


@mutant
def resume_the_writer_after_a_restart() -> Patches:
    """A new incarnation goes on with the segment of the one before."""

    def leases_of(
        state: ClusterState, node: int, _: int, topic_ids: Iterable[bytes]
    ) -> dict[bytes, Lease]:
        broker = state.brokers.get(node)
        return {
            topic_id: Lease(topic_id=topic_id, sid=topic.last.sid, epoch=topic.last.epoch)
            for topic_id in topic_ids
            if broker is not None
            and not broker.fenced
            and (topic := state.topics.get(topic_id)) is not None
            and (topic.last.state, topic.last.writer) == (SegmentState.OPEN, node)
        }

    async def nothing(*_: object) -> None:
        return

    def is_written(state: ClusterState, last: SegmentMetadata) -> bool:
        return last.writer in state.brokers and not state.brokers[last.writer].fenced

    yield leases, "leases_of", leases_of
    yield Restart, "begin_seals", nothing
    yield lifecycle.Lifecycle, "_sealed_all", nothing
    yield supervisor, "_is_written", is_written


@mutant
def roll_without_draining() -> Patches:
    """A planned roll does not wait until what was appended is safe."""

    async def drained(_: LocalPartition) -> None:
        return

    for_roll = placement.for_roll

    def anybody(
        state: ClusterState, topic: Topic, _: Collection[int], **options: bool
    ) -> Next | None:
        return for_roll(state, topic, placement.live_nodes(state), **options)

    yield LocalPartition, "drained", drained
    yield placement, "for_roll", anybody


@mutant
def write_on_after_an_unknown_roll() -> Patches:
    """No answer to a roll is taken for a refusal."""
    original = Metadata.propose

    async def propose(self: Metadata, command: AnyCommand) -> Applied:
        try:
            return await original(self, command)
        except MetadataUnavailable:
            if isinstance(command, CommitRoll):
                return Applied(refusal="no answer", revision=0)
            raise

    yield Metadata, "propose", propose


# ---- recognising duplicates ---------------------------------------------------------------------


@mutant
def forget_the_window_at_failover() -> Patches:
    """A new writer begins with an empty idempotence window."""
    lead = leases.LeaseTable._bucket

    def empty(self: Any, lease: Any, copy: Any, _: Any, *rest: Any) -> Any:
        copy.window = ProducerState()
        return lead(self, lease, copy, copy.window, *rest)

    yield leases.LeaseTable, "_bucket", empty


@mutant
def forget_the_tail_of_the_window() -> Patches:
    """After a restart the window is that of the segment's header, without the segment."""
    from broker.controller import read_back

    original = read_back._window
    yield read_back, "_window", lambda segment, _: original(segment, [])


@mutant
def lose_a_head_that_comes_late() -> Patches:
    """A copy that promised before its writer's header object came never stores it."""
    recover = TopicLog.recover

    def headless(self: TopicLog, *args: Any, **options: Any) -> Segment:
        return recover(self, *args, **{**options, "head": None})

    yield SegmentFiles, "add_head", lambda *_: None
    yield TopicLog, "recover", headless


@mutant
def followers_keep_no_window() -> Patches:
    """A follower stores a head, and forgets to count what follows."""
    append = LocalCopy.append

    def forgetful(self: LocalCopy, *args: Any) -> Offset:
        window, self.window = self.window, None
        try:
            return append(self, *args)
        finally:
            self.window = window

    yield LocalCopy, "append", forgetful


@mutant
def retries_are_news() -> Patches:
    """The window is kept and not asked."""
    yield ProducerState, "check", lambda *_: Fresh()


# ---- starting -----------------------------------------------------------------------------------


@mutant
def answer_before_reading_back() -> Patches:
    """A node that starts gives out copies of what it has not read yet."""
    original = Holding.ensure

    def ensure(self: Holding, topic_id: bytes, sid: int) -> LocalCopy | None:
        is_begun, self._is_begun = self._is_begun, True
        try:
            return original(self, topic_id, sid)
        finally:
            self._is_begun = is_begun

    yield Holding, "ensure", ensure


# ---- metadata and groups ------------------------------------------------------------------------


@mutant
def metadata_is_never_synced() -> Patches:
    """Raft's journal and snapshot live in the page cache."""
    yield SimFile, "sync", lambda _: None


@mutant
def commits_are_answered_at_once() -> Patches:
    """A group's position is acknowledged before it is durable."""

    async def durable(*_: object) -> None:
        return

    yield StateLog, "_durable", durable


@mutant
def state_is_not_carried_over_a_roll() -> Patches:
    """The live keys of a state log are missing from the next segment's header."""

    def make_head(self: Bucket) -> bytes:
        return segment_header.encode(producers=self.writer.window.snapshot())

    yield Bucket, "_make_head", make_head
