"""What members say is typed and bounded; anything else is an error that can be caught."""

import pickle
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft import messages
from raft.members import MemberChange
from raft.messages import (
    MESSAGE_SIZE_MAX,
    AnyMessage,
    Append,
    AppendReply,
    Chunk,
    ChunkReply,
    Forward,
    MemberReply,
    MemberRequest,
    TimeoutNow,
    Vote,
    VoteReply,
)

EXAMPLES: tuple[AnyMessage, ...] = (
    Append(3, 10, 2, 9, ((3, b"\x00x"), (3, b"\x00y")), (64, 2**61)),
    AppendReply(3, True, 12),
    Vote(3, 12, 2, False, True),
    VoteReply(3, True, False),
    Chunk(3, 100, 0, 5, b"hello"),
    ChunkReply(3, 100, 5, True),
    TimeoutNow(3),
    Forward((b"a", b"b")),
    MemberRequest(MemberChange("a", "")),
    MemberReply(MemberChange("", "b")),
)


def test_there_is_an_example_of_every_message() -> None:
    assert {type(each) for each in EXAMPLES} == set(AnyMessage.__args__)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda each: type(each).__name__)
def test_a_message_arrives_as_it_was_sent(message: AnyMessage) -> None:
    data = messages.encode(message)
    assert messages.decode(data) == message
    for size in range(len(data)):
        with pytest.raises(msgspec.MsgspecError):
            messages.decode(data[:size])


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_is_a_message(data: bytes) -> None:
    try:
        message = messages.decode(data)
    except msgspec.MsgspecError:
        return
    assert messages.decode(messages.encode(message)) == message


def test_a_name_that_is_no_text_is_refused() -> None:
    data = messages.encode(MemberRequest(MemberChange("name", "")))
    with pytest.raises(msgspec.MsgspecError):
        messages.decode(data.replace(b"name", b"n\xc4me"))


@pytest.mark.parametrize("term", [-1, 2**62, 2**64 - 1])
def test_numbers_out_of_range_are_refused(term: int) -> None:
    with pytest.raises(msgspec.ValidationError):
        messages.decode(messages.encode(AppendReply(term, True, 1)))


def test_an_oversize_message_is_refused_unread() -> None:
    with pytest.raises(msgspec.ValidationError, match="bytes"):
        messages.decode(bytes(MESSAGE_SIZE_MAX + 1))


def test_a_pickle_is_only_bytes(tmp_path: Path) -> None:
    witness = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (witness.write_text, ("!",))

    with pytest.raises(msgspec.MsgspecError):
        messages.decode(pickle.dumps(Bomb()))
    assert not witness.exists()
