"""The messages under test, written down by hand from Kafka's protocol guide.

Nothing here knows the library that the broker parses with: a mistake in how the broker uses it
(or in the library) shows as bytes that do not fit these layouts.
"""

import struct
from typing import Any

from tests.broker.kafka_api import admin_layouts, group_layouts
from tests.broker.kafka_api.layout import ZERO_ID, F, Message, Reader, Writer

THROTTLE = F("throttle_time_ms", "i32")

LEADER = (F("id", "i32"), F("epoch", "i32"))
ENDPOINT = (F("id", "i32"), F("host", "str"), F("port", "i32"), F("rack", "nstr"))

PRODUCE = Message(
    0, (3, 12), 9,
    request=(
        F("transactional_id", "nstr"), F("acks", "i16", default=-1),
        F("timeout_ms", "i32", default=5000),
        F("topics", (F("name", "str"), F("partitions", (F("index", "i32"),
        F("records", "bytes"))))),
    ),
    response=(
        F("topics", (
            F("name", "str"),
            F("partitions", (
                F("index", "i32"), F("error", "i16"), F("base_offset", "i64"),
                F("log_append_time", "i64"),
                F("log_start_offset", "i64", 5),
                F("record_errors", (F("index", "i32"), F("message", "nstr")), 8),
                F("error_message", "nstr", 8),
                F("current_leader", LEADER, 10, tag=0, is_one=True),
            )),
        )),
        THROTTLE, F("node_endpoints", ENDPOINT, 10, tag=0),
    ),
)  # fmt: skip

FETCH = Message(
    1, (4, 17), 12,
    request=(
        F("replica_id", "i32", until=14, default=-1), F("max_wait_ms", "i32"),
        F("min_bytes", "i32", default=1),
        F("max_bytes", "i32", default=2**31 - 1), F("isolation_level", "i8"),
        F("session_id", "i32", 7), F("session_epoch", "i32", 7, default=-1),
        F("topics", (
            F("topic", "str", until=12), F("topic_id", "uuid", 13),
            F("partitions", (
                F("partition", "i32"), F("current_leader_epoch", "i32", 9, default=-1),
                F("fetch_offset", "i64"),
                F("last_fetched_epoch", "i32", 12, default=-1),
                F("log_start_offset", "i64", 5, default=-1),
                F("max_bytes", "i32", default=2**20),
            )),
        )),
        F("forgotten", (F("topic", "str", until=12), F("topic_id", "uuid", 13),
        F("partitions", "[i32")), 7),
        F("rack_id", "str", 11),
    ),
    response=(
        THROTTLE, F("error", "i16", 7), F("session_id", "i32", 7),
        F("topics", (
            F("topic", "str", until=12), F("topic_id", "uuid", 13),
            F("partitions", (
                F("partition", "i32"), F("error", "i16"), F("high_watermark", "i64"),
                F("last_stable_offset", "i64"), F("log_start_offset", "i64", 5),
                F("aborted?", (F("producer_id", "i64"), F("first_offset", "i64"))),
                F("preferred_read_replica", "i32", 11), F("records", "bytes"),
                F("current_leader", LEADER, 16, tag=1, is_one=True),
            )),
        )),
        F("node_endpoints", ENDPOINT, 16, tag=0),
    ),
)  # fmt: skip

LIST_OFFSETS = Message(
    2, (1, 9), 6,
    request=(
        F("replica_id", "i32", default=-1), F("isolation_level", "i8", 2),
        F("topics", (
            F("name", "str"),
            F("partitions", (
                F("partition", "i32"), F("current_leader_epoch", "i32", 4, default=-1),
                F("timestamp", "i64"),
            )),
        )),
    ),
    response=(
        F("throttle_time_ms", "i32", 2),
        F("topics", (
            F("name", "str"),
            F("partitions", (
                F("partition", "i32"), F("error", "i16"), F("timestamp", "i64"), F("offset", "i64"),
                F("leader_epoch", "i32", 4),
            )),
        )),
    ),
)  # fmt: skip

METADATA = Message(
    3, (0, 13), 9,
    request=(
        F("topics?", (F("topic_id", "uuid", 10), F("name", "nstr"))),
        F("allow_auto_create", "bool", 4, default=True),
        F("include_cluster_operations", "bool", 8, 10), F("include_topic_operations", "bool", 8),
    ),
    response=(
        F("throttle_time_ms", "i32", 3),
        F("brokers", (F("node_id", "i32"), F("host", "str"), F("port", "i32"),
        F("rack", "nstr", 1))),
        F("cluster_id", "nstr", 2), F("controller_id", "i32", 1),
        F("topics", (
            F("error", "i16"), F("name", "nstr"), F("topic_id", "uuid", 10),
            F("is_internal", "bool", 1),
            F("partitions", (
                F("error", "i16"), F("partition", "i32"), F("leader_id", "i32"),
                F("leader_epoch", "i32", 7),
                F("replicas", "[i32"), F("isr", "[i32"), F("offline", "[i32", 5),
            )),
            F("operations", "i32", 8),
        )),
        F("cluster_operations", "i32", 8, 10),
        F("error", "i16", 13),
    ),
)  # fmt: skip

