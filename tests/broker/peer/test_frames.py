"""A sealed frame opens once, in order, unchanged, on its own connection, and tells nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import FrameError
from broker.peer.frames import FRAME_SIZE_MAX, TAG_SIZE, Opener, Sealer

KEY = b"k" * 32


@given(st.lists(st.binary(max_size=300), min_size=1), st.integers(1, 50))
def test_frames_arrive_whole_however_they_are_cut(payloads: list[bytes], step: int) -> None:
    sealer, opener = Sealer(KEY), Opener(KEY)
    data = b"".join(map(sealer.seal, payloads))
    arrived = [
        payload for at in range(0, len(data), step) for payload in opener.feed(data[at : at + step])
    ]
    assert arrived == payloads


def test_every_changed_byte_is_noticed() -> None:
    frame = Sealer(KEY).seal(b"hello")
    for position in range(4, len(frame)):
        changed = bytearray(frame)
        changed[position] ^= 1
        with pytest.raises(FrameError):
            Opener(KEY).feed(bytes(changed))


def test_who_listens_reads_nothing() -> None:
    sealer = Sealer(KEY)
    frames = [sealer.seal(b"the secret of a record") for _ in range(2)]
    assert all(b"secret" not in frame for frame in frames)
    assert frames[0] != frames[1]


@given(st.lists(st.binary(max_size=100), min_size=1))
def test_parts_arrive_as_one_payload(parts: list[bytes]) -> None:
    assert Opener(KEY).feed(Sealer(KEY).seal(*parts)) == [b"".join(parts)]


def test_a_frame_cannot_be_repeated_left_out_or_swapped() -> None:
    sealer = Sealer(KEY)
    one, two, three = (sealer.seal(text) for text in (b"1", b"2", b"3"))
    for order in ([one, one], [two], [one, three], [one, three, two]):
        with pytest.raises(FrameError):
            Opener(KEY).feed(b"".join(order))


def test_a_frame_of_another_connection_does_not_open() -> None:
    with pytest.raises(FrameError):
        Opener(b"o" * 32).feed(Sealer(KEY).seal(b"hello"))


@pytest.mark.parametrize("size", [0, TAG_SIZE - 1, TAG_SIZE + FRAME_SIZE_MAX + 1, 2**32 - 1])
def test_an_absurd_length_is_refused_before_anything_is_kept(size: int) -> None:
    opener = Opener(KEY)
    with pytest.raises(FrameError, match=str(size)):
        opener.feed(size.to_bytes(4, "little") + b"x" * 10)


def test_an_oversize_payload_is_not_sent() -> None:
    with pytest.raises(ValueError, match="above"):
        Sealer(KEY).seal(bytes(FRAME_SIZE_MAX + 1))
