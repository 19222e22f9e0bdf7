"""A snapshot arrives whole, whatever happens to its pieces."""

import pytest

from raft.messages import BATCH_SIZE, ChunkReply
from raft.transfer import RESEND_S, SNAPSHOT_SIZE_MAX, Incoming, Outgoing

DATA = bytes(range(256)) * (BATCH_SIZE // 100)


def test_it_goes_piece_by_piece_and_lost_ones_are_sent_again() -> None:
    sender, receiver = Outgoing(7, DATA), Incoming()
    now, rounds = 0.0, 0
    whole = None
    while whole is None:
        rounds += 1
        assert rounds < 100
        chunk = sender.next_chunk(1, now)
        if chunk is None:
            now += RESEND_S
            continue
        assert sender.next_chunk(1, now) is None
        if rounds % 3 == 0:
            continue
        whole = receiver.add("a", chunk)
        sender.acknowledged(ChunkReply(1, 7, receiver.position, installed=False))
        if rounds % 4 == 0:
            assert receiver.add("a", chunk) in (None, whole)
    assert whole == DATA


def test_pieces_of_two_snapshots_never_mix() -> None:
    one, other, receiver = Outgoing(7, DATA), Outgoing(8, DATA[::-1]), Incoming()
    first, second = one.next_chunk(1, 0.0), other.next_chunk(1, 0.0)
    assert first is not None
    assert second is not None
    receiver.add("a", first)
    receiver.add("a", second)
    assert receiver.position == BATCH_SIZE
    receiver.add("b", second)
    assert receiver.position == BATCH_SIZE
    receiver.clear()
    assert receiver.position == 0


@pytest.mark.parametrize(
    ("voter", "index", "size"),
    [("b", 7, 0), ("a", 8, 0), ("a", 7, 1)],
    ids=["voter", "index", "size"],
)
def test_the_end_of_another_snapshot_does_not_complete_one(
    voter: str, index: int, size: int
) -> None:
    one, other, receiver = Outgoing(7, DATA), Outgoing(index, DATA + bytes(size)), Incoming()
    first = one.next_chunk(1, 0.0)
    assert first is not None
    receiver.add("a", first)
    other.acknowledged(ChunkReply(1, index, BATCH_SIZE, installed=False))
    second = other.next_chunk(1, 0.0)
    assert second is not None
    assert second.position == receiver.position
    receiver.add(voter, second)
    assert receiver.position == 0


def test_a_piece_that_comes_twice_or_too_early_is_not_taken() -> None:
    sender, receiver = Outgoing(7, DATA), Incoming()
    pieces = []
    for position in range(0, len(DATA), BATCH_SIZE):
        sender.acknowledged(ChunkReply(1, 7, position, installed=False))
        piece = sender.next_chunk(1, position * RESEND_S)
        assert piece is not None
        pieces.append(piece)
    first, second, last = pieces
    receiver.add("a", first)
    for wrong in (first, last):
        receiver.add("a", wrong)
        assert receiver.position == BATCH_SIZE
    receiver.add("a", second)
    assert receiver.add("a", last) == DATA


def test_an_acknowledgement_without_news_sends_nothing() -> None:
    """A receiver that writes the whole snapshot says the same again and again; each answer to that
    would bring the next one."""
    sender = Outgoing(7, DATA)
    sender.next_chunk(1, 0.0)
    sender.acknowledged(ChunkReply(1, 7, len(DATA), installed=False))
    assert sender.next_chunk(1, 0.0) is not None
    sender.acknowledged(ChunkReply(1, 7, len(DATA), installed=False))
    assert sender.next_chunk(1, 0.5) is None


def test_a_receiver_that_starts_anew_gets_everything_again() -> None:
    sender = Outgoing(7, DATA)
    sender.next_chunk(1, 0.0)
    sender.acknowledged(ChunkReply(1, 7, BATCH_SIZE, installed=False))
    second = sender.next_chunk(1, 0.0)
    assert second is not None
    assert Incoming().add("a", second) is None
    sender.acknowledged(ChunkReply(1, 7, 0, installed=False))
    again = sender.next_chunk(1, 0.0)
    assert again is not None
    assert again.position == 0
    sender.acknowledged(ChunkReply(1, 7, len(DATA) + 1, installed=False))
    sender.acknowledged(ChunkReply(1, 6, 5, installed=False))
    assert sender.next_chunk(1, 0.5) is None


def test_lies_about_size_cost_nothing() -> None:
    sender, receiver = Outgoing(7, b"x" * 100), Incoming()
    chunk = sender.next_chunk(1, 0.0)
    assert chunk is not None
    lie = type(chunk)(1, 7, 0, 50, chunk.data)
    assert receiver.add("a", lie) is None
    assert receiver.position == 0
    huge = type(chunk)(1, 7, 0, SNAPSHOT_SIZE_MAX + 1, chunk.data)
    assert receiver.add("a", huge) is None
    assert receiver.position == 0
