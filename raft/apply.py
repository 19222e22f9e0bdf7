"""How a command changes the state: one function per command, and the table that names them (pure).

`apply` is total and deterministic: same log, same state, same hash, on every node; it reads no
clock and no disk, and it never raises. Every command is a compare-and-set, so each function has the
same shape: say no (`_Refused`) while anything the sender believed is not so, and only then write to
the draft. A refused command leaves no trace but its answer.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from raft.commands import (
    Abandon,
    AddHolder,
    AllocateProducerIds,
    Applied,
    Barrier,
    BeginSeal,
    BeginSealMany,
    ChangeConfig,
    Command,
    CommitRoll,
    CommitSealMany,
    CreateTopic,
    DeletePrefix,
    DeleteTopic,
    Envelope,
    FenceBroker,
    FormCluster,
    Next,
    RegisterBroker,
    RemoveHolder,
    SealedEnd,
    SealItem,
    Uuid,
)
from raft.pmap import PMap
from raft.state import (
    ANSWERS_MAX,
    CLIENTS_MAX,
    EPOCH_FIRST,
    SID_FIRST,
    TOMBSTONES_MAX,
    Broker,
    Client,
    ClusterState,
    Refusal,
    Segment,
    SegmentState,
    Topic,
)

NUMBER_MAX = 2**62
"""Bound of every offset, size and id that a client hands in: what is stored must always fit a
signed 64-bit field."""
NODE_MAX = 2**31 - 1
"""Kafka's node ids are int32."""
REPLICAS_MAX = 31
LISTENERS_MAX = 16
NAME_SIZE_MAX = 249
"""Kafka's limit for topic names."""
CLUSTER_ID_SIZE_MAX = 64
CONFIGS_MAX = 128
"""Configs set for one topic; Kafka knows about forty."""
CONFIGS_SIZE_MAX = 32 * 1024
"""Characters of keys and values together."""

_replace = msgspec.structs.replace
_encode = msgspec.msgpack.Encoder().encode


class _Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


def _require(holds: bool, refusal: Refusal) -> None:
    if not holds:
        raise _Refused(refusal)


class _Draft:
    """The next state while one command writes to it. Remembers what was written, for the trail."""

    def __init__(self, state: ClusterState, index: int) -> None:
        self.state = state
        self.index = index
        self.written: list[object] = []

    def set(self, **fields: Any) -> None:
        self.state = _replace(self.state, **fields)

    def put_topic(self, topic: Topic) -> None:
        """Note it with the segments that are new or changed: a chain may be long, and most of it
        never changes again."""
        before = self.state.topics.get(topic.topic_id)
        old = set() if before is None else {id(segment) for segment in before.segments}
        fresh = tuple(segment for segment in topic.segments if id(segment) not in old)
        self.written.append((_replace(topic, segments=fresh), len(topic.segments)))
        self.set(topics=self.state.topics.set(topic.topic_id, topic))

    def put_broker(self, broker: Broker) -> None:
        self.written.append(broker)
        self.set(brokers=self.state.brokers.set(broker.node, broker))

    def topic(self, topic_id: Uuid) -> Topic:
        topic = self.state.topics.get(topic_id)
        if topic is None:
            raise _Refused(Refusal.UNKNOWN_TOPIC)
        return topic

    def applied(self, value: int = 0, *items: tuple[Uuid, int, int]) -> Applied:
        return Applied(refusal="", revision=self.index, value=value, items=items)


# ---- the cluster and its brokers ---------------------------------------------------------------


def _form_cluster(draft: _Draft, command: FormCluster) -> Applied:
    _require(0 < len(command.cluster_id) <= CLUSTER_ID_SIZE_MAX, Refusal.BAD_COMMAND)
    _require(draft.state.cluster_id in ("", command.cluster_id), Refusal.WRONG_CLUSTER)
    draft.set(cluster_id=command.cluster_id)
    return draft.applied()


