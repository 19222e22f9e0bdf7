"""The messages of consumer groups, written down by hand like those in `layouts.py`."""

from typing import Any

from tests.broker.kafka_api.layout import F, Message

THROTTLE_1 = F("throttle_time_ms", "i32", 1)

MEMBER_ID_REQUIRED = 79

OFFSET_COMMIT = Message(
    8, (2, 9), 8,
    request=(
        F("group", "str"), F("generation", "i32", default=-1), F("member_id", "str"),
        F("instance_id", "nstr", 7),
        F("retention_ms", "i64", until=4, default=-1),
        F("topics", (
            F("name", "str"),
            F("partitions", (
                F("partition", "i32"), F("offset", "i64"),
                F("leader_epoch", "i32", 6, default=-1), F("metadata", "nstr"),
            )),
        )),
    ),
    response=(
        F("throttle_time_ms", "i32", 3),
        F("topics", (
            F("name", "str"), F("partitions", (F("partition", "i32"), F("error", "i16"))),
        )),
    ),
)  # fmt: skip

_FETCHED = (
    F("name", "str"),
    F("partitions", (
        F("partition", "i32"), F("offset", "i64"), F("leader_epoch", "i32", 5),
        F("metadata", "nstr"), F("error", "i16"),
    )),
)  # fmt: skip

OFFSET_FETCH = Message(
    9, (1, 9), 6,
    request=(
        F("group", "str", until=7),
        F("topics", (F("name", "str"), F("partitions", "[i32")), until=1),
        F("topics?", (F("name", "str"), F("partitions", "[i32")), 2, 7),
        F("groups", (
            F("group", "str"), F("member_id", "nstr", 9), F("member_epoch", "i32", 9, default=-1),
            F("topics?", (F("name", "str"), F("partitions", "[i32"))),
        ), 8),
        F("require_stable", "bool", 7),
    ),
    response=(
        F("throttle_time_ms", "i32", 3),
        F("topics", _FETCHED, until=7), F("error", "i16", 2, 7),
        F("groups", (F("group", "str"), F("topics", _FETCHED), F("error", "i16")), 8),
    ),
)  # fmt: skip

FIND_COORDINATOR = Message(
    10, (0, 6), 3,
    request=(F("key", "str", until=3), F("type", "i8", 1), F("keys", "[str", 4)),
    response=(
        THROTTLE_1,
        F("error", "i16", until=3), F("error_message", "nstr", 1, 3),
        F("node_id", "i32", until=3), F("host", "str", until=3), F("port", "i32", until=3),
        F("coordinators", (
            F("key", "str"), F("node_id", "i32"), F("host", "str"), F("port", "i32"),
            F("error", "i16"), F("error_message", "nstr"),
        ), 4),
    ),
)  # fmt: skip

JOIN_GROUP = Message(
    11, (0, 9), 6,
    request=(
        F("group", "str"), F("session_ms", "i32", default=10_000),
        F("rebalance_ms", "i32", 1, default=5_000), F("member_id", "str"),
        F("instance_id", "nstr", 5), F("protocol_type", "str", default="consumer"),
        F("protocols", (F("name", "str"), F("metadata", "bytes"))), F("reason", "nstr", 8),
    ),
    response=(
        F("throttle_time_ms", "i32", 2), F("error", "i16"), F("generation", "i32"),
        F("protocol_type", "nstr", 7), F("protocol", "str", until=6),
        F("nullable_protocol", "nstr", 7), F("leader", "str"),
        F("skip_assignment", "bool", 9), F("member_id", "str"),
        F("members", (F("member_id", "str"), F("instance_id", "nstr", 5), F("metadata", "bytes"))),
    ),
)  # fmt: skip

HEARTBEAT = Message(
    12, (0, 4), 4,
    request=(
        F("group", "str"), F("generation", "i32"), F("member_id", "str"),
        F("instance_id", "nstr", 3),
    ),
    response=(THROTTLE_1, F("error", "i16")),
)  # fmt: skip

LEAVE_GROUP = Message(
    13, (0, 5), 4,
    request=(
        F("group", "str"), F("member_id", "str", until=2),
        F("members", (F("member_id", "str"), F("instance_id", "nstr"), F("reason", "nstr", 5)), 3),
    ),
    response=(
        THROTTLE_1, F("error", "i16"),
        F("members", (F("member_id", "str"), F("instance_id", "nstr"), F("error", "i16")), 3),
    ),
)  # fmt: skip

