"""What a node shows of itself: samples for `/metrics`, and the answer of METRICS.

Everything is read at the moment somebody asks, but for the disk, which may hang; nothing here is
counted on the way of a request.
"""

import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from broker.controller.controller import LocalController
from broker.net.budget import Budget
from broker.net.limits import NetStats
from broker.ports import Clock, NodeStatus
from broker.replication.space import Space
from broker.server.overview import under_replicated, unreadable
from broker.telemetry import metrics
from broker.telemetry.metrics import Sample
from broker.telemetry.version import walrus_version
from engine.open_files import OpenFiles
from raft.node import RaftNode
from raft.state import ClusterState


class Samples:
    """Made once per node; `collect` and `native` are called on the event loop."""

    def __init__(
        self,
        *,
        status: Callable[[], NodeStatus],
        controller: LocalController,
        state: Callable[[], ClusterState],
        net: NetStats,
        budget: Budget,
        open_files: OpenFiles,
        space: Space,
        raft: RaftNode,
        clock: Clock,
    ) -> None:
        self._status = status
        self._controller = controller
        self._state = state
        self._net = net
        self._budget = budget
        self._open_files = open_files
        self._space = space
        self._raft = raft
        self._clock = clock
        self._started_at = clock.monotonic()
        self._build = (walrus_version(), platform.python_version())

    def collect(self) -> Iterator[Sample]:
        """For the metrics registry."""
        status = self._status()
        yield Sample(metrics.BUILD_INFO, 1, self._build)
        yield Sample(metrics.UPTIME, self._clock.monotonic() - self._started_at)
        yield Sample(metrics.READY, int(status.ready))
        yield Sample(metrics.STORAGE_BACKEND, 1, (status.backend,))
        yield Sample(metrics.STORAGE_FSYNC, 1, (status.fsync,))
        yield from self._disk()
        yield from self._network()
        yield from self._cluster()

    def _disk(self) -> Iterator[Sample]:
        if (usage := self._space.usage) is not None:
            yield Sample(metrics.DISK_TOTAL, usage.total_size)
            yield Sample(metrics.DISK_FREE, usage.free_size)
        yield Sample(metrics.LOG_SIZE, self._controller.stored_size)
        yield Sample(metrics.OPEN_LOGS, self._open_files.count)
        yield Sample(metrics.WAITING_FOR_LOGS, self._open_files.waiting_count)

    def _network(self) -> Iterator[Sample]:
        yield Sample(metrics.IN_FLIGHT, self._budget.used_size)
        for name, stats in self._net.listeners.items():
            yield Sample(metrics.CONNECTIONS, stats.connections, (name,))
            yield Sample(metrics.CONNECTIONS_TOTAL, stats.accepted, (name,))
            yield Sample(metrics.CONNECTIONS_REFUSED, stats.refused, (name,))
            yield Sample(metrics.PEER_ERRORS, stats.peer_errors, (name,))
            yield Sample(metrics.FAULTS, stats.faults, (name,))
            yield Sample(metrics.BYTES, stats.received_size, (name, "received"))
            yield Sample(metrics.BYTES, stats.sent_size, (name, "sent"))

    def _cluster(self) -> Iterator[Sample]:
        topics = self._controller.topics()
        states = Counter(
            "open" if segment.end_offset is None else "sealed"
            for topic in topics
            for segment in topic.segments
        )
        for state in ("open", "sealed"):
            yield Sample(metrics.SEGMENTS, states[state], (state,))
        yield Sample(metrics.TOPICS, len(topics))
        live = {broker.node_id for broker in self._controller.brokers("native")}
        yield Sample(metrics.BROKERS, len(live))
        yield Sample(metrics.UNAVAILABLE, sum(topic.leader_id not in live for topic in topics))
        yield Sample(metrics.UNDER_REPLICATED, under_replicated(self._state()))
        yield Sample(metrics.UNREADABLE, unreadable(self._state()))
        yield Sample(metrics.OFFLINE, sum(len(topic.offline) for topic in topics))
        yield Sample(metrics.RAFT_COMMIT, self._raft.commit_index)

    def native(self) -> Mapping[str, object]:
        """What METRICS adds to the node's status: Raft in the original's words, and plain
        counts."""
        raft = self._raft.status()
        return {
            "current_leader": self._controller.node_id if raft["is_leader"] else None,
            "state": "Leader" if raft["is_leader"] else "Follower",
            "current_term": raft["term"],
            "last_log_index": raft["last_index"],
            "last_applied": raft["applied_index"],
            "membership_config": {
                "membership": {
                    "configs": [[node.node_id for node in self._controller.brokers("native")]],
                    "nodes": {
                        str(node.node_id): {"addr": f"{node.host}:{node.port}"}
                        for node in self._controller.brokers("native")
                    },
                }
            },
            "uptime_s": round(self._clock.monotonic() - self._started_at, 3),
            "topics": len(self._controller.topics()),
            "in_flight_bytes": self._budget.used_size,
            "listeners": {
                name: {
                    "connections": stats.connections,
                    "accepted": stats.accepted,
                    "requests": stats.requests,
                    "received_bytes": stats.received_size,
                    "sent_bytes": stats.sent_size,
                }
                for name, stats in self._net.listeners.items()
            },
        }
