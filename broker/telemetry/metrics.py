"""Metrics: plain integers where bytes move, one table of names, and rendering when somebody asks.

Counting is `stats.count += 1`; a labelled prometheus counter costs thirty times that. Parts of the
broker register a callable that yields samples, and it is called at scrape time only.

The names are stable and share their stems with what other brokers publish, so that dashboards
translate by prefix.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, what it counts, and the labels that its samples carry in this order."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


BUILD_INFO = Family(
    "walrus_build_info", "gauge", "Always 1; the labels say what runs.", ("version", "python")
)
UPTIME = Family("walrus_uptime_seconds_total", "counter", "Seconds since the node started.")
READY = Family("walrus_ready", "gauge", "1 when the node serves clients.")

KAFKA_REQUESTS = Family(
    "walrus_kafka_requests_total",
    "counter",
    "Kafka requests, by API and error (NONE: no error).",
    ("api", "error"),
)
KAFKA_LATENCY = Family(
    "walrus_kafka_request_latency_seconds",
    "histogram",
    "From a request's last byte to its reply, long polls included.",
    ("api",),
)
NATIVE_REQUESTS = Family(
    "walrus_native_requests_total",
    "counter",
    "Native requests, by verb and outcome (OK, EMPTY, ERR).",
    ("verb", "outcome"),
)
NATIVE_LATENCY = Family(
    "walrus_native_request_latency_seconds",
    "histogram",
    "From a request's last byte to its reply.",
    ("verb",),
)
CONNECTIONS = Family("walrus_connections", "gauge", "Open connections.", ("listener",))
CONNECTIONS_TOTAL = Family(
    "walrus_connections_total", "counter", "Connections accepted since the start.", ("listener",)
)
CONNECTIONS_REFUSED = Family(
    "walrus_connections_refused_total", "counter", "Connections refused by a limit.", ("listener",)
)
PEER_ERRORS = Family(
    "walrus_peer_errors_total",
    "counter",
    "Connections closed because of what the peer sent.",
    ("listener",),
)
FAULTS = Family(
    "walrus_connection_faults_total",
    "counter",
    "Connections closed because of a fault of ours; the log tells of each.",
    ("listener",),
)
BYTES = Family(
    "walrus_network_bytes_total", "counter", "Bytes received and sent.", ("listener", "direction")
)
IN_FLIGHT = Family(
    "walrus_in_flight_bytes", "gauge", "Bytes held for requests and replies of all connections."
)

STORAGE_BACKEND = Family(
    "walrus_storage_backend_info", "gauge", "Always 1; how files are written.", ("backend",)
)
STORAGE_FSYNC = Family(
    "walrus_storage_fsync_info", "gauge", "Always 1; when an append counts as durable.", ("fsync",)
)
DISK_TOTAL = Family(
    "walrus_storage_disk_total_bytes", "gauge", "Size of the data directory's file system."
)
DISK_FREE = Family(
    "walrus_storage_disk_free_bytes", "gauge", "What of it is free for this process."
)
LOG_SIZE = Family("walrus_storage_log_bytes", "gauge", "Records that this node's disk holds.")
OPEN_LOGS = Family(
    "walrus_storage_open_logs", "gauge", "Log files that are open. Idle ones give way at the limit."
)
WAITING_FOR_LOGS = Family(
    "walrus_storage_waiting_for_descriptors",
    "gauge",
    "Reads and writes that wait until another log file may be closed.",
)
SEGMENTS = Family("walrus_storage_segments", "gauge", "Segments, by state.", ("state",))

TOPICS = Family("walrus_cluster_topics", "gauge", "Topics, internal ones included.")
BROKERS = Family("walrus_cluster_brokers", "gauge", "Live nodes.")
UNAVAILABLE = Family(
    "walrus_cluster_unavailable_partitions", "gauge", "Topics that no live node leads now."
)
UNDER_REPLICATED = Family(
    "walrus_cluster_under_replicated_segments",
    "gauge",
    "Segments with fewer live copies than their topic wants and the cluster has nodes for.",
)
UNREADABLE = Family(
    "walrus_cluster_unreadable_segments",
    "gauge",
    "Closed segments of which no live node has a whole copy: readers wait there.",
)
OFFLINE = Family(
    "walrus_cluster_offline_replicas", "gauge", "Replicas of open segments on nodes that are down."
)
GROUPS = Family(
    "walrus_group_groups", "gauge", "Groups that this node coordinates, by state.", ("state",)
)
GROUP_MEMBERS = Family("walrus_group_members", "gauge", "Members of those groups.")
GROUP_LAG = Family(
    "walrus_group_lag_records",
    "gauge",
    "Records between a committed position and the end, of the first 1000 positions of a node.",
    ("group", "topic"),
)
GROUP_LAG_HIDDEN = Family(
    "walrus_group_lag_hidden_positions",
    "gauge",
    "Positions without a series of their own: beyond the limit, or in topics not held here.",
)
GROUP_REBALANCES = Family(
    "walrus_group_rebalances_total", "counter", "Generations that began with members."
)
GROUP_MEMBERS_DROPPED = Family(
    "walrus_group_members_dropped_total",
    "counter",
    "Members that were silent: for their session, through a join phase, or without a SyncGroup.",
    ("reason",),
)
GROUP_OFFSETS_EXPIRED = Family(
    "walrus_group_offsets_expired_total",
    "counter",
    "Positions forgotten because they were too old, or their topic is gone.",
)
RAFT_COMMIT = Family(
    "walrus_raft_commit_index", "gauge", "The last committed entry of the metadata log."
)

FAMILIES: tuple[Family, ...] = (
    BUILD_INFO,
    UPTIME,
    READY,
    KAFKA_REQUESTS,
    KAFKA_LATENCY,
    NATIVE_REQUESTS,
    NATIVE_LATENCY,
    CONNECTIONS,
    CONNECTIONS_TOTAL,
    CONNECTIONS_REFUSED,
    PEER_ERRORS,
    FAULTS,
    BYTES,
    IN_FLIGHT,
    STORAGE_BACKEND,
    STORAGE_FSYNC,
    DISK_TOTAL,
    DISK_FREE,
    LOG_SIZE,
    OPEN_LOGS,
    WAITING_FOR_LOGS,
    SEGMENTS,
    TOPICS,
    BROKERS,
    UNAVAILABLE,
    UNDER_REPLICATED,
    UNREADABLE,
    OFFLINE,
    GROUPS,
    GROUP_MEMBERS,
    GROUP_LAG,
    GROUP_LAG_HIDDEN,
    GROUP_REBALANCES,
    GROUP_MEMBERS_DROPPED,
    GROUP_OFFSETS_EXPIRED,
    RAFT_COMMIT,
)
"""THE table: what `/metrics` may show and what `docs/operations.md` lists."""

BUCKETS_S = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Upper bounds of the latency buckets, in seconds; a last bucket holds the rest."""