def _register_broker(draft: _Draft, command: RegisterBroker) -> Applied:
    """A node id whose other disk is still believed alive is refused: two machines must not share
    one identity.

    The machine that really lost its disk asks again once the old incarnation is fenced.
    """
    _require(0 <= command.node <= NODE_MAX and len(command.disk) == 16, Refusal.BAD_COMMAND)
    _require(
        0 <= command.raft_port <= 65535 and len(command.listeners) <= LISTENERS_MAX,
        Refusal.BAD_COMMAND,
    )
    _require(all(0 <= port <= 65535 for _, _, port in command.listeners), Refusal.BAD_COMMAND)
    before = draft.state.brokers.get(command.node)
    if before is not None:
        _require(before.disk == command.disk or before.fenced, Refusal.NODE_ID_TAKEN)
        if before.disk != command.disk or not command.clean:
            _void_open_segments(draft, (before.node, before.disk))
    draft.put_broker(
        Broker(
            node=command.node,
            incarnation=draft.index,
            disk=command.disk,
            raft_host=command.raft_host,
            raft_port=command.raft_port,
            listeners=command.listeners,
            rack=command.rack,
            fenced=False,
        )
    )
    return draft.applied(draft.index)


def _void_open_segments(draft: _Draft, lost: tuple[int, Uuid]) -> None:
    for topic_id in sorted(draft.state.topics):
        topic = draft.state.topics[topic_id]
        last = topic.last
        if lost[0] in last.replicas and lost not in last.void:
            draft.put_topic(_with_last(topic, _replace(last, void=(*last.void, lost))))


def _fence_broker(draft: _Draft, command: FenceBroker) -> Applied:
    broker = draft.state.brokers.get(command.node)
    if broker is None:
        raise _Refused(Refusal.UNKNOWN_BROKER)
    _require(broker.incarnation == command.incarnation, Refusal.STALE_INCARNATION)
    draft.put_broker(_replace(broker, fenced=True))
    return draft.applied()


# ---- topics ------------------------------------------------------------------------------------


def _create_topic(draft: _Draft, command: CreateTopic) -> Applied:
    _require(
        len(command.topic_id) == 16 and 0 < len(command.name) <= NAME_SIZE_MAX, Refusal.BAD_COMMAND
    )
    _require(1 <= command.replication_factor <= REPLICAS_MAX, Refusal.BAD_COMMAND)
    _check_configs(command.configs)
    _require(command.topic_id not in draft.state.deleted_topics, Refusal.TOPIC_DELETED)
    taken_by = draft.state.names.get(command.name)
    if taken_by == command.topic_id:
        topic = draft.state.topics[taken_by]
        return draft.applied(topic.epoch, (topic.topic_id, topic.last.sid, topic.epoch))
    _require(taken_by is None and command.topic_id not in draft.state.topics, Refusal.TOPIC_EXISTS)
    _check_next(draft.state, command.next)
    topic = Topic(
        topic_id=command.topic_id,
        name=command.name,
        configs=command.configs,
        config_revision=0,
        replication_factor=command.replication_factor,
        internal=command.internal,
        pinned=command.pinned,
        epoch=EPOCH_FIRST,
        next_sid=SID_FIRST + 1,
        log_start_offset=0,
        segments=(_opened(SID_FIRST, EPOCH_FIRST, 0, command.next),),
        deleted_up_to_sid=0,
        created_revision=draft.index,
    )
    draft.set(names=draft.state.names.set(topic.name, topic.topic_id))
    draft.put_topic(topic)
    return draft.applied(topic.epoch, (topic.topic_id, SID_FIRST, topic.epoch))


