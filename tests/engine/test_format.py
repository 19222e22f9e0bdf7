"""The small files: a torn or damaged one must be noticed, an old one read, a new one refused."""

import struct
from dataclasses import replace

import pytest
from crc32c import crc32c

from engine.errors import FormatVersionError
from engine.format import (
    META_SLOT_SIZE,
    FormatError,
    SegmentState,
    log_name,
    new_meta,
    pack_head,
    pack_meta,
    parse_segment_directory,
    parse_topic_directory,
    topic_directory,
    unpack_head,
    unpack_meta,
)

META = replace(
    new_meta(500, 7),
    counter=3,
    promised_epoch=9,
    state=SegmentState.SEALED,
    sealed_end=600,
    sealed_size=4321,
    digest=0xDEADBEEF,
    max_timestamp=1_700_000_000_000,
    ack_mark=590,
)

GOLDEN_META = (
    "575345470001000000000000000300000000000000090200000000000001f400000000000000070000000000"
    "00025800000000000010e1deadbeef0000018bcfe56800000000000000024e"
)


def test_meta_of_an_older_program_is_read() -> None:
    """If this fails, data directories in use cannot be opened: raise META_VERSION and read both."""
    slot = pack_meta(META)
    assert slot[: len(GOLDEN_META) // 2].hex() == GOLDEN_META
    assert len(slot) == META_SLOT_SIZE
    assert unpack_meta(slot + bytes(META_SLOT_SIZE)) == (META, 0)


def test_newest_valid_slot_is_the_truth() -> None:
    older, newer = pack_meta(META), pack_meta(replace(META, counter=4, promised_epoch=10))
    assert unpack_meta(older + newer)[1] == 1
    assert unpack_meta(newer + older)[1] == 0
    for position in range(0, META_SLOT_SIZE, 97):
        torn = newer[:position] + older[position:]
        if torn != older:
            assert unpack_meta(older + torn) == (META, 0), position


@pytest.mark.parametrize("data", [b"", bytes(8192), b"\xff" * 8192, pack_meta(META)[:-1]])
def test_meta_without_a_valid_slot_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        unpack_meta(data)


def test_meta_of_a_newer_program_is_refused_by_name() -> None:
    body = bytearray(pack_meta(META)[:-4])
    body[5] = 2
    slot = bytes(body) + crc32c(body).to_bytes(4)
    with pytest.raises(FormatVersionError, match="segment meta has format version 2"):
        unpack_meta(slot + pack_meta(META))


@pytest.mark.parametrize("content", [b"", b"x", bytes(100_000)])
def test_head_survives_and_every_damage_to_it_shows(content: bytes) -> None:
    data = pack_head(content)
    assert unpack_head(data) == content
    for position in (*range(14), len(data) - 1):
        damaged = bytearray(data)
        damaged[position] ^= 1
        with pytest.raises(FormatError):
            unpack_head(bytes(damaged))
    with pytest.raises(FormatError):
        unpack_head(data[:-1])
    with pytest.raises(FormatError):
        unpack_head(data + b"\0")


@pytest.mark.parametrize("bit", range(16))
def test_a_damaged_version_of_a_head_is_damage_and_not_the_future(bit: int) -> None:
    """A sealed copy is made anew from others only where its file is known to be damaged."""
    for data in (pack_head(b"state"), _head_of_version_1(b"state")):
        damaged = bytearray(data)
        damaged[4 + bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            unpack_head(bytes(damaged))


def test_heads_of_other_versions() -> None:
    assert unpack_head(_head_of_version_1(b"state")) == b"state"
    begin = struct.pack(">4sHI", b"WHED", 3, 5)
    newer = begin + crc32c(begin + b"state").to_bytes(4) + b"state"
    with pytest.raises(FormatVersionError, match="segment head has format version 3"):
        unpack_head(newer)


def _head_of_version_1(content: bytes) -> bytes:
    return struct.pack(">4sHII", b"WHED", 1, len(content), crc32c(content)) + content


def test_names_of_directories() -> None:
    topic_id = bytes(range(16))
    name = topic_directory("a.b_c-d", topic_id)
    assert name == "a.b_c-d-000102030405060708090a0b0c0d0e0f"
    assert parse_topic_directory(name) == ("a.b_c-d", topic_id)
    assert len(topic_directory("x" * 249, topic_id)) == 233
    assert log_name(42) == "00000000000000000042.log"
    assert [parse_segment_directory(text) for text in ("1", "10", "01", "1.new", "x")] == [
        1,
        10,
        None,
        None,
        None,
    ]
    assert parse_topic_directory(name + ".deleted") is None


@pytest.mark.parametrize("name", ["", "a/b", "a\0b", "ä", "a b"])
def test_topic_name_that_would_leave_the_directory(name: str) -> None:
    with pytest.raises(ValueError, match="no topic directory"):
        topic_directory(name, bytes(16))
