"""The short ways to check a batch find nothing less than the general way."""

import struct
from typing import Any

from crc32c import crc32c
from hypothesis import example, given
from hypothesis import strategies as st

from broker.controller.checks import accepted, checked, checked_own
from broker.controller.topic_config import TopicConfig
from broker.errors import RequestError
from engine.batch import CRC_POSITION, CRC_START, BatchHeader
from engine.records import Record, build, build_pairs

NOW_MS = 1_700_000_000_000

configs = st.fixed_dictionaries(
    {},
    optional={
        "max.message.bytes": st.sampled_from(["61", "75", "1000"]),
        "cleanup.policy": st.sampled_from(["compact", "delete"]),
        "message.timestamp.type": st.sampled_from(["CreateTime", "LogAppendTime"]),
        "message.timestamp.before.max.ms": st.sampled_from(["0", "10"]),
        "message.timestamp.after.max.ms": st.sampled_from(["0", "10"]),
    },
)
names = st.tuples(st.sampled_from([-1, 0, 7]), st.integers(-1, 1), st.integers(-1, 1))


def outcome(batch: bytes | bytearray, config: TopicConfig) -> BatchHeader | str:
    try:
        return checked(batch, config, now_ms=NOW_MS, is_internal_append=False)
    except RequestError as error:
        return f"{type(error).__name__}: {error}"


@given(
    configs,
    names,
    st.sampled_from([-1, NOW_MS - 11, NOW_MS - 10, NOW_MS, NOW_MS + 10, NOW_MS + 11]),
    st.sampled_from([0, 0, 1, -NOW_MS - 1]),
    st.sampled_from([0, 0, 0, 4, 5, 0x08, 0x10, 0x20]),
    st.sampled_from([None, None, (8, 4), (16, 1), (23, 4), (57, 4), (21, 2)]),
    st.integers(-2, 2),
    st.booleans(),
    st.sampled_from([b"", b"", b"x", b"x" * 61]),
)
@example({}, (-1, -1, -1), NOW_MS, 0, 0, None, 0, True, b"")
def test_a_batch_is_accepted_that_should_be_refused(
    values: dict[str, str],
    name: tuple[int, int, int],
    first_ms: int,
    delta_ms: int,
    attributes: int,
    damage: tuple[int, int] | None,
    change: int,
    is_crc_right: bool,
    more: bytes,
) -> None:
    config = TopicConfig.of(values)
    batch = build(
        [Record(0, 0, b"key", b"value"), Record(1, delta_ms, None, b"value")],
        base_timestamp=first_ms,
        producer_id=name[0],
        producer_epoch=name[1],
        base_sequence=name[2],
        attributes=attributes,
    )
    if damage is not None:
        position, size = damage
        was = int.from_bytes(batch[position : position + size])
        batch[position : position + size] = ((was + change) % 256**size).to_bytes(size)
    crc = crc32c(memoryview(batch)[CRC_START:]) ^ (not is_crc_right)
    struct.pack_into(">I", batch, CRC_POSITION, crc)
    batch += more

    header = accepted(batch, config, now_ms=NOW_MS)

    expected = outcome(batch, config)
    if header is not None:
        assert header == expected
    elif "compact" not in values.get("cleanup.policy", ""):
        assert isinstance(expected, str), "the general way takes it: the short one is of no use"


@given(
    configs,
    st.lists(
        st.tuples(st.sampled_from([None, b"key"]), st.sampled_from([None, b"", b"x" * 900])),
        min_size=1,
        max_size=3,
    ),
)
def test_what_we_have_built_is_accepted_where_a_clients_would_be_refused(
    values: dict[str, str], pairs: list[tuple[bytes | None, bytes | None]]
) -> None:
    config: Any = TopicConfig.of(values)
    batch = build_pairs(pairs, base_timestamp=NOW_MS)

    got: BatchHeader | str
    try:
        got = checked_own(batch, config, is_internal_append=False)
    except RequestError as error:
        got = f"{type(error).__name__}: {error}"

    assert got == outcome(batch, config)