def _delete_topic(draft: _Draft, command: DeleteTopic) -> Applied:
    """Deleting what is already deleted is fine: that is what the sender wanted."""
    if command.topic_id in draft.state.deleted_topics:
        return draft.applied()
    topic = draft.topic(command.topic_id)
    tombstones = {**draft.state.deleted_topics, topic.topic_id: topic.name}
    if len(tombstones) > TOMBSTONES_MAX:
        del tombstones[next(iter(tombstones))]
    draft.set(
        topics=draft.state.topics.remove(topic.topic_id),
        names=draft.state.names.remove(topic.name),
        deleted_topics=tombstones,
    )
    return draft.applied()


def _change_config(draft: _Draft, command: ChangeConfig) -> Applied:
    topic = draft.topic(command.topic_id)
    _require(topic.config_revision == command.expect_revision, Refusal.STALE_REVISION)
    changed: dict[str, str | None] = {**topic.configs, **command.changes}
    configs = {key: value for key, value in changed.items() if value is not None}
    _check_configs(configs)
    topic = _replace(topic, configs=configs, config_revision=topic.config_revision + 1)
    draft.put_topic(topic)
    return draft.applied(topic.config_revision)


def _check_configs(configs: Mapping[str, str]) -> None:
    size = sum(len(key) + len(value) for key, value in configs.items())
    _require(len(configs) <= CONFIGS_MAX and size <= CONFIGS_SIZE_MAX, Refusal.TOO_MANY_CONFIGS)


def _delete_prefix(draft: _Draft, command: DeletePrefix) -> Applied:
    """The open segment never leaves: the log start stops at its base. A start that is already past
    is no news."""
    topic = draft.topic(command.topic_id)
    log_start_offset = max(
        topic.log_start_offset, min(command.log_start_offset, topic.last.base_offset)
    )
    sealed = topic.segments[:-1]
    gone = [segment.sid for segment in sealed if segment.end_offset <= log_start_offset]
    if log_start_offset != topic.log_start_offset or gone:
        draft.put_topic(
            _replace(
                topic,
                log_start_offset=log_start_offset,
                segments=topic.segments[len(gone) :],
                deleted_up_to_sid=max(topic.deleted_up_to_sid, *gone)
                if gone
                else topic.deleted_up_to_sid,
            )
        )
    return draft.applied(log_start_offset)


# ---- seal, roll, open --------------------------------------------------------------------------


def _opened(sid: int, epoch: int, base_offset: int, opens: Next) -> Segment:
    return Segment(
        sid=sid,
        state=SegmentState.OPEN,
        epoch=epoch,
        writer=opens.writer,
        writer_incarnation=opens.writer_incarnation,
        replicas=opens.replicas,
        void=(),
        base_offset=base_offset,
        end_offset=-1,
        size=-1,
        digest=-1,
        max_timestamp=-1,
        holders=(),
        seal_epoch=0,
        recoverer=-1,
    )


def _with_last(topic: Topic, last: Segment) -> Topic:
    return _replace(topic, segments=(*topic.segments[:-1], last))


def _check_next(state: ClusterState, opens: Next) -> None:
    """The next writer must be the very process that is registered, and nobody may have fenced it
    meanwhile."""
    writer = state.brokers.get(opens.writer)
    if writer is None or any(node not in state.brokers for node in opens.replicas):
        raise _Refused(Refusal.UNKNOWN_BROKER)
    _require(writer.incarnation == opens.writer_incarnation, Refusal.STALE_INCARNATION)
    _require(not writer.fenced, Refusal.FENCED_BROKER)
    distinct = len(set(opens.replicas)) == len(opens.replicas) <= REPLICAS_MAX
    _require(distinct and opens.writer in opens.replicas, Refusal.BAD_COMMAND)


