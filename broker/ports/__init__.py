"""The seams of the broker: what the two protocols ask of the log, and what a connection asks of a
protocol.

exchange.py   a connection and its protocol: frames, replies, room in memory
views.py      what there is, as values
log.py        one partition
cluster.py    topics, nodes and leadership
positions.py  where consumer groups stand

Everything here is an interface or a value; the implementations live one layer down each
(`controller`, `groups`, `net`). Offsets are Kafka offsets; sizes are bytes; `_ms` is milliseconds
since 1970 unless the name says otherwise.
"""

from broker.ports.cluster import AdminController, Controller, EditConfigs
from broker.ports.exchange import (
    Buffer,
    Clock,
    FilePart,
    Finish,
    Memory,
    Pending,
    Reply,
    Sendable,
    Session,
    Unfinished,
    Wake,
)
from broker.ports.log import (
    ACKS_ALL,
    ACKS_LEADER,
    ACKS_NONE,
    AnyPartition,
    Appended,
    Partition,
    Produced,
    QuickPartition,
    Readable,
    TimestampedOffset,
    Waiter,
)
from broker.ports.positions import GroupOffsets, QuickPosition
from broker.ports.views import BrokerAddress, LogDir, NodeStatus, SegmentView, StoredLog, TopicView

__all__ = [
    "ACKS_ALL",
    "ACKS_LEADER",
    "ACKS_NONE",
    "AdminController",
    "AnyPartition",
    "Appended",
    "BrokerAddress",
    "Buffer",
    "Clock",
    "Controller",
    "EditConfigs",
    "FilePart",
    "Finish",
    "GroupOffsets",
    "LogDir",
    "Memory",
    "NodeStatus",
    "Partition",
    "Pending",
    "Produced",
    "QuickPartition",
    "QuickPosition",
    "Readable",
    "Reply",
    "SegmentView",
    "Sendable",
    "Session",
    "StoredLog",
    "TimestampedOffset",
    "TopicView",
    "Unfinished",
    "Waiter",
    "Wake",
]
