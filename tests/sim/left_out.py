"""Lines of the protocol that are left out, one or two at a time: more mistakes that must be found.

`mutants.py` has mistakes that somebody could think up; these are what is left when a line is
deleted. Where two rules cover each other, leaving out one of them does no harm; then both are left
out here, and the text says which covers which.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from broker.controller import read_back
from broker.controller.leases import LeaseTable
from broker.controller.partition import LocalPartition
from broker.controller.read_back import ReadBack
from broker.controller.windows import Windows
from broker.groups import coordinator
from broker.groups.coordinator import Coordinator
from broker.native_api import cursor
from broker.ports import Finish, Reply
from broker.replication import header as segment_header
from broker.replication.barrier import ReadBarrier
from broker.replication.copies import LocalCopy
from broker.replication.recoverer import Patient, Recoverer
from broker.replication.repair import CatchUp
from broker.replication.replica import Replica
from broker.replication.writer import Writer
from engine.backends._memory_fs import MemoryFs
from engine.batch import Offset, Placed
from engine.errors import SegmentClosedError
from engine.producer_state import ProducerState
from engine.segment import Segment
from engine.segment_files import MetaFile
from raft import apply as raft_apply
from raft import brokers, segments
from raft.commands import BeginSeal, CommitRoll, Next, SealItem
from raft.state import ClusterState, SegmentState, Topic
from raft.state import Segment as SegmentMetadata
from tests.sim.mutants import MUTANTS, Patches, mutant

__all__ = ["MUTANTS"]

# ---- promises ------------------------------------------------------------------------------------


@mutant
def promise_is_not_synced() -> Patches:
    """A power cut forgets it."""
    write = MetaFile.write
    yield MetaFile, "write", lambda self, meta, **_: write(self, meta, sync=False)


@mutant
def promise_is_lowered() -> Patches:
    """A late SEAL of an earlier attempt is promised to, as if it were new. Replica and segment both
    refuse it."""

    def ask_promise(self: Replica, seal_epoch: int) -> None:
        self.promised_epoch = seal_epoch

    promise = Segment.promise

    def lowered(self: Segment, epoch: int, on_done: Any) -> None:
        self.promised_epoch = 0
        promise(self, epoch, on_done)

    yield Replica, "ask_promise", ask_promise
    yield Segment, "promise", lowered


@mutant
def repair_after_a_later_promise() -> Patches:
    """What an attempt has begun to repair goes on after the copy has answered another one."""
    pull = CatchUp.pull

    async def unasked(
        self: CatchUp, *args: Any, seal_epoch: int | None = None, **rest: Any
    ) -> None:
        await pull(self, *args, **rest)

    yield CatchUp, "pull", unasked


# ---- lost disks ----------------------------------------------------------------------------------


@mutant
def a_new_disk_vouches() -> Patches:
    """Nobody notes that a disk was replaced."""
    yield brokers, "_void_open_segments", lambda *_: None


@mutant
def unknown_is_never_said() -> Patches:
    """A replaced disk answers that it has nothing, and the recoverer believes it. The copy's own
    node says UNKNOWN, and the recoverer would say it for it: its list may be older than the
    loss."""
    recover = Recoverer.recover

    async def trusting(self: Recoverer, patient: Patient) -> Any:
        return await recover(self, _replace(patient, void=frozenset()))

    yield ReadBack, "_doubt", lambda *_: ""
    yield Recoverer, "recover", trusting


def _replace(patient: Patient, **changes: Any) -> Patient:
    fields = {name: getattr(patient, name) for name in patient.__dataclass_fields__}
    return Patient(**{**fields, **changes})


@mutant
def holders_by_the_new_disk() -> Patches:
    """What a lost disk had acknowledged is ascribed to the one that replaced it, wherever its copy
    ends. Each of the two rules covers the other."""

    def on_follow(self: Writer, replica: int, incarnation: int, disk: bytes, _: int) -> None:
        self.disks[replica], self.incarnations[replica] = disk, incarnation

    yield Writer, "on_follow", on_follow


# ---- who may ------------------------------------------------------------------------------------


@mutant
def roll_without_draining_or_holders() -> Patches:
    """`roll-without-draining`, and the metadata does not count the holders either."""
    check_end = segments._check_end

    async def drained(_: LocalPartition) -> None:
        return

    def unchecked(state: ClusterState, segment: Any, end: Any, holders: Any) -> None:
        check_end(
            state, msgspec.structs.replace(segment, replicas=segment.replicas[:1]), end, holders
        )

    holders_of = Writer.holders
    yield LocalPartition, "drained", drained
    yield Writer, "holders", lambda self: holders_of(self) or {self.node: self.disks[self.node]}
    yield segments, "_check_end", unchecked


@mutant
def parking_parks_nobody() -> Patches:
    """Appends go on while a roll is under way."""
    yield Writer, "park", lambda _: None


@mutant
def a_roll_closes_whatever_is_open() -> Patches:
    """CommitRoll is no compare-and-set: one that comes late closes the next segment."""
    commit_roll = segments.commit_roll

    def unconditional(draft: Any, command: CommitRoll) -> Any:
        topic = draft.topic(command.topic_id)
        moved = msgspec.structs.replace(
            command,
            sid=topic.last.sid,
            open_epoch=topic.epoch,
            end=msgspec.structs.replace(
                command.end, end_offset=max(command.end.end_offset, topic.last.base_offset + 1)
            ),
        )
        return commit_roll(draft, moved)

    yield raft_apply, "TRANSITIONS", {**raft_apply.TRANSITIONS, CommitRoll: unconditional}


@mutant
def a_seal_is_committed_by_anybody() -> Patches:
    """CommitSeal does not compare the attempt: a superseded recoverer fixes its end."""
    commit_seal = segments._commit_seal

    def unconditional(draft: Any, item: SealItem) -> Any:
        topic = draft.state.topics.get(item.topic_id)
        epoch = item.seal_epoch if topic is None else topic.last.seal_epoch
        return commit_seal(draft, msgspec.structs.replace(item, seal_epoch=epoch))

    yield segments, "_commit_seal", unconditional


@mutant
def the_next_writer_may_be_gone() -> Patches:
    """A segment is opened for whatever incarnation the command names."""

    def check_next(state: ClusterState, opens: Next) -> None:
        if opens.writer not in state.brokers:
            raise AssertionError(opens)

    yield segments, "check_next", check_next


@mutant
def a_seal_keeps_its_epoch() -> Patches:
    """A second attempt runs in the epoch of the first."""
    begin_seal = segments.begin_seal

    def again(draft: Any, command: BeginSeal) -> Any:
        topic = draft.topic(command.topic_id)
        if topic.last.state is not SegmentState.SEALING:
            return begin_seal(draft, command)
        last = msgspec.structs.replace(topic.last, recoverer=command.recoverer)
        draft.put_topic(segments.with_last(topic, last))
        return draft.applied(topic.epoch)

    yield raft_apply, "TRANSITIONS", {**raft_apply.TRANSITIONS, BeginSeal: again}


@mutant
def the_old_leader_writes_on() -> Patches:
    """A deposed leader keeps its bucket, and its lease is always good. Promises cover this one: the
    mutant leaves them out too."""
    end = LeaseTable._end

    def kept(self: LeaseTable, topic_id: bytes, state: ClusterState) -> None:
        if topic_id not in state.topics:
            end(self, topic_id, state)

    yield LeaseTable, "_end", kept
    yield (
        Replica,
        "accepts",
        lambda self, *, epoch, base_offset: epoch == self.epoch and base_offset == self.end_offset,
    )
    yield Segment, "append", _append_if_not_closed


def _append_if_not_closed(self: Segment, batches: Sequence[Placed]) -> Offset:
    if self.failed or self.sealed or self._closed:
        raise SegmentClosedError("closed")
    return self._enqueue(batches)


# ---- durability ----------------------------------------------------------------------------------


@mutant
def a_directory_is_not_synced() -> Patches:
    """A segment's files are synced, and their names are not."""
    yield MemoryFs, "fsync_dir", lambda *_: None