def _check_end(
    state: ClusterState, segment: Segment, end: SealedEnd, holders: tuple[tuple[int, Uuid], ...]
) -> None:
    """A sealed segment with records is durable on a majority of its replica set before anybody may
    rely on its end."""
    empty = end.end_offset == segment.base_offset
    _require(segment.base_offset <= end.end_offset <= NUMBER_MAX, Refusal.BAD_END)
    _require(end.size == 0 if empty else 0 < end.size <= NUMBER_MAX, Refusal.BAD_END)
    _require(0 <= end.digest < 2**32 and -1 <= end.max_timestamp <= NUMBER_MAX, Refusal.BAD_END)
    _require(-1 <= end.appended_ms <= NUMBER_MAX, Refusal.BAD_END)
    nodes = {node for node, _ in holders}
    _require(len(nodes) == len(holders) <= REPLICAS_MAX, Refusal.BAD_COMMAND)
    _require(all(_disk_of(state, node) == disk for node, disk in holders), Refusal.STALE_DISK)
    _require(empty or len(holders) >= len(segment.replicas) // 2 + 1, Refusal.TOO_FEW_HOLDERS)


def _disk_of(state: ClusterState, node: int) -> Uuid | None:
    broker = state.brokers.get(node)
    return None if broker is None else broker.disk


def _succeed(
    topic: Topic, end: SealedEnd, holders: tuple[tuple[int, Uuid], ...], opens: Next
) -> Topic:
    """Close the last segment at `end`, open the next. An empty one leaves no trace but its id."""
    last = topic.last
    successor = _opened(topic.next_sid, topic.epoch, end.end_offset, opens)
    if end.end_offset == last.base_offset:
        kept = topic.segments[:-1]
        deleted_up_to_sid = last.sid
    else:
        sealed = _replace(
            last,
            state=SegmentState.SEALED,
            end_offset=end.end_offset,
            size=end.size,
            digest=end.digest,
            max_timestamp=end.max_timestamp,
            appended_ms=end.appended_ms,
            holders=tuple(sorted(holders)),
        )
        kept = (*topic.segments[:-1], sealed)
        deleted_up_to_sid = topic.deleted_up_to_sid
    return _replace(
        topic,
        next_sid=topic.next_sid + 1,
        segments=(*kept, successor),
        deleted_up_to_sid=deleted_up_to_sid,
    )


def _sealing(topic: Topic, recoverer: int) -> Topic:
    """The next attempt to seal: a higher epoch orders it after every earlier one."""
    epoch = topic.epoch + 1
    last = _replace(topic.last, state=SegmentState.SEALING, seal_epoch=epoch, recoverer=recoverer)
    return _replace(_with_last(topic, last), epoch=epoch)


def _begin_seal(draft: _Draft, command: BeginSeal) -> Applied:
    topic = draft.topic(command.topic_id)
    _require(topic.last.sid == command.sid, Refusal.STALE_SEGMENT)
    _require(topic.epoch == command.expect_epoch, Refusal.STALE_EPOCH)
    _require(command.recoverer in draft.state.brokers, Refusal.UNKNOWN_BROKER)
    topic = _sealing(topic, command.recoverer)
    draft.put_topic(topic)
    return draft.applied(topic.epoch)


def _begin_seal_many(draft: _Draft, command: BeginSealMany) -> Applied:
    broker = draft.state.brokers.get(command.node)
    if broker is None:
        raise _Refused(Refusal.UNKNOWN_BROKER)
    _require(broker.incarnation == command.incarnation, Refusal.STALE_INCARNATION)
    items = []
    for topic_id in sorted(draft.state.topics):
        topic = draft.state.topics[topic_id]
        if (
            topic.last.writer == command.node
            and topic.last.writer_incarnation < command.incarnation
        ):
            topic = _sealing(topic, command.node)
            draft.put_topic(topic)
            items.append((topic_id, topic.last.sid, topic.epoch))
    return draft.applied(0, *items)


def _commit_seal_many(draft: _Draft, command: CommitSealMany) -> Applied:
    return draft.applied(0, *(_commit_seal(draft, item) for item in command.items))


def _commit_seal(draft: _Draft, item: SealItem) -> tuple[Uuid, int, int]:
    """(topic id, new sid, its epoch), or sid -1 and the topic's epoch when this item alone is
    refused."""
    epoch = -1
    try:
        topic = draft.topic(item.topic_id)
        epoch = topic.epoch
        _require(topic.last.sid == item.sid, Refusal.STALE_SEGMENT)
        _require(topic.last.state is SegmentState.SEALING, Refusal.NOT_SEALING)
        _require(topic.last.seal_epoch == item.seal_epoch, Refusal.STALE_EPOCH)
        _check_end(draft.state, topic.last, item.end, item.holders)
        _check_next(draft.state, item.next)
    except _Refused:
        return item.topic_id, -1, epoch
    topic = _succeed(topic, item.end, item.holders, item.next)
    draft.put_topic(topic)
    return topic.topic_id, topic.last.sid, topic.epoch


def _commit_roll(draft: _Draft, command: CommitRoll) -> Applied:
    topic = draft.topic(command.topic_id)
    _require(topic.last.sid == command.sid, Refusal.STALE_SEGMENT)
    _require(topic.last.state is SegmentState.OPEN, Refusal.NOT_OPEN)
    _require(topic.epoch == command.open_epoch, Refusal.STALE_EPOCH)
    _check_end(draft.state, topic.last, command.end, command.holders)
    _check_next(draft.state, command.next)
    topic = _succeed(
        _replace(topic, epoch=topic.epoch + 1), command.end, command.holders, command.next
    )
    draft.put_topic(topic)
    return draft.applied(topic.last.sid, (topic.topic_id, topic.last.sid, topic.epoch))


# ---- who holds a sealed segment ----------------------------------------------------------------


def _sealed(topic: Topic, sid: int) -> Segment:
    segment = topic.segment(sid)
    if segment is None:
        raise _Refused(Refusal.STALE_SEGMENT)
    _require(segment.state is SegmentState.SEALED, Refusal.NOT_SEALED)
    return segment


def _put_holders(
    draft: _Draft, topic: Topic, sid: int, holders: tuple[tuple[int, Uuid], ...]
) -> None:
    segments = tuple(_replace(s, holders=holders) if s.sid == sid else s for s in topic.segments)
    draft.put_topic(_replace(topic, segments=segments))


def _add_holder(draft: _Draft, command: AddHolder) -> Applied:
    topic = draft.topic(command.topic_id)
    segment = _sealed(topic, command.sid)
    _require(command.node in draft.state.brokers, Refusal.UNKNOWN_BROKER)
    _require(_disk_of(draft.state, command.node) == command.disk, Refusal.STALE_DISK)
    holder = (command.node, command.disk)
    if holder not in segment.holders:
        _put_holders(draft, topic, command.sid, tuple(sorted((*segment.holders, holder))))
    return draft.applied()


def _remove_holder(draft: _Draft, command: RemoveHolder) -> Applied:
    """Only while enough others remain: as many as the topic wants, or every live node if there are
    fewer."""
    topic = draft.topic(command.topic_id)
    segment = _sealed(topic, command.sid)
    brokers = draft.state.brokers
    others = tuple(holder for holder in segment.holders if holder != (command.node, command.disk))
    if len(others) == len(segment.holders):
        return draft.applied()
    live = {node for node, broker in brokers.items() if not broker.fenced}
    good = sum(node in live and brokers[node].disk == disk for node, disk in others)
    is_lost = _disk_of(draft.state, command.node) != command.disk
    _require(
        good >= (1 if is_lost else max(1, min(topic.replication_factor, len(live)))),
        Refusal.TOO_FEW_HOLDERS,
    )
    _put_holders(draft, topic, command.sid, others)
    return draft.applied()


# ---- the rest ----------------------------------------------------------------------------------


def _allocate_producer_ids(draft: _Draft, command: AllocateProducerIds) -> Applied:
    first = draft.state.next_producer_id
    _require(1 <= command.count <= 10_000, Refusal.BAD_COMMAND)
    _require(first + command.count <= NUMBER_MAX, Refusal.IDS_EXHAUSTED)
    draft.set(next_producer_id=first + command.count)
    return draft.applied(first)


def _barrier(draft: _Draft, _command: Barrier) -> Applied:
    return draft.applied()


def _abandon(_draft: _Draft, _command: Abandon) -> Applied:
    raise _Refused(Refusal.ABANDONED)


TRANSITIONS: Mapping[type[Command], Callable[[_Draft, Any], Applied]] = {
    FormCluster: _form_cluster,
    RegisterBroker: _register_broker,
    FenceBroker: _fence_broker,
    CreateTopic: _create_topic,
    DeleteTopic: _delete_topic,
    ChangeConfig: _change_config,
    DeletePrefix: _delete_prefix,
    BeginSeal: _begin_seal,
    BeginSealMany: _begin_seal_many,
    CommitSealMany: _commit_seal_many,
    CommitRoll: _commit_roll,
    AddHolder: _add_holder,
    RemoveHolder: _remove_holder,
    AllocateProducerIds: _allocate_producer_ids,
    Barrier: _barrier,
    Abandon: _abandon,
}


def apply(state: ClusterState, index: int, envelope: Envelope) -> tuple[ClusterState, Applied]:
    """One committed command. `index` is its raft index, above `state.revision`.

    Total: whatever a well-typed envelope says, the answer is a state and an `Applied`, the same on
    every node. A (client, sequence) seen before gets its first answer and changes nothing.
    """
    if len(envelope.client) != 16 or not 1 <= envelope.sequence <= NUMBER_MAX:
        return _replace(state, revision=index), _refused(index, Refusal.BAD_COMMAND)
    client = state.clients.get(envelope.client)
    if client is not None:
        first = next(
            (answer for sequence, answer in client.answers if sequence == envelope.sequence), None
        )
        if first is not None:
            return _replace(state, revision=index), first
        if envelope.sequence <= client.floor:
            return _replace(state, revision=index), _refused(index, Refusal.FORGOTTEN)
    draft = _Draft(state, index)
    try:
        answer = TRANSITIONS[type(envelope.command)](draft, envelope.command)
    except _Refused as refused:
        draft = _Draft(state, index)
        answer = _refused(index, refused.refusal)
    trail = _trail(state.trail, index, envelope, answer, draft.written)
    clients = _remember(draft.state.clients, client, envelope, answer)
    return _replace(draft.state, revision=index, clients=clients, trail=trail), answer


def refuse_unreadable(state: ClusterState, index: int) -> tuple[ClusterState, Applied]:
    """A committed entry that is no envelope this program can read: skipped, by every node alike."""
    return _replace(state, revision=index), _refused(index, Refusal.UNREADABLE)


def _refused(index: int, refusal: Refusal) -> Applied:
    return Applied(refusal=refusal.value, revision=index)


def _trail(
    trail: int, index: int, envelope: Envelope, answer: Applied, written: list[object]
) -> int:
    digest = hashlib.blake2b(trail.to_bytes(8, "big"), digest_size=8)
    digest.update(_encode((index, envelope, answer)))
    for value in written:
        digest.update(_encode(value))
    return int.from_bytes(digest.digest(), "big")


def _remember(
    clients: PMap[bytes, Client], client: Client | None, envelope: Envelope, answer: Applied
) -> PMap[bytes, Client]:
    """Keep the answer for a repeat. Whatever falls out of the window raises the floor, so it can
    never run twice."""
    floor = 0 if client is None else client.floor
    answers = (*(() if client is None else client.answers), (envelope.sequence, answer))
    if len(answers) > ANSWERS_MAX:
        lowest = min(sequence for sequence, _ in answers)
        floor = max(floor, lowest)
        answers = tuple(entry for entry in answers if entry[0] > floor)
    if client is None and len(clients) >= CLIENTS_MAX:
        silent = min(clients, key=lambda key: (clients[key].last_revision, key))
        clients = clients.remove(silent)
    return clients.set(envelope.client, Client(answer.revision, floor, answers))
