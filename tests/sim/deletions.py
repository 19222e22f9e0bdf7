"""More lines that are left out, in every layer under a record: what catches each is in
docs/simulation.md, and where nothing can, which other line covers it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

from broker.controller import sealing
from broker.controller.housekeeping import Housekeeping
from broker.controller.read_back import ReadBack
from broker.controller.replicas import Replicas
from broker.controller.sealing import Sealing
from broker.groups.shard import Shard
from broker.groups.state_log import StateLog
from broker.replication import follow
from broker.replication.copies import LocalCopy
from broker.replication.repair import CatchUp
from broker.replication.replica import Refused, Replica, ReplicaPhase, Unknown
from broker.replication.seal import Recovery
from broker.server.admission import Admission
from engine import log, recovery
from engine.backends._memory_fs import MemoryFs
from engine.batch import Offset, Placed
from engine.errors import SegmentClosedError
from engine.head import Head
from engine.segment import Segment
from raft import apply as raft_apply
from raft import segments
from raft.commands import BeginSealMany
from raft.state import ClusterState, SegmentState, Topic
from tests.sim.cluster.sim_raft import SimRaft
from tests.sim.left_out import MUTANTS
from tests.sim.mutants import Patches, mutant

__all__ = ["MUTANTS"]

# ---- broker/replication --------------------------------------------------------------------------


@mutant
def a_promise_stops_nobody() -> Patches:
    """The copy promises, and its phase stays what it was. The segment below it closes, too: both
    are left out."""

    def ask_promise(self: Replica, seal_epoch: int) -> Refused | None:
        if seal_epoch < self.promised_epoch:
            return Refused(self.promised_epoch)
        self.promised_epoch = seal_epoch
        return None

    def append(self: Segment, batches: Sequence[Placed]) -> Offset:
        if self.failed or self.sealed or self._closed:
            raise SegmentClosedError("closed")
        return self._enqueue(batches)

    yield Replica, "ask_promise", ask_promise
    yield Segment, "append", append


@mutant
def a_promise_is_not_read_back() -> Patches:
    """A process that starts forgets what this disk has promised. The segment remembers, too."""
    segment = ReadBack.segment

    def forgetful(self: ReadBack, topic: Any, metadata: Any) -> None:
        segment(self, topic, metadata)
        copy = self._copies.get(topic.topic_id, metadata.sid)
        if copy is not None and copy.replica.phase is ReplicaPhase.PROMISED:
            copy.replica.phase, copy.replica.promised_epoch = ReplicaPhase.ACCEPTING, 0
            copy.segment.promised_epoch = 0

    yield ReadBack, "segment", forgetful


@mutant
def a_copy_is_repaired_without_a_promise() -> Patches:
    """CatchUp.copy does not ask for it, neither before nor after."""
    copy_ = CatchUp.copy

    async def unasked(self: CatchUp, ask: Any) -> int:
        ensure = self._ensure

        def willing(topic_id: bytes, sid: int) -> LocalCopy | None:
            copy = ensure(topic_id, sid)
            if copy is not None:
                copy.answer_seal = partial(_say_nothing, copy)  # type: ignore[method-assign]
            return copy

        self._ensure = willing
        try:
            return await copy_(self, ask)
        finally:
            self._ensure = ensure

    async def _say_nothing(_copy: LocalCopy, _epoch: int) -> Unknown:
        return Unknown("")

    yield CatchUp, "copy", unasked


@mutant
def a_refusal_is_no_answer() -> Patches:
    """A recoverer that was superseded goes on with those who have not heard of it."""
    answered = Recovery.answered

    def deaf(self: Recovery, node: int, answer: Any) -> Any:
        return [] if isinstance(answer, Refused) else answered(self, node, answer)

    yield Recovery, "answered", deaf


@mutant
def a_follower_follows_whatever_it_promised() -> Patches:
    """A promised copy introduces itself to the writer again, and tells it what is durable."""
    introduce = follow._Writer._introduce

    def eager(self: Any, following: Any) -> None:
        replica = following.copy.replica
        phase, replica.phase = replica.phase, ReplicaPhase.ACCEPTING
        try:
            introduce(self, following)
        finally:
            replica.phase = phase

    yield follow._Writer, "_introduce", eager


@mutant
def the_writer_hears_of_repairs() -> Patches:
    """A copy that is repaired goes on telling the old writer what is durable."""

    def repair(self: LocalCopy, placed: Any, batch: Any) -> None:
        self.segment.repair([(placed, [batch])])
        self.replica.end_offset = placed.next_offset
        if self.window is not None:
            self.window.update(placed)

    yield LocalCopy, "repair", repair


@mutant
def any_incarnation_may_follow() -> Patches:
    """The writer does not ask whether a follower is the process that is registered."""

    def disk_of(self: Replicas, node: int, _: int) -> bytes | None:
        broker = self._metadata.state.brokers.get(node)
        return None if broker is None else broker.disk

    yield Replicas, "_disk_of", disk_of


# ---- broker/controller ---------------------------------------------------------------------------


@mutant
def a_copy_is_registered_before_it_is_sealed() -> Patches:
    """AddHolder first, the bytes after it."""
    finish, register = Housekeeping._finish, Housekeeping._register

    async def early(self: Housekeeping, topic: Any, segment: Any) -> None:
        await register(self, topic, segment)
        await finish(self, topic, segment)

    yield Housekeeping, "_finish", early


@mutant
def a_longer_copy_is_not_cut() -> Patches:
    """What lies beyond the sealed end stays in the file."""
    yield MemoryFs, "truncate", lambda *_: None


@mutant
def disks_are_named_when_the_seal_is_proposed() -> Patches:
    """A holder is named with the disk that it has by now, not with the one that answered."""
    item = sealing._item

    def late(state: ClusterState, found: Any, now_ms: int) -> Any:
        disks = {node: broker.disk for node, broker in state.brokers.items()}
        return item(state, replace(found, disks=disks), now_ms)

    yield sealing, "_item", late


@mutant
def an_attempt_is_taken_up_by_the_next_process() -> Patches:
    """A node that starts goes on with the seal epoch that its predecessor was given, and does not
    have it begun anew."""

    def begin_seal_many(draft: Any, command: BeginSealMany) -> Any:
        items = []
        for topic_id, topic in sorted(draft.state.topics.items()):
            last = topic.last
            if last.writer == command.node and last.writer_incarnation < command.incarnation:
                draft.put_topic(segments._sealing(topic, command.node))
                items.append((topic_id, last.sid, topic.epoch + 1))
        return draft.applied(0, *items)

    transitions: dict[Any, Any] = {**raft_apply.TRANSITIONS, BeginSealMany: begin_seal_many}
    yield raft_apply, "TRANSITIONS", transitions
    yield Sealing, "_is_ours", _is_ours


def _is_ours(self: Sealing, topic: Topic, seal_epoch: int) -> bool:
    last = topic.last
    mine = (SegmentState.SEALING, self._node, seal_epoch)
    return (last.state, last.recoverer, last.seal_epoch) == mine


@mutant
def a_command_that_comes_twice_counts_twice() -> Patches:
    """Nobody remembers the answers that were given."""
    yield raft_apply, "_remember", lambda clients, *_: clients


# ---- membership ----------------------------------------------------------------------------------


@mutant
def a_lost_disk_stays_a_member() -> Patches:
    """A machine with a new disk does not have the old one leave."""

    async def nothing(_: Admission) -> None:
        return

    yield Admission, "_replace", nothing


@mutant
def a_node_joins_anew_at_each_start_or_founds() -> Patches:
    """Whether it joins is decided by whether it has files."""
    init = SimRaft.__init__

    def forgetful(self: SimRaft, **options: Any) -> None:
        is_new = options["disk"].read("journal") is None
        init(self, **{**options, "joins": options["joins"] and is_new})

    yield SimRaft, "__init__", forgetful


# ---- broker/groups -------------------------------------------------------------------------------


@mutant
def a_shard_outlives_a_failed_append() -> Patches:
    """Memory stays ahead of the log."""
    yield StateLog, "fail", lambda *_: None


@mutant
def a_shard_is_loaded_without_its_tail() -> Patches:
    """The snapshot alone, without the changes after it."""
    yield StateLog, "_replay", lambda self, data: self.partition.end_offset


@mutant
def a_shard_is_loaded_before_it_is_safe() -> Patches:
    """What is read back may still be lost."""
    load = StateLog.load.__func__  # type: ignore[attr-defined]

    async def early(cls: Any, controller: Any, partition: Any, clock: Any) -> StateLog:
        drained = partition.drained
        partition.drained = _at_once
        try:
            return await load(cls, controller, partition, clock)
        finally:
            partition.drained = drained

    yield StateLog, "load", classmethod(early)


async def _at_once() -> None:
    return


@mutant
def a_moved_shard_goes_on() -> Patches:
    """The shard of a partition that this node no longer leads is not closed."""
    yield Shard, "close", lambda *_: None


# ---- engine --------------------------------------------------------------------------------------


def _recover_without(operation: str) -> Any:
    recover = recovery.recover

    def crippled(fs: Any, *args: Any, **options: Any) -> Any:
        with patch.object(fs, operation, lambda *_: None):
            return recover(fs, *args, **options)

    return crippled


@mutant
def a_torn_tail_stays() -> Patches:
    """Recovery finds it, and does not cut it."""
    yield log, "recover", _recover_without("truncate")


@mutant
def what_is_read_back_is_not_synced() -> Patches:
    """Bytes that a killed process wrote count as durable."""
    yield log, "recover", _recover_without("fsync")


@mutant
def a_torn_batch_is_a_batch() -> Patches:
    """Recovery checks no CRC."""
    yield recovery, "check_batch", lambda *_: None


@mutant
def a_damaged_copy_vouches() -> Patches:
    """It is cut where it is damaged, and nobody is told."""
    yield ReadBack, "_may_lack_some", lambda *_: True


@mutant
def a_header_is_never_stored() -> Patches:
    """What came before a segment is known to whoever saw it, and to nobody else."""
    yield Head, "capture", lambda _: None
