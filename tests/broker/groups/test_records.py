"""What is on the disk must be read by the next version, and what is newer must not be guessed."""

from uuid import UUID

import msgspec
import pytest

from broker.groups import records
from broker.groups.records import GroupValue, LiveGroup, LiveOffset, MemberValue, OffsetValue

TOPIC = UUID(int=7)


def test_offsets_as_they_were_first_written_are_still_read() -> None:
    key = msgspec.msgpack.encode(["offset", "g", TOPIC.bytes])
    value = msgspec.msgpack.encode([5, -1, "note", 1234])
    assert key == records.offset_key("g", TOPIC)
    assert records.decode(key, value) == LiveOffset("g", TOPIC, OffsetValue(5, -1, "note", 1234))


def test_groups_come_back_as_they_were() -> None:
    member = MemberValue("m", "i", "client", "/host", 6000, 300_000, (("range", b"\0\1"),), b"\2")
    value = GroupValue("consumer", 3, "range", "m", (member,), 99)
    found = records.decode(records.group_key("g"), records.encode(value))
    assert found == LiveGroup("g", value)
    empty = GroupValue("consumer", 4, None, None, (), 99)
    assert records.decode(records.group_key("g"), records.encode(empty)) == LiveGroup("g", empty)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (["strange", "g"], []),
        (["group", 5], []),
        (["group", "g"], [1]),
        (["offset", "g", b"short"], [5, -1, "", 0]),
        (["offset", "g", TOPIC.bytes], ["five"]),
    ],
)
def test_what_nobody_wrote_is_refused(key: object, value: object) -> None:
    with pytest.raises(ValueError):
        records.decode(msgspec.msgpack.encode(key), msgspec.msgpack.encode(value))
