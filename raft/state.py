"""The replicated metadata: immutable values, and what their hash is (pure).

`apply.py` changes them: `apply(state, index, envelope) -> (state, Applied)`. Views share structure:
a change to one topic copies that topic and one bucket of one map, so a view may be kept and read by
any thread for as long as it likes.
"""

import hashlib
from collections.abc import Iterator, Mapping
from enum import IntEnum, StrEnum
from typing import Any

import msgspec

from raft.commands import Applied, Uuid
from raft.pmap import PMap

EPOCH_FIRST = 1
"""Leader epoch of a topic's first segment; 0 stays free for "none" (`Segment.seal_epoch`)."""
SID_FIRST = 1
PRODUCER_ID_FIRST = 1000
"""Never 0: too many clients and tools take 0 for "none"."""

TOMBSTONES_MAX = 16_384
"""Deleted topics remembered. A node that was away for more deletions than that keeps files nobody
misses."""
GROUPS_CONFIGURED_MAX = 10_000
"""Consumer groups with configs of their own."""
CLIENTS_MAX = 256
"""Sessions remembered; the one that has been silent longest goes first. A cluster has a few per
node."""
ANSWERS_MAX = 64
"""Answers kept per session, and therefore how far ahead of its oldest unanswered command a client
may run."""


class Refusal(StrEnum):
    """Why a command changed nothing. The words are part of the protocol; texts for people are made
    elsewhere."""

    BAD_COMMAND = "bad command"
    UNREADABLE = "unreadable"
    FORGOTTEN = "forgotten"
    ABANDONED = "abandoned"
    WRONG_CLUSTER = "wrong cluster"
    UNKNOWN_BROKER = "unknown broker"
    NODE_ID_TAKEN = "node id taken"
    STALE_INCARNATION = "stale incarnation"
    FENCED_BROKER = "fenced broker"
    STALE_DISK = "stale disk"
    UNKNOWN_TOPIC = "unknown topic"
    TOPIC_EXISTS = "topic exists"
    NAME_COLLIDES = "name collides"
    TOPIC_DELETED = "topic deleted"
    STALE_REVISION = "stale revision"
    TOO_MANY_CONFIGS = "too many configs"
    STALE_CONFIGS = "stale configs"
    STALE_SEGMENT = "stale segment"
    STALE_EPOCH = "stale epoch"
    NOT_OPEN = "not open"
    NOT_SEALING = "not sealing"
    NOT_STUCK = "not stuck"
    NOT_SEALED = "not sealed"
    BAD_END = "bad end"
    TOO_FEW_HOLDERS = "too few holders"
    LAST_BROKER = "last broker"
    NOT_LEAVING = "not leaving"
    STILL_NEEDED = "still needed"
    IDS_EXHAUSTED = "ids exhausted"


REFUSALS = frozenset(word.value for word in Refusal)


class SegmentState(IntEnum):
    OPEN = 1
    SEALING = 2
    SEALED = 3


class Broker(msgspec.Struct, frozen=True, array_like=True):
    node: int
    incarnation: int
    """Raft index of its RegisterBroker."""
    disk: Uuid
    raft_host: str
    raft_port: int
    listeners: tuple[tuple[str, str, int], ...]
    rack: str | None
    fenced: bool
    leaving: bool = False
    """It is to be taken out for good: it gets no more copies."""


class Segment(msgspec.Struct, frozen=True, array_like=True):
    sid: int
    state: SegmentState
    epoch: int
    """Leader epoch of its writer's batches."""
    writer: int
    writer_incarnation: int
    """Node and incarnation: the only process that may ever assign offsets here."""
    replicas: tuple[int, ...]
    void: tuple[tuple[int, Uuid], ...]
    """(node, disk) that cannot vouch for this segment any more."""
    base_offset: int
    end_offset: int
    """-1 until SEALED, like the three below."""
    size: int
    digest: int
    max_timestamp: int
    holders: tuple[tuple[int, Uuid], ...]
    """(node, disk) known to hold the whole sealed copy."""
    seal_epoch: int
    recoverer: int
    appended_ms: int = -1
    """See `SealedEnd.appended_ms`; -1 until SEALED."""
    accepts_loss: bool = False
    """An operator has accepted that acknowledged records may be missing: see `AcceptLoss`."""