SYNC_GROUP = Message(
    14, (0, 5), 4,
    request=(
        F("group", "str"), F("generation", "i32"), F("member_id", "str"),
        F("instance_id", "nstr", 3), F("protocol_type", "nstr", 5), F("protocol", "nstr", 5),
        F("assignments", (F("member_id", "str"), F("assignment", "bytes"))),
    ),
    response=(
        THROTTLE_1, F("error", "i16"), F("protocol_type", "nstr", 5), F("protocol", "nstr", 5),
        F("assignment", "bytes"),
    ),
)  # fmt: skip

DESCRIBE_GROUPS = Message(
    15, (0, 6), 5,
    request=(F("groups", "[str"), F("include_operations", "bool", 3)),
    response=(
        THROTTLE_1,
        F("groups", (
            F("error", "i16"), F("error_message", "nstr", 6), F("group", "str"),
            F("state", "str"), F("protocol_type", "str"), F("protocol", "str"),
            F("members", (
                F("member_id", "str"), F("instance_id", "nstr", 4), F("client_id", "str"),
                F("client_host", "str"), F("metadata", "bytes"), F("assignment", "bytes"),
            )),
            F("operations", "i32", 3),
        )),
    ),
)  # fmt: skip

LIST_GROUPS = Message(
    16, (0, 5), 3,
    request=(F("states", "[str", 4), F("types", "[str", 5)),
    response=(
        THROTTLE_1, F("error", "i16"),
        F("groups", (
            F("group", "str"), F("protocol_type", "str"), F("state", "str", 4), F("type", "str", 5),
        )),
    ),
)  # fmt: skip

DELETE_GROUPS = Message(
    42, (0, 2), 2,
    request=(F("groups", "[str"),),
    response=(
        F("throttle_time_ms", "i32"), F("results", (F("group", "str"), F("error", "i16"))),
    ),
)  # fmt: skip

OFFSET_DELETE = Message(
    47, (0, 0), 99,
    request=(
        F("group", "str"),
        F("topics", (F("name", "str"), F("partitions", (F("partition", "i32"),)))),
    ),
    response=(
        F("error", "i16"), F("throttle_time_ms", "i32"),
        F("topics", (
            F("name", "str"), F("partitions", (F("partition", "i32"), F("error", "i16"))),
        )),
    ),
)  # fmt: skip

ALL = (
    OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP,
    DESCRIBE_GROUPS, LIST_GROUPS, DELETE_GROUPS, OFFSET_DELETE,
)  # fmt: skip


def request(message: Message, version: int) -> dict[str, Any]:
    """Something good and something bad of each."""
    partitions = [{"partition": 0, "offset": 7, "metadata": "m"}, {"partition": 1, "offset": 7}]
    if message is OFFSET_COMMIT:
        topics = [{"name": name, "partitions": partitions} for name in ("t", "missing")]
        return {"group": "g", "topics": topics}
    if message is OFFSET_FETCH:
        asked = {"group": "g", "topics": [{"name": "t", "partitions": [0, 1]}]}
        return asked if version < 8 else {"groups": [asked, {"group": "h", "topics": None}]}
    if message is FIND_COORDINATOR:
        return {"key": "g"} if version < 4 else {"keys": ["g", "h"]}
    if message is JOIN_GROUP:
        return {"group": "g", "protocols": [{"name": "range", "metadata": b"m"}]}
    if message is LEAVE_GROUP:
        member = {"member_id": "nobody"}
        return {"group": "g", **(member if version < 3 else {"members": [member]})}
    if message is OFFSET_DELETE:
        wanted = [{"partition": 0}, {"partition": 1}]
        named = [{"name": name, "partitions": wanted} for name in ("t", "missing")]
        return {"group": "g", "topics": named}
    if message in (DESCRIBE_GROUPS, DELETE_GROUPS):
        return {"groups": ["g", "missing"]}
    if message is LIST_GROUPS:
        return {}
    return {"group": "g", "generation": 1, "member_id": "nobody"}
