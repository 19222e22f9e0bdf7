"""The metadata of one disk, made a cluster of its own: what is left to do when a majority of the
metadata's disks is lost for good. Offline: nothing else may use the files.

*What is taken over.* Everything in the journal, also what this node does not know to be committed.
Any of it may have been: a follower hears that an entry is committed one message after it has the
entry, and what hangs on it may have been acknowledged meanwhile. This is what an election would do
if the lost nodes were there and voted for this one: a leader commits all that its log has. What
others had committed and this disk never got is lost; what it has and others had overruled comes
true, which contradicts nothing that is left. (etcd's --force-new-cluster does the same.)

*What the lost nodes may have given out since.* Raft terms, leader epochs and producer ids only
grow, and clients, and copies on this disk, remember them. So all of them jump ahead here.

*How it is written.* The new state is a snapshot of the entry after the last one, in a term that no
journal has. Its rename is the one step that decides: before it, all is as it was; after it, every
start lets the journal follow the snapshot, as it does when a crash came between a snapshot from the
leader and the journal (`open_journal`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from raft import commands, snapshot
from raft.apply import apply, refuse_unreadable
from raft.commands import Uuid
from raft.disk import Disk, FrozenDisk
from raft.ground import MEMBERSHIP, REGULAR
from raft.invariants import check_invariants
from raft.journal import JOURNAL_NAME
from raft.members import Members
from raft.pmap import PMap
from raft.snapshot import Snapshot
from raft.snapshotter import open_journal
from raft.state import EMPTY, ClusterState, Segment, SegmentState, Topic

TERM_JUMP = 1_000_000
"""More elections than the lost nodes can have held without this one: days of two a second."""
EPOCH_JUMP = 1_000
"""More leaders than a topic can have had since: a client that knows a later epoch ignores earlier
ones."""
PRODUCER_IDS_JUMP = 1_000_000
"""More than the lost nodes can have given out since: two producers of one id would be taken for one
that repeats itself."""

Held = Callable[[Topic, Segment], int]
"""Bytes that this disk has of a segment's log."""

_replace = msgspec.structs.replace
_decode_members = msgspec.msgpack.Decoder(Members).decode


@dataclass(frozen=True, slots=True)
class Stored:
    """What one disk knows."""

    state: ClusterState
    """After the last entry of the journal, committed or not."""
    members: Members
    index: int
    """Of the last entry."""
    last_term: int
    """Of the last entry."""
    term: int
    """The highest that this disk has heard of."""
    commit_index: int
    """Up to where entries are known to be committed."""


def look(disk: Disk) -> Stored | None:
    """None when there is no metadata. Changes nothing. Raises StoredStateError, OSError."""
    frozen = FrozenDisk(disk)
    taken = snapshot.load(frozen)
    if taken is None and disk.read(JOURNAL_NAME) is None:
        return None
    journal = open_journal(frozen, taken)
    state, members = EMPTY, Members(())
    if taken is not None:
        state, members = taken.state, taken.members
    for command, index, _term in journal[1:]:
        if command[:1] == MEMBERSHIP:
            members = _decode_members(command[1:])
        elif command[:1] == REGULAR and index > (0 if taken is None else taken.index):
            state = _applied(state, index, command[1:])
    _command, last_index, last_term = journal[-1]
    return Stored(
        state,
        members,
        last_index,
        last_term,
        max(journal.getCurrentTerm(), last_term),
        journal.getRaftCommitIndex(),
    )


def _applied(state: ClusterState, index: int, command: bytes) -> ClusterState:
    try:
        envelope = commands.decode(command)
    except msgspec.MsgspecError:
        return refuse_unreadable(state, index)[0]
    return apply(state, index, envelope)[0]


def found_anew(disk: Disk, stored: Stored, state: ClusterState, voter: str) -> None:
    """Make `voter` the only member of a cluster whose metadata is `state`. `stored` is what `look`
    has just found here.

    A crash leaves what was there, or the new cluster. Raises OSError.
    """
    check_invariants(state)
    members = Members((voter,))
    snapshot.write(disk, Snapshot(stored.index + 1, stored.term + TERM_JUMP, members, state))