# ---- state that travels in the header ------------------------------------------------------------


@mutant
def a_header_names_no_producers() -> Patches:
    """The window of what came before is missing in a segment's header."""
    encode = segment_header.encode

    def without(*, producers: bytes, keyed: bytes = b"") -> bytes:
        return encode(producers=ProducerState().snapshot(), keyed=keyed)

    yield segment_header, "encode", without


@mutant
def a_received_header_is_not_read() -> Patches:
    """A follower keeps the header for later, and counts from nothing."""

    def received_head(self: LocalCopy, head: bytes) -> None:
        if self.segment.end_offset == self.segment.base_offset and head:
            self.head = head
            self.window = ProducerState()

    yield LocalCopy, "received_head", received_head


@mutant
def a_window_is_not_read_back() -> Patches:
    """Whoever does not know the window begins with an empty one."""

    async def empty(*_: object) -> ProducerState:
        return ProducerState()

    yield Windows, "before_last", empty
    yield read_back, "_window", lambda *_: ProducerState()


@mutant
def a_window_goes_with_the_records() -> Patches:
    """When all records are deleted, what is known of their producers is, too."""
    at_end = Windows.at_end

    async def forgetful(self: Windows, topic: Topic, segment: SegmentMetadata) -> bytes:
        if topic.is_emptied(segment):
            return ProducerState().snapshot()
        return await at_end(self, topic, segment)

    yield Windows, "at_end", forgetful


