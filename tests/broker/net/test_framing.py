"""Frames come out the same however the bytes were cut, and a false length costs nothing."""

import struct
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.net.framing import FrameDecoder

ByteOrder = Literal["big", "little"]

SCRATCH_SIZE = 64


def framed(byteorder: ByteOrder, *bodies: bytes) -> bytes:
    return b"".join(len(body).to_bytes(4, byteorder) + body for body in bodies)


def decoder(
    byteorder: ByteOrder = "big", *, size_min: int = 1, size_max: int = 10_000
) -> FrameDecoder:
    scratch = memoryview(bytearray(SCRATCH_SIZE))
    return FrameDecoder(byteorder, size_min=size_min, size_max=size_max, scratch=scratch)


def feed(into: FrameDecoder, data: bytes, step: int = 10**9) -> list[memoryview]:
    """As a socket would: never more than asked for, and at most `step` bytes at a time."""
    frames = []
    while data and into.refused is None:
        room = into.buffer()
        size = min(len(room), len(data), step)
        room[:size] = data[:size]
        frames += into.advance(size)
        data = data[size:]
    return frames


bodies_of_any_size = st.lists(
    st.one_of(
        st.binary(min_size=0, max_size=SCRATCH_SIZE * 2),
        st.integers(0, 2_000).map(lambda size: bytes(i % 251 for i in range(size))),
    ),
    max_size=12,
)


@given(
    bodies_of_any_size,
    st.lists(st.integers(1, 300), min_size=1),
    st.sampled_from(["big", "little"]),
)
def test_any_chunking_gives_the_same_frames(
    bodies: list[bytes], steps: list[int], byteorder: ByteOrder
) -> None:
    data = framed(byteorder, *bodies)
    into = decoder(byteorder, size_min=0)
    frames: list[memoryview] = []
    position = 0
    while position < len(data):
        step = steps[position % len(steps)]
        frames += feed(into, data[position : position + step])
        position = min(position + step, len(data))
        assert into.pending_size == position - sum(4 + len(frame) for frame in frames)
    assert [bytes(frame) for frame in frames] == bodies
    assert into.refused is None
    assert into.pending_size == 0


@given(bodies_of_any_size)
def test_a_byte_at_a_time_is_no_different(bodies: list[bytes]) -> None:
    frames = feed(decoder(size_min=0), framed("big", *bodies), step=1)
    assert [bytes(frame) for frame in frames] == bodies


@given(st.binary(max_size=500), st.integers(1, 500))
def test_garbage_is_framed_or_refused_and_never_raises(garbage: bytes, step: int) -> None:
    into = decoder(size_max=200)
    frames = feed(into, garbage, step)
    consumed = sum(4 + len(frame) for frame in frames)
    assert consumed <= len(garbage)
    assert all(1 <= len(frame) <= 200 for frame in frames)
    if into.refused is None:
        assert into.pending_size == len(garbage) - consumed
    else:
        assert not 1 <= into.refused <= 200


def test_frames_stay_valid_while_later_ones_arrive() -> None:
    into = decoder()
    first = feed(into, framed("big", b"a" * 10, b"b" * 500))
    feed(into, framed("big", b"c" * 10, b"d" * 500))
    assert [bytes(frame) for frame in first] == [b"a" * 10, b"b" * 500]


def test_an_announced_gigabyte_allocates_what_came_and_no_more() -> None:
    into = decoder(size_max=2**31)
    feed(into, struct.pack(">I", 2**30) + b"x" * 10)
    assert into.pending_size == 14
    assert len(into.buffer()) <= SCRATCH_SIZE


def test_a_batch_of_256_kib_is_received_in_two_reads() -> None:
    body = b"y" * (256 * 1024 + 200)
    wire = memoryview(framed("big", body))
    into = FrameDecoder("big", size_max=2**20)
    rooms = []
    frames: list[memoryview] = []
    while not frames:
        room = into.buffer()[: len(wire)]
        rooms.append(len(room))
        room[:], wire = wire[: len(room)], wire[len(room) :]
        frames = into.advance(len(room))
    assert frames == [body]
    assert len(rooms) == 2


def test_a_large_body_is_received_in_place_and_grows_with_what_came() -> None:
    into = decoder(size_max=2**20)
    feed(into, struct.pack(">I", 100_000))
    rooms = []
    frames: list[memoryview] = []
    while not frames:
        room = into.buffer()
        rooms.append(len(room))
        room[:] = b"y" * len(room)
        frames = into.advance(len(room))
    assert bytes(frames[0]) == b"y" * 100_000
    assert rooms[:4] == [64, 64, 128, 256]
    assert len(rooms) < 15


@pytest.mark.parametrize("size", [0, 10_001, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused_and_nothing_after_it_is_taken(size: int) -> None:
    into = decoder()
    frames = feed(into, framed("big", b"good") + struct.pack(">I", size) + b"GET t")
    assert [bytes(frame) for frame in frames] == [b"good"]
    assert into.refused == size
    assert into.head == struct.pack(">I", size) + b"GET t"
    assert into.advance(10) == []


def test_zero_may_be_a_frame_where_the_protocol_says_so() -> None:
    frames = feed(decoder(size_min=0), framed("big", b"", b"x", b""))
    assert [bytes(frame) for frame in frames] == [b"", b"x", b""]


def test_the_head_of_a_pending_frame_is_there_for_the_log() -> None:
    into = decoder()
    feed(into, struct.pack(">I", 50) + b"half")
    assert into.head == struct.pack(">I", 50) + b"half"
    large = decoder()
    feed(large, struct.pack(">I", 5_000) + b"z" * 30)
    assert large.head == struct.pack(">I", 5_000) + b"z" * 12