class Histogram:
    """How many observations fell below each bound, in plain integers."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def observe(self, duration_s: float) -> None:
        """Count one `duration_s`, in seconds."""
        self.counts[bisect_left(BUCKETS_S, duration_s)] += 1
        self.sum_s += duration_s

    @property
    def count(self) -> int:
        """All observations."""
        return sum(self.counts)


class RequestStats:
    """What one kind of request (a Kafka API, a native verb) has come to since the start."""

    __slots__ = ("latency", "outcomes")

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.latency = Histogram()

    @property
    def count(self) -> int:
        """Requests answered."""
        return sum(self.outcomes.values())

    def record(self, outcome: str, duration_s: float) -> None:
        """One request ended as `outcome` (an error's name, NONE, OK) after `duration_s` seconds."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.latency.observe(duration_s)


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one family, with its labels in the family's order."""

    family: Family
    value: float | Histogram
    labels: tuple[str, ...] = ()


class RequestMeter:
    """The stats of every kind of request of one protocol, and how they are shown."""

    def __init__(self, requests: Family, latency: Family) -> None:
        self._requests = requests
        self._latency = latency
        self._stats: dict[str, RequestStats] = {}

    def of(self, name: str) -> RequestStats:
        """The stats of `name`; look it up once and keep it."""
        return self._stats.setdefault(name, RequestStats())

    def collect(self) -> Iterator[Sample]:
        """The samples of both families."""
        for name, stats in self._stats.items():
            for outcome, count in stats.outcomes.items():
                yield Sample(self._requests, count, (name, outcome))
            yield Sample(self._latency, stats.latency, (name,))


Collect = Callable[[], Iterable[Sample]]


class Registry:
    """What one node shows at `/metrics`: its process, and the samples of all who registered."""

    def __init__(self) -> None:
        self._collects: list[Collect] = []
        self._prometheus = CollectorRegistry(auto_describe=False)
        self._prometheus.register(_Collector(self._collects))
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    def register(self, collect: Collect) -> None:
        """Call `collect` at each scrape, on the event loop's thread; it must not block."""
        self._collects.append(collect)

    def render(self) -> bytes:
        """The node's samples as Prometheus text. Raises what a registered callable raises."""
        return generate_latest(self._prometheus)

    def render_process(self) -> bytes:
        """Memory, processor time and open files of this process. Blocking: reads /proc."""
        return generate_latest(self._process)


class _Collector(Collector):
    """Groups the samples by family, in the order of the table."""

    def __init__(self, collects: Sequence[Collect]) -> None:
        self._collects = collects

    def collect(self) -> Iterator[Metric]:
        by_family: dict[Family, list[Sample]] = {family: [] for family in FAMILIES}
        for collect in self._collects:
            for sample in collect():
                by_family[sample.family].append(sample)
        for family, samples in by_family.items():
            if samples:
                yield _metric(family, samples)


def _metric(family: Family, samples: Sequence[Sample]) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for sample in samples:
            assert isinstance(sample.value, Histogram)
            histogram.add_metric(sample.labels, _buckets(sample.value), sample.value.sum_s)
        return histogram
    family_type = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = family_type(family.name, family.help, labels=family.labels)
    for sample in samples:
        assert not isinstance(sample.value, Histogram)
        metric.add_metric(sample.labels, sample.value)
    return metric


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), histogram.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