@mutant
def a_deposed_leader_tells_the_newest() -> Patches:
    """Nobody is asked whether the leader still is one."""

    async def passed(_: ReadBarrier) -> None:
        return

    yield ReadBarrier, "passed", passed


@mutant
def a_fenced_copy_confirms() -> Patches:
    """A replica confirms a writer that it has promised to shut out."""
    yield Replica, "is_unfenced", property(lambda self: True)


# ---- groups and the cursor -----------------------------------------------------------------------


@mutant
def a_get_is_answered_at_once() -> Patches:
    """The record leaves before the cursor is durably past it."""
    settle = cursor._settle

    async def at_once() -> Reply:
        return ()

    async def early(_: Finish, tickets: Any, taken: Any) -> None:
        await settle(at_once, tickets, taken)

    commit_now = coordinator.Position.commit_now

    def early_now(self: Any, offset: int, wake: Any, *, is_alone: bool) -> bool:
        has_begun = commit_now(self, offset, lambda _: None, is_alone=is_alone)
        if has_begun:
            wake(None)
        return has_begun

    yield cursor, "_settle", early
    yield coordinator.Position, "commit_now", early_now


@mutant
def the_cursor_is_nobodys() -> Patches:
    """Every node keeps a cursor of its own in memory."""
    known: dict[tuple[int, Any], int] = {}

    async def position(self: Coordinator, _: str, topic_id: Any) -> int | None:
        return known.get((id(self), topic_id))

    async def commit(self: Coordinator, group: str, topic_id: Any, offset: int, *_: Any) -> Finish:
        known[id(self), topic_id] = offset
        return _nothing

    yield Coordinator, "position", position
    yield Coordinator, "commit", commit
    yield Coordinator, "position_now", lambda *_: None


async def _nothing() -> Reply:
    return ()


@mutant
def a_position_is_told_from_memory() -> Patches:
    """A group's position is answered while the commit is still under way."""
    offsets = Coordinator.offsets

    async def told(self: Coordinator, group_id: str) -> Any:
        found, _ = await offsets(self, group_id)
        return found, _nothing

    yield Coordinator, "offsets", told
