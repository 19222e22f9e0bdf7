"""Which positions a group may lose (pure)."""

from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

from broker.groups.records import OffsetValue
from broker.groups.states import State

CURSOR_PREFIX: Final = "walrus.get."
"""Of the groups whose positions are the shared cursors of native GET: those never grow too old. A
cursor that is forgotten hands everything out again."""


def expired(
    group_id: str,
    offsets: Mapping[UUID, OffsetValue],
    *,
    state: State,
    has_had_members: bool,
    empty_since_ms: int,
    now_ms: int,
    retention_ms: int,
    exists: Callable[[UUID], bool],
) -> list[UUID]:
    """Positions in topics that are gone, and those of a group without members that are too old.

    Times are milliseconds since 1970. The clock of a group that has had members starts when the
    last one left (KIP-211), that of any other with each commit.
    """

    def is_old(value: OffsetValue) -> bool:
        if state is not State.EMPTY or group_id.startswith(CURSOR_PREFIX):
            return False
        if value.expire_time_ms >= 0:
            return now_ms >= value.expire_time_ms
        since_ms = max(value.commit_time_ms, empty_since_ms if has_had_members else 0)
        return now_ms - since_ms >= retention_ms

    return [
        topic_id for topic_id, value in offsets.items() if not exists(topic_id) or is_old(value)
    ]
