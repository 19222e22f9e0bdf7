"""What there is, as values: nodes, topics, segments, disks."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A live node as one listener's clients should dial it."""

    node_id: int
    host: str
    port: int
    rack: str | None = None


@dataclass(frozen=True, slots=True)
class SegmentView:
    """One link of a topic's chain."""

    sid: int
    base_offset: int
    end_offset: int | None
    """One past the last offset; None while the segment is open."""
    writer: int
    leader_epoch: int
    size: int | None
    """Bytes, once sealed."""


@dataclass(frozen=True, slots=True)
class TopicView:
    """A topic as the replicated metadata knows it at one moment."""

    name: str
    topic_id: UUID
    leader_id: int
    """-1 while the last segment is being sealed."""
    leader_epoch: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    offline: tuple[int, ...]
    is_internal: bool
    replication_factor: int
    configs: Mapping[str, str]
    """Only what was set for this topic; defaults are in `controller/topic_config.py`."""
    log_start_offset: int
    segments: tuple[SegmentView, ...]


@dataclass(frozen=True, slots=True)
class StoredLog:
    """What this node's disk holds of one topic."""

    topic: str
    size: int
    """Bytes of records."""
    offset_lag: int
    """Offsets that this copy lacks of what is known to be committed."""


@dataclass(frozen=True, slots=True)
class LogDir:
    """The directory in which this node keeps its logs."""

    path: str
    size: int
    free_size: int
    """Bytes of the file system, and of it what is free for us; -1 when they cannot be told."""
    logs: tuple[StoredLog, ...]


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What the operator asks first."""

    node_id: int
    cluster_id: str
    backend: str
    backend_reason: str
    fsync: str
    data_dir: str
    ready: bool
    detail: str
    """Why not ready, in words; empty when ready."""