# ---- the state of the new cluster (pure) ---------------------------------------------------------


def sole_survivor(
    state: ClusterState, *, node: int, disk: Uuid, cluster_id: str, held: Held
) -> ClusterState:
    """The state of a cluster of `node` alone, whose other nodes are dead, with their disks lost.

    They stay registered, so that machines with new disks may take their places. Nothing they held
    counts any more. Every topic waits to be sealed, by the copies that are left, or by an
    operator's word (`AcceptLoss`).
    """
    brokers = (
        _replace(broker, fenced=broker.fenced or broker.node != node)
        for broker in state.brokers.values()
    )
    made = _replace(
        state,
        cluster_id=cluster_id,
        brokers=PMap((broker.node, broker) for broker in brokers),
        next_producer_id=state.next_producer_id + PRODUCER_IDS_JUMP,
    )
    topics = (_survived(made, topic, (node, disk), held) for topic in state.topics.values())
    return _replace(made, topics=PMap((topic.topic_id, topic) for topic in topics))


def _survived(state: ClusterState, topic: Topic, me: tuple[int, Uuid], held: Held) -> Topic:
    at = last_with_records(topic, me, held)
    last = topic.segments[at]
    closed = tuple(_as_held(topic, segment, me, held) for segment in topic.segments[:at])
    epoch = topic.epoch + EPOCH_JUMP
    last = _to_be_sealed(state, last, me, epoch, is_held=held(topic, last) > 0)
    return _replace(
        topic,
        epoch=epoch,
        segments=(*closed, last),
        deleted_up_to_sid=min(topic.deleted_up_to_sid, last.sid - 1),
    )


def last_with_records(topic: Topic, me: tuple[int, Uuid], held: Held) -> int:
    """Where in its chain the topic ends, as far as this disk can tell: behind the last segment that
    is whole here, or in the one that is not.

    What comes later has no record here. Without it the topic could not go on: nobody could tell the
    idempotence window that it begins with.
    """
    end = len(topic.segments) - 1
    if held(topic, topic.last):
        return end
    at = 0
    for index in reversed(range(end)):
        segment = topic.segments[index]
        if is_whole(topic, segment, me, held):
            at = index + 1
            break
        if held(topic, segment):
            at = index
            break
    return at if topic.log_start_offset <= topic.segments[at].base_offset else end


def is_whole(topic: Topic, segment: Segment, me: tuple[int, Uuid], held: Held) -> bool:
    """Whether this disk has all of a closed segment: the metadata says so, or has not heard yet."""
    return me in segment.holders or held(topic, segment) >= segment.size


def _as_held(topic: Topic, segment: Segment, me: tuple[int, Uuid], held: Held) -> Segment:
    """Lost copies are not looked for any more. Where all are, the list stays: it says who had
    them."""
    return _replace(segment, holders=(me,)) if is_whole(topic, segment, me, held) else segment


def _to_be_sealed(
    state: ClusterState, segment: Segment, me: tuple[int, Uuid], epoch: int, *, is_held: bool
) -> Segment:
    """By this node. The lost copies do not vouch for it, and where it was closed already, which
    this disk's copy is not, neither does that."""
    replicas = {node for node in segment.replicas if node in state.brokers}
    if is_held or not replicas:
        replicas.add(me[0])
    void = {(node, state.brokers[node].disk) for node in replicas if node != me[0]}
    if segment.state is SegmentState.SEALED:
        void.add(me)
    return _replace(
        segment,
        state=SegmentState.SEALING,
        writer=segment.writer if segment.writer in replicas else me[0],
        replicas=tuple(sorted(replicas)),
        void=(*segment.void, *sorted(void.difference(segment.void))),
        end_offset=-1,
        size=-1,
        digest=-1,
        max_timestamp=-1,
        appended_ms=-1,
        holders=(),
        seal_epoch=epoch,
        recoverer=me[0],
        accepts_loss=False,
    )
