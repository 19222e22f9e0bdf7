"""The topic configs: names, defaults, meanings, and which values can be meant (pure).

Names and defaults are those of Kafka 4, so that tools which create, read back and compare configs
feel at home. A key that is not in the table is accepted and stored as it is: refusing one would
break clients that set something harmless we never heard of. A known key with an impossible value is
refused by name.

Values travel as text, as they do in Kafka; `TopicConfig.of` is the typed view for the code that
acts on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from broker.controller.definitions import (
    INT_MAX,
    LONG_MAX,
    Definition,
    flag,
    free_list,
    is_true,
    list_of,
    one_of,
    ratio,
    whole,
    words_of,
)
from broker.errors import InvalidConfig

CONFIG_SIZE_MAX: Final = 16 * 1024
"""Characters of all keys and values of one topic together: they are kept in the replicated
metadata."""

_STORED = "Stored and answered; it changes nothing here, because"

DEFINITIONS: Final[tuple[Definition, ...]] = (
    list_of(
        "cleanup.policy", "delete", ("compact", "delete"),
        "What happens to old segments: delete them by age and size, or compact them by key. "
        "Both may be given. Nothing is compacted yet: 'compact' alone keeps everything.",
        "log.cleanup.policy",
    ),
    whole(
        "compression.gzip.level", -1, -1, 9,
        f"{_STORED} batches are kept as the producer compressed them.",
        "compression.gzip.level",
    ),
    whole(
        "compression.lz4.level", 9, 1, 17,
        f"{_STORED} batches are kept as the producer compressed them.",
        "compression.lz4.level",
    ),
    one_of(
        "compression.type", "producer",
        ("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"),
        "The codec of the topic. Batches are kept as the producer compressed them, which is what "
        "'producer' asks; other values are stored and answered.",
        "compression.type",
    ),
    whole(
        "compression.zstd.level", 3, -131072, 22,
        f"{_STORED} batches are kept as the producer compressed them.",
        "compression.zstd.level",
    ),
    whole(
        "delete.retention.ms", 86_400_000, 0, LONG_MAX,
        "How long a compacted topic keeps the tombstone of a deleted key.",
        "log.cleaner.delete.retention.ms",
    ),
    whole(
        "file.delete.delay.ms", 60_000, 0, LONG_MAX,
        "How long a file waits between leaving the log and leaving the disk.",
        "log.segment.delete.delay.ms",
    ),
    whole(
        "flush.messages", LONG_MAX, 1, LONG_MAX,
        f"{_STORED} durability is the node's --fsync policy.",
        "log.flush.interval.messages",
    ),
    whole(
        "flush.ms", LONG_MAX, 0, LONG_MAX,
        f"{_STORED} durability is the node's --fsync policy.",
        "log.flush.interval.ms",
    ),
    free_list(
        "follower.replication.throttled.replicas",
        f"{_STORED} replication is not throttled by topic.",
        "follower.replication.throttled.replicas",
    ),
    whole(
        "index.interval.bytes", 4096, 0, INT_MAX,
        "About how many bytes of log lie between two entries of the sparse offset index.",
        "log.index.interval.bytes",
    ),
    free_list(
        "leader.replication.throttled.replicas",
        f"{_STORED} replication is not throttled by topic.",
        "leader.replication.throttled.replicas",
    ),
    whole(
        "local.retention.bytes", -2, -2, LONG_MAX,
        "The size of the log to keep on local disks when segments are also kept elsewhere; "
        "-2 means retention.bytes.",
        "log.local.retention.bytes",
    ),
    whole(
        "local.retention.ms", -2, -2, LONG_MAX,
        "How long to keep segments on local disks when they are also kept elsewhere; "
        "-2 means retention.ms.",
        "log.local.retention.ms",
    ),
    whole(
        "max.compaction.lag.ms", LONG_MAX, 1, LONG_MAX,
        "The longest a record of a compacted topic may stay uncompacted.",
        "log.cleaner.max.compaction.lag.ms",
    ),
    whole(
        "max.message.bytes", 1_048_588, 0, INT_MAX,
        "The largest record batch that is accepted, in bytes, after compression.",
        "message.max.bytes",
    ),
    whole(
        "message.timestamp.after.max.ms", 3_600_000, 0, LONG_MAX,
        "How far in the future of the broker's clock a record's timestamp may lie (CreateTime).",
        "log.message.timestamp.after.max.ms",
    ),
    whole(
        "message.timestamp.before.max.ms", LONG_MAX, 0, LONG_MAX,
        "How far in the past of the broker's clock a record's timestamp may lie (CreateTime).",
        "log.message.timestamp.before.max.ms",
    ),
    one_of(
        "message.timestamp.type", "CreateTime", ("CreateTime", "LogAppendTime"),
        "Whether a record carries the time its producer gave it or the time it was appended.",
        "log.message.timestamp.type",
    ),
    ratio(
        "min.cleanable.dirty.ratio", "0.5",
        "The share of the log that must be uncompacted before compaction runs.",
        "log.cleaner.min.cleanable.ratio",
    ),
    whole(
        "min.compaction.lag.ms", 0, 0, LONG_MAX,
        "The shortest time a record of a compacted topic stays uncompacted.",
        "log.cleaner.min.compaction.lag.ms",
    ),
    whole(
        "min.insync.replicas", 1, 1, INT_MAX,
        "How many replicas must be alive for a write with acks=all to be accepted.",
        "min.insync.replicas",
    ),
    flag(
        "preallocate", "false",
        f"{_STORED} segment files grow as they are written.",
        "log.preallocate",
    ),
    flag(
        "remote.storage.enable", "false",
        "Whether sealed segments are also kept in remote storage.",
        "remote.storage.enable",
    ),
    whole(
        "retention.bytes", -1, -1, LONG_MAX,
        "The size that the log keeps at least when its oldest segments are deleted; -1 means no "
        "limit.",
        "log.retention.bytes",
    ),
    whole(
        "retention.ms", 604_800_000, -1, LONG_MAX,
        "How long a segment is kept after its last record, by the time of the record or of its "
        "arrival, whichever is later; -1 means for ever.",
        "log.retention.ms",
    ),
    whole(
        "segment.bytes", 1_073_741_824, 14, INT_MAX,
        "The size at which a segment is sealed and the next one opened.",
        "log.segment.bytes",
    ),
    whole(
        "segment.index.bytes", 10_485_760, 4, INT_MAX,
        f"{_STORED} indexes are as large as their segment needs.",
        "log.index.size.max.bytes",
    ),
    whole(
        "segment.jitter.ms", 0, 0, LONG_MAX,
        f"{_STORED} segments are sealed by entries, size and age.",
        "log.roll.jitter.ms",
    ),
    whole(
        "segment.ms", 604_800_000, 1, LONG_MAX,
        "The age at which a segment that has records is sealed and the next one opened.",
        "log.roll.ms",
    ),
    flag(
        "unclean.leader.election.enable", "false",
        f"{_STORED} acknowledged records are never given up for availability.",
        "unclean.leader.election.enable",
    ),
    flag(
        "walrus.leader.rotation", "true",
        "Whether another node leads after each segment; false keeps the leader while it lives.",
        "walrus.leader.rotation",
    ),
)  # fmt: skip
"""Sorted by name. Units are in the names; sizes are bytes."""

BY_NAME: Final[Mapping[str, Definition]] = {item.name: item for item in DEFINITIONS}


def validate(configs: Mapping[str, str]) -> None:
    """Raises InvalidConfig naming the key, the value and the valid form. Unknown keys pass."""
    for name, value in configs.items():
        definition = BY_NAME.get(name)
        if definition is not None and not definition.check(value):
            raise InvalidConfig(f"{name}={value!r}: must be {definition.valid}")
    size = sum(len(name) + len(value) for name, value in configs.items())
    if size > CONFIG_SIZE_MAX:
        raise InvalidConfig(
            f"the configs have {size} characters together, above the limit of {CONFIG_SIZE_MAX}"
        )


def value_of(configs: Mapping[str, str], name: str) -> str:
    """What holds for the topic: its own value, or else the default. `name` must be in the table."""
    return configs.get(name, BY_NAME[name].default)


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """The configs that the broker acts on, typed. `_ms` are milliseconds, `_bytes` bytes; -1 is no
    limit."""

    max_message_bytes: int
    is_log_append_time: bool
    retention_ms: int
    retention_bytes: int
    segment_bytes: int
    segment_ms: int
    is_compacted: bool
    is_deleted_by_age: bool
    min_insync_replicas: int
    has_leader_rotation: bool
    message_timestamp_before_max_ms: int
    message_timestamp_after_max_ms: int

    @property
    def timestamp_type(self) -> str:
        """`CreateTime` or `LogAppendTime`."""
        return "LogAppendTime" if self.is_log_append_time else "CreateTime"

    @classmethod
    def of(cls, configs: Mapping[str, str]) -> "TopicConfig":
        """Raises InvalidConfig if `configs` holds a value that `validate` refuses."""
        validate(configs)

        def whole(name: str) -> int:
            return int(value_of(configs, name))

        policy = words_of(value_of(configs, "cleanup.policy"))
        return cls(
            max_message_bytes=whole("max.message.bytes"),
            is_log_append_time=value_of(configs, "message.timestamp.type") == "LogAppendTime",
            retention_ms=whole("retention.ms"),
            retention_bytes=whole("retention.bytes"),
            segment_bytes=whole("segment.bytes"),
            segment_ms=whole("segment.ms"),
            is_compacted="compact" in policy,
            is_deleted_by_age="delete" in policy,
            min_insync_replicas=whole("min.insync.replicas"),
            has_leader_rotation=is_true(value_of(configs, "walrus.leader.rotation")),
            message_timestamp_before_max_ms=whole("message.timestamp.before.max.ms"),
            message_timestamp_after_max_ms=whole("message.timestamp.after.max.ms"),
        )
