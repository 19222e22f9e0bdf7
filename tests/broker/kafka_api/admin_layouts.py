"""The messages of admin tools, written down by hand like those in `layouts.py`."""

from typing import Any

from tests.broker.kafka_api.layout import F, Message

THROTTLE = F("throttle_time_ms", "i32")

DELETE_RECORDS = Message(
    21, (0, 2), 2,
    request=(
        F("topics", (F("name", "str"),
        F("partitions", (F("partition", "i32"), F("offset", "i64"))))),
        F("timeout_ms", "i32", default=5000),
    ),
    response=(
        THROTTLE,
        F("topics", (
            F("name", "str"),
            F("partitions", (
                F("partition", "i32"), F("low_watermark", "i64"), F("error", "i16"),
            )),
        )),
    ),
)  # fmt: skip

OFFSET_FOR_LEADER_EPOCH = Message(
    23, (2, 4), 4,
    request=(
        F("replica_id", "i32", 3, default=-2),
        F("topics", (
            F("topic", "str"),
            F("partitions", (
                F("partition", "i32"), F("current_leader_epoch", "i32", default=-1),
                F("leader_epoch", "i32"),
            )),
        )),
    ),
    response=(
        THROTTLE,
        F("topics", (
            F("topic", "str"),
            F("partitions", (
                F("error", "i16"), F("partition", "i32"), F("leader_epoch", "i32"),
                F("end_offset", "i64"),
            )),
        )),
    ),
)  # fmt: skip

_ACL = (
    F("principal", "str"), F("host", "str"), F("operation", "i8"), F("permission_type", "i8"),
)  # fmt: skip

_ACL_FILTER = (
    F("resource_type", "i8", default=2), F("resource_name", "nstr"),
    F("pattern_type", "i8", default=3), F("principal", "nstr"), F("host", "nstr"),
    F("operation", "i8", default=2), F("permission_type", "i8", default=3),
)  # fmt: skip

DESCRIBE_ACLS = Message(
    29, (1, 3), 2,
    request=_ACL_FILTER,
    response=(
        THROTTLE, F("error", "i16"), F("error_message", "nstr"),
        F("resources", (
            F("resource_type", "i8"), F("resource_name", "str"), F("pattern_type", "i8"),
            F("acls", _ACL),
        )),
    ),
)  # fmt: skip

CREATE_ACLS = Message(
    30, (1, 3), 2,
    request=(
        F("creations", (
            F("resource_type", "i8", default=2), F("resource_name", "str"),
            F("pattern_type", "i8", default=3), *_ACL,
        )),
    ),
    response=(THROTTLE, F("results", (F("error", "i16"), F("error_message", "nstr")))),
)  # fmt: skip

DELETE_ACLS = Message(
    31, (1, 3), 2,
    request=(F("filters", _ACL_FILTER),),
    response=(
        THROTTLE,
        F("results", (
            F("error", "i16"), F("error_message", "nstr"),
            F("matching", (
                F("error", "i16"), F("error_message", "nstr"), F("resource_type", "i8"),
                F("resource_name", "str"), F("pattern_type", "i8"), *_ACL,
            )),
        )),
    ),
)  # fmt: skip

_ALTERED = (
    THROTTLE,
    F("resources", (
        F("error", "i16"), F("error_message", "nstr"), F("type", "i8"), F("name", "str"),
    )),
)  # fmt: skip

ALTER_CONFIGS = Message(
    33, (0, 2), 2,
    request=(
        F("resources", (
            F("type", "i8"), F("name", "str"),
            F("configs", (F("name", "str"), F("value", "nstr"))),
        )),
        F("validate_only", "bool"),
    ),
    response=_ALTERED,
)  # fmt: skip

DESCRIBE_LOG_DIRS = Message(
    35, (1, 4), 2,
    request=(F("topics?", (F("topic", "str"), F("partitions", "[i32"))),),
    response=(
        THROTTLE, F("error", "i16", 3),
        F("results", (
            F("error", "i16"), F("log_dir", "str"),
            F("topics", (
                F("name", "str"),
                F("partitions", (
                    F("partition", "i32"), F("size", "i64"), F("offset_lag", "i64"),
                    F("is_future", "bool"),
                )),
            )),
            F("total_size", "i64", 4), F("usable_size", "i64", 4),
        )),
    ),
)  # fmt: skip

CREATE_PARTITIONS = Message(
    37, (0, 3), 2,
    request=(
        F("topics", (
            F("name", "str"), F("count", "i32"), F("assignments?", (F("brokers", "[i32"),)),
        )),
        F("timeout_ms", "i32", default=5000), F("validate_only", "bool"),
    ),
    response=(
        THROTTLE,
        F("results", (F("name", "str"), F("error", "i16"), F("error_message", "nstr"))),
    ),
)  # fmt: skip

INCREMENTAL_ALTER_CONFIGS = Message(
    44, (0, 1), 1,
    request=(
        F("resources", (
            F("type", "i8"), F("name", "str"),
            F("configs", (F("name", "str"), F("operation", "i8"), F("value", "nstr"))),
        )),
        F("validate_only", "bool"),
    ),
    response=_ALTERED,
)  # fmt: skip

ALL = (
    DELETE_RECORDS, OFFSET_FOR_LEADER_EPOCH, DESCRIBE_ACLS, CREATE_ACLS, DELETE_ACLS,
    ALTER_CONFIGS, DESCRIBE_LOG_DIRS, CREATE_PARTITIONS, INCREMENTAL_ALTER_CONFIGS,
)  # fmt: skip


def request(message: Message) -> dict[str, Any]:
    """Something good and something bad of each."""
    config = {"name": "retention.ms", "value": "5"}
    if message is DELETE_RECORDS:
        wanted = [{"partition": 0, "offset": 1}, {"partition": 1, "offset": 0}]
        topics = [{"name": name, "partitions": wanted} for name in ("t", "missing")]
        return {"topics": topics}
    if message is OFFSET_FOR_LEADER_EPOCH:
        asked = [{"partition": 0, "leader_epoch": 3}, {"partition": 1, "leader_epoch": 0}]
        return {"topics": [{"topic": name, "partitions": asked} for name in ("t", "missing")]}
    if message in (ALTER_CONFIGS, INCREMENTAL_ALTER_CONFIGS):
        resources = [(2, "t"), (2, "missing"), (4, "1")]
        return {
            "resources": [{"type": type_, "name": n, "configs": [config]} for type_, n in resources]
        }
    if message is DESCRIBE_LOG_DIRS:
        return {"topics": [{"topic": "t", "partitions": [0]}]}
    if message is CREATE_PARTITIONS:
        return {"topics": [{"name": "t", "count": 4}, {"name": "missing", "count": 4}]}
    if message is CREATE_ACLS:
        acl = {"resource_name": "t", "principal": "User:a", "host": "*", "operation": 3}
        return {"creations": [{**acl, "permission_type": 3}]}
    if message is DELETE_ACLS:
        return {"filters": [{"resource_name": "t"}, {}]}
    return {}
