"""What a handler may use: the log, the clock, and who is asking."""

from collections import Counter
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final

from broker.controller.definitions import ConfigType
from broker.groups.coordinator import Coordinator
from broker.kafka_api.behind import Behind
from broker.kafka_api.fetch_sessions import FetchSessions
from broker.ports import AdminController, Clock, Memory, Waiter
from broker.telemetry.metrics import KAFKA_LATENCY, KAFKA_REQUESTS, RequestMeter

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """One line of what this node runs with, for DescribeConfigs of the broker."""

    name: str
    value: str
    type: ConfigType = ConfigType.STRING
    documentation: str = ""
    is_default: bool = True


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    """The node's settings of the Kafka protocol. `_size` is bytes, `_ms` milliseconds."""

    auto_create_topics: bool = True
    """Metadata requests that allow it create the topics they name."""
    strict_partitions: bool = False
    """CreateTopics with more than one partition: refuse (INVALID_PARTITIONS) instead of creating
    one."""
    fetch_size_max: int = 55 * MIB
    """Records in one Fetch response; Kafka's `fetch.max.bytes` has the same default."""
    fetch_wait_ms_max: int = 5 * 60_000
    """The longest a Fetch is parked, whatever it asks. Clients ask for 0.5 to 10 seconds."""
    produce_wait_ms_max: int = 5 * 60_000
    """The longest a Produce waits for its records to be safe, whatever it asks."""
    admin_wait_ms_max: int = 60_000
    """The longest that one CreateTopics or DeleteTopics waits, whatever it asks."""
    broker_configs: tuple[BrokerConfig, ...] = ()
    """What DescribeConfigs answers about this node."""


@dataclass(slots=True)
class Client:
    """What the peer says about itself. A word for logs and listings: nothing may depend on it."""

    client_id: str = ""


@dataclass(slots=True)
class Counters:
    """Plain counts, shared by all connections of a node and read by its metrics."""

    requests: RequestMeter = field(
        default_factory=lambda: RequestMeter(KAFKA_REQUESTS, KAFKA_LATENCY)
    )
    """By API name: outcomes and latency."""
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Requests that failed as a whole by our fault: by API name and class of the exception."""
    closed: Counter[str] = field(default_factory=Counter)
    """Connections closed for breaking the protocol, by class of the exception."""


class Stopping:
    """Set once, when the node is asked to stop: whoever is parked answers with what there is."""

    def __init__(self) -> None:
        self.is_set = False
        self._waiters: set[Waiter] = set()

    def set(self) -> None:
        self.is_set = True
        for waiter in tuple(self._waiters):
            waiter.set()

    def watch(self, waiter: Waiter) -> None:
        self._waiters.add(waiter)

    def unwatch(self, waiter: Waiter) -> None:
        self._waiters.discard(waiter)


class Boundless:
    """`ports.Memory` that never waits, where nobody bounds it."""

    def has_room(self, size: int) -> bool:
        return True

    def reserve(self, size: int) -> AbstractAsyncContextManager[None]:
        return nullcontext()


@dataclass(frozen=True, slots=True)
class Context:
    """One connection's surroundings."""

    controller: AdminController
    groups: Coordinator
    clock: Clock
    listener: str
    """The name of the listener the client came in by: Metadata answers with that listener's
    addresses."""
    peer: str
    """Address of the client, for logs."""
    config: KafkaConfig = field(default_factory=KafkaConfig)
    counters: Counters = field(default_factory=Counters)
    client: Client = field(default_factory=Client)
    behind: Behind = field(default_factory=Behind)
    stopping: Stopping = field(default_factory=Stopping)
    sessions: FetchSessions = field(default_factory=FetchSessions)
    memory: Memory = field(default_factory=Boundless)
    """In which large responses are made."""
    advertised: tuple[tuple[int, int, int], ...] = ()
    """(API key, lowest, highest version) as ApiVersions lists them; the session fills it from the
    table."""

    @property
    def who(self) -> str:
        """The peer in words, for the text of an error."""
        client_id = self.client.client_id
        return f"{self.peer} (client id {client_id!r})" if client_id else self.peer