class Topic(msgspec.Struct, frozen=True, array_like=True):
    topic_id: Uuid
    name: str
    configs: dict[str, str]
    """Never mutated in place."""
    config_revision: int
    replication_factor: int
    internal: bool
    pinned: bool
    epoch: int
    next_sid: int
    log_start_offset: int
    segments: tuple[Segment, ...]
    """At least one; only the last may be not SEALED. base(n+1) == end(n)."""
    deleted_up_to_sid: int
    """Every sid <= this and not in `segments` was deleted or replaced on purpose."""
    created_revision: int

    @property
    def last(self) -> Segment:
        """The only segment that may be open."""
        return self.segments[-1]

    def segment(self, sid: int) -> Segment | None:
        """The link with this id, None when it is not (or no longer) in the chain."""
        return next((segment for segment in self.segments if segment.sid == sid), None)

    def is_emptied(self, segment: Segment) -> bool:
        """Its records are deleted. It stays in the chain while its successor may have none yet, for
        the idempotence window as of its end."""
        return segment.state is SegmentState.SEALED and segment.end_offset <= self.log_start_offset

    @property
    def kept(self) -> tuple[Segment, ...]:
        """The chain without those that are emptied."""
        return tuple(segment for segment in self.segments if not self.is_emptied(segment))


class Client(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of one client, so that a repeated command gets its first answer."""

    last_revision: int
    floor: int
    """Sequences up to this one are forgotten: a repeat is refused, never applied again."""
    answers: tuple[tuple[int, Applied], ...]
    """(sequence, answer), in order of arrival."""


class ClusterState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the cluster agrees on, as of one raft index."""

    cluster_id: str = ""
    """"" until FormCluster."""
    brokers: PMap[int, Broker] = PMap()
    topics: PMap[Uuid, Topic] = PMap()
    names: PMap[str, Uuid] = PMap()
    group_configs: PMap[str, dict[str, str]] = PMap()
    """By group, what is set for it; never mutated in place. Groups themselves live elsewhere."""
    deleted_topics: Mapping[Uuid, str] = {}
    """Tombstones, oldest first: topic id to the name it had."""
    next_producer_id: int = PRODUCER_ID_FIRST
    revision: int = 0
    """Raft index of the last command applied."""
    clients: PMap[bytes, Client] = PMap()
    trail: int = 0
    """Running 64-bit hash over every command applied, its answer and every value it wrote. Two
    nodes with equal revision and different trails have diverged; comparing costs nothing, unlike
    `state_hash`."""

    @property
    def staying_count(self) -> int:
        """Brokers that are not leaving, fenced ones included: the size of the cluster."""
        return sum(not broker.leaving for broker in self.brokers.values())

    def topic_named(self, name: str) -> Topic | None:
        """None if no topic has this name."""
        topic_id = self.names.get(name)
        return None if topic_id is None else self.topics[topic_id]

    def writer_of(self, segment: Segment) -> Broker | None:
        """The process that may write it while it is open, fenced or not. None if that is gone: its
        node has left, or was started again."""
        broker = self.brokers.get(segment.writer)
        is_same = broker is not None and broker.incarnation == segment.writer_incarnation
        return broker if is_same else None

    def holders_of(self, segment: Segment) -> list[Broker]:
        """Who holds a whole copy of a sealed segment, fenced or not. Not a node whose disk was
        replaced since."""
        found = ((self.brokers.get(node), disk) for node, disk in segment.holders)
        return [broker for broker, disk in found if broker is not None and broker.disk == disk]


EMPTY = ClusterState()

_encode = msgspec.msgpack.Encoder().encode


def parts(state: ClusterState) -> Iterator[tuple[str, Any]]:
    """The state as a canonical sequence of (kind, value): the one order in which it is hashed and
    stored.

    Topics come one by one, so that neither hashing nor storing a big state holds up a thread for
    long.
    """
    yield "head", (state.cluster_id, state.next_producer_id, state.revision, state.trail)
    yield "brokers", [state.brokers[node] for node in sorted(state.brokers)]
    yield "deleted", list(state.deleted_topics.items())
    if state.group_configs:
        yield (
            "groups",
            [
                (group, dict(sorted(configs.items())))
                for group, configs in sorted(state.group_configs.items())
            ],
        )
    for client in sorted(state.clients.items()):
        yield "client", client
    for _topic_id, topic in sorted(state.topics.items()):
        if len(topic.configs) > 1:
            topic = msgspec.structs.replace(topic, configs=dict(sorted(topic.configs.items())))
        yield "topic", topic


def state_hash(state: ClusterState) -> int:
    """64 bits over the whole state; equal for equal states, in every process on every machine."""
    digest = hashlib.blake2b(digest_size=8)
    for kind, value in parts(state):
        digest.update(kind.encode())
        digest.update(_encode(value))
    return int.from_bytes(digest.digest(), "big")
