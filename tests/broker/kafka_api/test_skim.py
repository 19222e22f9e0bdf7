"""Absurd counts: one small frame must neither abort the process nor fill its memory."""

import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import FrameError
from broker.kafka_api.apis import BY_KEY, SERVED
from broker.kafka_api.skim import ELEMENT_COUNT_MAX
from broker.kafka_api.wire import codec
from tests.broker.kafka_api import layouts
from tests.broker.kafka_api.fakes import batch
from tests.broker.kafka_api.layouts import Writer

METADATA, PRODUCE = 3, 0


def read(key: int, version: int, body: bytes) -> Any:
    return codec(key, version).read(memoryview(body), 0)


@pytest.mark.parametrize("count", [2, 1000, 2**31 - 1, -2, -(2**31)])
def test_an_array_that_cannot_fit_is_refused(count: int) -> None:
    with pytest.raises(FrameError, match="elements"):
        read(METADATA, 0, struct.pack(">i", count) + b"\0\1a")


@pytest.mark.parametrize(
    "count", [b"\x03", b"\xff\x7f", b"\xff\xff\xff\xff\x07", b"\xff\xff\xff\xff\x0f"]
)
def test_a_compact_array_that_cannot_fit_is_refused_before_kio_allocates_it(count: bytes) -> None:
    """Without the walk in front, the last of these aborts the process."""
    codec(METADATA, 9)  # its modules are imported now, not while memory is counted
    tracemalloc.start()
    try:
        with pytest.raises(FrameError, match="elements"):
            read(METADATA, 9, count + b"\x02a\0")
        _, peak_size = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_size < 100_000


@pytest.mark.parametrize("count", [b"\xff" * 5 + b"\x01", b"\xff" * 9 + b"\x7f"])
def test_a_number_that_never_ends_is_refused(count: bytes) -> None:
    with pytest.raises(FrameError, match="five bytes"):
        read(METADATA, 9, count)


def test_an_inner_array_is_checked_too() -> None:
    body = struct.pack(">hhii", -1, 1, 1000, 1) + struct.pack(">h", 1) + b"t"
    with pytest.raises(FrameError, match="2147483647 elements in 0 bytes"):
        read(PRODUCE, 3, body + struct.pack(">i", 2**31 - 1))


def test_absurdly_many_small_elements_are_refused() -> None:
    """They would fit the frame; as objects they would not fit the memory."""
    count = ELEMENT_COUNT_MAX + 1
    with pytest.raises(FrameError, match=f"more than {ELEMENT_COUNT_MAX}"):
        read(METADATA, 0, struct.pack(">i", count) + b"\0\0" * count)
    assert len(read(METADATA, 0, struct.pack(">i", 100) + b"\0\0" * 100).topics) == 100


def test_absurdly_many_tagged_fields_are_refused() -> None:
    with pytest.raises(FrameError, match="tagged fields"):
        read(METADATA, 9, b"\x01\1\0\0" + b"\xff\xff\xff\x7f")


def test_null_where_null_is_not_allowed_is_refused() -> None:
    with pytest.raises(FrameError):
        read(PRODUCE, 3, struct.pack(">hhii", -1, 1, 1000, -1))
    with pytest.raises(FrameError):
        read(PRODUCE, 9, b"\0" + struct.pack(">hi", 1, 1000) + b"\0" + b"\0")
    with pytest.raises(FrameError):
        read(METADATA, 0, struct.pack(">ih", 1, -1))


@pytest.mark.parametrize(("key", "version"), SERVED)
def test_a_body_that_ends_too_early_is_refused_and_bytes_after_it_are_ignored(
    key: int, version: int
) -> None:
    (message,) = [one for one in layouts.ALL if one.key == key]
    writer = Writer(version, BY_KEY[key].is_flexible(version))
    writer.struct(message.request, {"topics": []} if key == METADATA else {})
    body = bytes(writer.out)
    assert read(key, version, body) == read(key, version, body + b"\1\0\0")
    for size in range(len(body)):
        with pytest.raises(FrameError):
            read(key, version, body[:size])


def test_tagged_fields_nobody_knows_are_skipped() -> None:
    """KIP-482: clients newer than us send them within versions that we serve."""
    stranger = b"\x63\x03abc"
    topic = b"\x02a" + b"\2" + stranger + stranger
    request = read(METADATA, 9, b"\2" + topic + b"\1\0\0" + b"\1" + stranger)
    assert [one.name for one in request.topics] == ["a"]
    assert request.allow_auto_topic_creation is True


def test_tagged_fields_somebody_knows_survive_beside_them() -> None:
    body = struct.pack(">iiibii", 500, 1, 100, 0, 0, -1) + b"\1\1\1"
    request = read(1, 15, body + b"\3" + b"\0\4\4abc" + b"\x30\0" + b"\x63\2xy")
    assert request.cluster_id == "abc"
    assert request.max_bytes == 100


def test_a_tagged_field_that_runs_past_the_end_is_refused() -> None:
    with pytest.raises(FrameError):
        read(METADATA, 9, b"\1\1\0\0" + b"\1" + b"\x63\x7fabc")


@given(st.sampled_from(SERVED), st.binary(max_size=200))
def test_whatever_comes_it_is_read_or_refused(served: tuple[int, int], body: bytes) -> None:
    try:
        read(*served, body)
    except FrameError:
        pass


@given(st.data())
def test_a_damaged_request_is_read_or_refused(data: st.DataObject) -> None:
    version = data.draw(st.integers(3, 12))
    writer = Writer(version, version >= 9)
    partitions = [{"index": 0, "records": batch(b"a")}, {"index": 1}]
    writer.struct(layouts.PRODUCE.request, {"topics": [{"name": "t", "partitions": partitions}]})
    body = writer.out
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(PRODUCE, version, bytes(body))
    except FrameError:
        pass
