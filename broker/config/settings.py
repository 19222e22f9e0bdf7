"""`Config`: every setting of a node, in one table that reads as prose.

A setting's name is the same everywhere: `kafka_port` in `walrus.toml`, `WALRUS_KAFKA_PORT` in the
environment, `--kafka-port` on the command line. Units come last in a name. `SETTINGS` is derived
from the annotations; the command line's options, `docs/configuration.md` and the error messages are
derived from `SETTINGS`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec

from broker.config.values import (
    GIB,
    KIB,
    MIB,
    WILDCARD_HOSTS,
    Address,
    Addresses,
    Bytes,
    Choice,
    File,
    Fsync,
    Host,
    HostPort,
    Integer,
    Kind,
    Listener,
    Listeners,
    Port,
    Switch,
)

NATIVE_LISTENER = "native"
"""The name under which the native listener is registered beside the Kafka ones."""

DEFAULT_KAFKA_LISTENER = "PLAINTEXT"
"""The name of the one Kafka listener when none is named; Kafka's own name for plain TCP."""

INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class About:
    """What a setting means, beside what it accepts."""

    section: str
    help: str
    kind: Kind


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one node. Sizes are bytes, `_ms` milliseconds, port 0 is any free one."""

    node_id: Annotated[
        int,
        About(
            "Node",
            "This node's id in its cluster. It is written into the data directory, "
            "which then belongs to this id for life.",
            Integer(1, INT32_MAX, "ID"),
        ),
    ] = 1
    data_dir: Annotated[
        Path,
        About(
            "Node", "Where everything is kept. One process at a time; created when missing.", File()
        ),
    ] = Path("./data")
    idle_poll_us: Annotated[
        int,
        About(
            "Node",
            "How long the node asks for the next request before it sleeps until one comes, where "
            "the ones before came as soon (microseconds). 0 saves the processor's time, and costs "
            "that of waking to each request.",
            Integer(0, 10_000, "US"),
        ),
    ] = 100

    client_host: Annotated[
        str, About("Native protocol", "Address to bind for the native protocol.", Host())
    ] = "127.0.0.1"
    client_port: Annotated[
        int, About("Native protocol", "Port of the native protocol (`walrus-cli`).", Port())
    ] = 8080

    kafka_host: Annotated[
        str, About("Kafka protocol", "Address to bind for the Kafka protocol.", Host())
    ] = "127.0.0.1"
    kafka_port: Annotated[int, About("Kafka protocol", "Port of the Kafka protocol.", Port())] = (
        9092
    )
    kafka_advertise: Annotated[
        HostPort | None,
        About(
            "Kafka protocol",
            "The address that Kafka clients are told to dial. When it is not set: the bound "
            "address, or this machine's host name when a wildcard is bound.",
            Address(),
        ),
    ] = None
    kafka_listener: Annotated[
        tuple[Listener, ...],
        About(
            "Kafka protocol",
            "Kafka listeners by name, instead of the three settings above; repeatable. "
            "A client is told the addresses of the listener it came in by.",
            Listeners(),
        ),
    ] = ()

    admin_host: Annotated[
        str, About("Admin", "Address to bind for health, metrics and status.", Host())
    ] = "127.0.0.1"
    admin_port: Annotated[
        int,
        About(
            "Admin", "Port of `/healthz`, `/readyz`, `/metrics` and `/v1/status` (HTTP).", Port()
        ),
    ] = 9644

    raft_host: Annotated[
        str, About("Cluster", "Address to bind for traffic between nodes.", Host())
    ] = "127.0.0.1"
    raft_port: Annotated[
        int, About("Cluster", "Port for traffic between nodes. Never make it public.", Port())
    ] = 6000
    raft_advertise_host: Annotated[
        str | None,
        About(
            "Cluster",
            "The host that other nodes dial. When it is not set: the bound one, or this "
            "machine's host name when a wildcard is bound.",
            Host(advertised=True),
        ),
    ] = None
    join: Annotated[
        tuple[HostPort, ...],
        About("Cluster", "Peer addresses of a cluster to join, any of its nodes.", Addresses()),
    ] = ()
    bootstrap: Annotated[
        bool,
        About(
            "Cluster",
            "Form a new cluster with this node as its first; with `join`, only once a majority has "
            "been heard and none of them knows of one, else join that.",
            Switch(),
        ),
    ] = False
    cluster_secret_file: Annotated[
        Path | None,
        About("Cluster", "A file with the secret that the nodes of a cluster share.", File()),
    ] = None

    fsync: Annotated[
        str,
        About(
            "Storage",
            "When an append counts as durable: `each` after a data sync shared by all waiting "
            "appends; a number of milliseconds syncs that often and acknowledges before; `none` "
            "leaves it to the system. All but `each` can lose acknowledged records in a power cut.",
            Fsync(),
        ),
    ] = "each"
    max_segment_entries: Annotated[
        int,
        About(
            "Storage",
            "A segment that has this many records rolls over at the next check.",
            Integer(1, INT32_MAX),
        ),
    ] = 1_000_000
    max_segment_bytes: Annotated[
        int,
        About(
            "Storage",
            "A segment of this size rolls over at the next check.",
            Bytes(4 * KIB, INT32_MAX),
        ),
    ] = 1 * GIB
    disk_reserve_bytes: Annotated[
        int,
        About(
            "Storage",
            "With less free space than this, the node hands over what it leads and takes no more "
            "records until there is room again.",
            Bytes(MIB, 2**62),
        ),
    ] = 128 * MIB
    monitor_check_ms: Annotated[
        int,
        About(
            "Storage",
            "How often segments are checked for rollover (milliseconds). At twice its limit one"
            " rolls over at once.",
            Integer(10, 86_400_000, "MS"),
        ),
    ] = 10_000
    retention_check_ms: Annotated[
        int,
        About(
            "Storage",
            "How often to look for segments that `retention.ms` and `retention.bytes` give up "
            "(milliseconds); Kafka's default.",
            Integer(10, INT32_MAX, "MS"),
        ),
    ] = 300_000
    disable_io_uring: Annotated[
        bool,
        About(
            "Storage",
            "Do not use io_uring even where the kernel allows it. As a variable its presence is "
            "enough.",
            Switch(present=True),
        ),
    ] = False

    auto_create_topics: Annotated[
        bool, About("Topics", "Create a topic when a Kafka client first asks for it.", Switch())
    ] = True
    strict_partitions: Annotated[
        bool,
        About(
            "Topics",
            "Refuse to create a topic with more than one partition, instead of creating one "
            "partition and answering so.",
            Switch(),
        ),
    ] = False

    group_initial_rebalance_delay_ms: Annotated[
        int,
        About(
            "Groups",
            "How long the first member of an empty consumer group waits for others "
            "(milliseconds). Kafka's 3000 delay every small application; 100 gather what one "
            "process starts together.",
            Integer(0, 600_000, "MS"),
        ),
    ] = 100
    group_min_session_timeout_ms: Annotated[
        int,
        About(
            "Groups",
            "The shortest session a member may ask for (milliseconds); Kafka's default.",
            Integer(1, INT32_MAX, "MS"),
        ),
    ] = 6_000
    group_max_session_timeout_ms: Annotated[
        int,
        About(
            "Groups",
            "The longest session a member may ask for (milliseconds); Kafka's default.",
            Integer(1, INT32_MAX, "MS"),
        ),
    ] = 1_800_000
    group_max_size: Annotated[
        int,
        About("Groups", "The most members of one group.", Integer(1, 100_000)),
    ] = 2_000
    groups_max: Annotated[
        int,
        About(
            "Groups",
            "The most groups that this node coordinates, those that have offsets and no members "
            "included. Each costs some three kilobytes, ten with a member.",
            Integer(1, 10_000_000),
        ),
    ] = 50_000
    offsets_retention_minutes: Annotated[
        int,
        About(
            "Groups",
            "How long the offsets of a group without members are kept (minutes); Kafka's default "
            "is 7 days, too.",
            Integer(1, INT32_MAX, "MINUTES"),
        ),
    ] = 10_080

    request_size_max: Annotated[
        int,
        About(
            "Limits",
            "The largest Kafka request; a larger one closes its connection. Kafka's default is "
            "the same.",
            Bytes(64 * KIB, INT32_MAX),
        ),
    ] = 100 * MIB
    native_frame_size_max: Annotated[
        int,
        About("Limits", "The largest native request.", Bytes(1 * KIB, INT32_MAX)),
    ] = 1 * MIB + 64 * KIB
    fetch_size_max: Annotated[
        int,
        About(
            "Limits",
            "The most record bytes in one Kafka fetch reply, beyond the first batch. Kafka's "
            "default is the same.",
            Bytes(1 * KIB, INT32_MAX),
        ),
    ] = 55 * MIB
    in_flight_size_max: Annotated[
        int,
        About(
            "Limits",
            "The most bytes held for requests and replies of all connections together; beyond "
            "it connections wait their turn.",
            Bytes(1 * MIB, 1024 * GIB),
        ),
    ] = 256 * MIB
    connections_max: Annotated[
        int,
        About("Limits", "The most connections at once; more are refused.", Integer(1, 1_000_000)),
    ] = 10_000
    idle_ms_max: Annotated[
        int,
        About(
            "Limits",
            "A connection without a request for this long is closed (milliseconds). Kafka's "
            "default is the same.",
            Integer(100, INT32_MAX, "MS"),
        ),
    ] = 600_000
    stall_ms_max: Annotated[
        int,
        About(
            "Limits",
            "A connection whose request has begun and then makes no progress for this long is "
            "closed (milliseconds). One that does not read its replies has five minutes at least.",
            Integer(100, INT32_MAX, "MS"),
        ),
    ] = 30_000
    shutdown_grace_ms: Annotated[
        int,
        About(
            "Limits",
            "How long SIGTERM lets started requests finish (milliseconds).",
            Integer(0, 3_600_000, "MS"),
        ),
    ] = 30_000

    log_level: Annotated[
        str,
        About(
            "Logs",
            "The least severe lines that are logged.",
            Choice(("debug", "info", "warning", "error")),
        ),
    ] = "info"
    log_format: Annotated[
        str,
        About(
            "Logs",
            "`console` for people, `json` one object per line; `auto` is `console` on a terminal "
            "and `json` elsewhere. Logs go to stderr.",
            Choice(("auto", "console", "json")),
        ),
    ] = "auto"

    verify: Annotated[
        bool,
        About(
            "Logs",
            "Check what must hold of the metadata after every change, and stop if it does not. "
            "For tests and for hunting a mistake: it is slow.",
            Switch(),
        ),
    ] = False

    @property
    def kafka_listeners(self) -> tuple[Listener, ...]:
        """The Kafka listeners to bind: the named ones, or that of `kafka_host`, `kafka_port`."""
        if self.kafka_listener:
            return self.kafka_listener
        host, port = self.kafka_advertise or HostPort(self.kafka_host, 0)
        return (Listener(DEFAULT_KAFKA_LISTENER, self.kafka_host, self.kafka_port, host, port),)

    @property
    def native_listener(self) -> Listener:
        """The native listener, as it is registered beside the Kafka ones."""
        bind = advertised = self.client_host
        if bind in WILDCARD_HOSTS:
            advertised = self.raft_advertise_host or bind
        return Listener(NATIVE_LISTENER, bind, self.client_port, advertised, 0)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    section: str
    help: str
    kind: Kind
    default: Any

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"WALRUS_{self.name.upper()}"

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")


def _settings() -> tuple[Setting, ...]:
    hints = get_type_hints(Config, include_extras=True)
    rows = []
    for field in msgspec.structs.fields(Config):
        about = hints[field.name].__metadata__[0]
        assert isinstance(about, About)
        rows.append(Setting(field.name, about.section, about.help, about.kind, field.default))
    return tuple(rows)


SETTINGS: tuple[Setting, ...] = _settings()
"""Every setting in the order of the table."""