API_VERSIONS = Message(
    18, (0, 4), 3,
    request=(F("software_name", "str", 3), F("software_version", "str", 3)),
    response=(
        F("error", "i16"), F("apis", (F("key", "i16"), F("min", "i16"), F("max", "i16"))),
        F("throttle_time_ms", "i32", 1),
    ),
)  # fmt: skip

CREATE_TOPICS = Message(
    19, (2, 7), 5,
    request=(
        F("topics", (
            F("name", "str"), F("num_partitions", "i32", default=1),
            F("replication_factor", "i16", default=1),
            F("assignments", (F("partition", "i32"), F("brokers", "[i32"))),
            F("configs", (F("name", "str"), F("value", "nstr"))),
        )),
        F("timeout_ms", "i32", default=5000), F("validate_only", "bool"),
    ),
    response=(
        THROTTLE,
        F("topics", (
            F("name", "str"), F("topic_id", "uuid", 7), F("error", "i16"),
            F("error_message", "nstr"),
            F("num_partitions", "i32", 5), F("replication_factor", "i16", 5),
            F("configs?", (
                F("name", "str"), F("value", "nstr"), F("read_only", "bool"), F("source", "i8"),
                F("sensitive", "bool"),
            ), 5),
        )),
    ),
)  # fmt: skip

DELETE_TOPICS = Message(
    20, (1, 6), 4,
    request=(
        F("topics", (F("name", "nstr"), F("topic_id", "uuid")), 6), F("names", "[str", until=5),
        F("timeout_ms", "i32", default=5000),
    ),
    response=(
        THROTTLE,
        F("topics", (
            F("name", "nstr"), F("topic_id", "uuid", 6), F("error", "i16"),
            F("error_message", "nstr", 5),
        )),
    ),
)  # fmt: skip

INIT_PRODUCER_ID = Message(
    22, (0, 5), 2,
    request=(
        F("transactional_id", "nstr"), F("timeout_ms", "i32", default=60_000),
        F("producer_id", "i64", 3, default=-1), F("epoch", "i16", 3, default=-1),
    ),
    response=(THROTTLE, F("error", "i16"), F("producer_id", "i64"), F("epoch", "i16")),
)  # fmt: skip

DESCRIBE_CONFIGS = Message(
    32, (1, 4), 4,
    request=(
        F("resources", (F("type", "i8"), F("name", "str"), F("keys?", "[str"))),
        F("include_synonyms", "bool"), F("include_documentation", "bool", 3),
    ),
    response=(
        THROTTLE,
        F("resources", (
            F("error", "i16"), F("error_message", "nstr"), F("type", "i8"), F("name", "str"),
            F("configs", (
                F("name", "str"), F("value", "nstr"), F("read_only", "bool"), F("source", "i8"),
                F("sensitive", "bool"),
                F("synonyms", (F("name", "str"), F("value", "nstr"), F("source", "i8"))),
                F("type", "i8", 3), F("documentation", "nstr", 3),
            )),
        )),
    ),
)  # fmt: skip

DESCRIBE_CLUSTER = Message(
    60, (0, 2), 0,
    request=(
        F("include_operations", "bool"), F("endpoint_type", "i8", 1, default=1),
        F("include_fenced", "bool", 2),
    ),
    response=(
        THROTTLE, F("error", "i16"), F("error_message", "nstr"), F("endpoint_type", "i8", 1),
        F("cluster_id", "str"),
        F("controller_id", "i32"),
        F("brokers", (
            F("broker_id", "i32"), F("host", "str"), F("port", "i32"), F("rack", "nstr"),
            F("is_fenced", "bool", 2),
        )),
        F("operations", "i32"),
    ),
)  # fmt: skip

_OTHERS = (
    PRODUCE, FETCH, LIST_OFFSETS, METADATA, API_VERSIONS, CREATE_TOPICS, DELETE_TOPICS,
    INIT_PRODUCER_ID, DESCRIBE_CONFIGS, DESCRIBE_CLUSTER,
)  # fmt: skip

ALL = tuple(
    sorted((*_OTHERS, *group_layouts.ALL, *admin_layouts.ALL), key=lambda message: message.key)
)


def encode_request(
    message: Message,
    version: int,
    correlation_id: int,
    client_id: str | None,
    values: dict[str, Any],
) -> bytes:
    """A frame without its length prefix."""
    flexible = version >= message.first_flexible
    writer = Writer(version, flexible)
    header = struct.pack(">hhi", message.key, version, correlation_id)
    name = None if client_id is None else client_id.encode()
    header += struct.pack(">h", -1) if name is None else struct.pack(">h", len(name)) + name
    writer.struct(message.request, values)
    return header + (b"\0" if flexible else b"") + bytes(writer.out)


def decode_response(message: Message, version: int, frame: bytes) -> tuple[int, dict[str, Any]]:
    """Correlation id and values of a reply with its length prefix; every byte must count."""
    flexible = version >= message.first_flexible
    (size,) = struct.unpack_from(">i", frame)
    assert size == len(frame) - 4, "the length prefix does not tell the truth"
    reader = Reader(frame[4:], version, flexible)
    correlation_id = reader.number("i")
    if flexible and message is not API_VERSIONS:
        reader.tags()
    values = reader.struct(message.response)
    assert reader.position == len(reader.data), "bytes follow the end of the response"
    return correlation_id, values


__all__ = (
    "ALL", "ZERO_ID", "F", "Message", "Reader", "Writer", "decode_response", "encode_request",
)  # fmt: skip
