"""The encodings of commands: readable for as long as there are logs that hold them.

A golden file is replaced by deleting it and running its test: do so only for a new format version.
"""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft import commands as c
from tests.raft.strategies import COMMANDS
from tests.raft.support import CLIENT, DISKS, holders, register, sealed_end, topic_id

GOLDEN = Path(__file__).parent / "golden"

NEXT = c.Next(writer=1, writer_incarnation=7, replicas=(1, 2))
EXAMPLES: tuple[c.AnyCommand, ...] = (
    c.FormCluster("cluster"),
    register(1),
    c.FenceBroker(1, 7),
    c.MarkLeaving(1, True),
    c.RemoveBroker(1, DISKS[1]),
    c.CreateTopic(topic_id(1), "t", {"a": "b"}, 3, False, True, NEXT),
    c.DeleteTopic(topic_id(1)),
    c.ChangeConfig(topic_id(1), 4, {"a": None, "b": "c"}),
    c.ChangeGroupConfig("g", {"a": "b"}, {"a": "c"}),
    c.BeginSeal(topic_id(1), 2, 5, 1),
    c.BeginSealMany(1, 7),
    c.AcceptLoss(topic_id(1), 2, 5, 1),
    c.CommitSealMany((c.SealItem(topic_id(1), 2, 6, sealed_end(0, 10), holders((1, 2)), NEXT),)),
    c.CommitRoll(topic_id(1), 2, 5, sealed_end(0, 10), holders((1, 2)), NEXT),
    c.AddHolder(topic_id(1), 2, 3, DISKS[3]),
    c.RemoveHolder(topic_id(1), 2, 3, DISKS[3]),
    c.DeletePrefix(topic_id(1), 10),
    c.AllocateProducerIds(1000),
    c.Barrier(),
    c.Abandon(),
)

GROWN = {c.CreateTopic, c.CommitSealMany, c.CommitRoll}
"""Commands that have got another field since the first golden file: that one stays readable, and a
second one holds what is written now."""


def golden(name: str, data: bytes) -> bytes:
    """What the file holds; one that is not there yet is written, and the test fails this once."""
    path = GOLDEN / name
    if not path.exists():
        path.write_text(data.hex() + "\n")
        pytest.fail(f"wrote {path}: look at it, and run again")
    return bytes.fromhex(path.read_text())


def test_there_is_an_example_of_every_command() -> None:
    assert {type(example) for example in EXAMPLES} == set(c.AnyCommand.__args__)


@pytest.mark.parametrize("command", EXAMPLES, ids=lambda each: type(each).__name__)
def test_old_logs_stay_readable(command: c.AnyCommand) -> None:
    envelope = c.Envelope(c.FORMAT_VERSION, CLIENT, 3, command)
    stored = golden(f"command-v1-{type(command).__name__}.hex", c.encode(envelope))
    assert c.decode(stored) == envelope
    if type(command) in GROWN:
        stored = golden(f"command-v1-{type(command).__name__}-2.hex", c.encode(envelope))
    assert c.encode(envelope) == stored


@given(COMMANDS)
def test_every_command_survives_the_log(command: c.AnyCommand) -> None:
    envelope = c.Envelope(c.FORMAT_VERSION, CLIENT, 1, command)
    assert c.decode(c.encode(envelope)) == envelope


@given(st.binary(max_size=200))
def test_garbage_is_an_error_that_can_be_caught(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        c.decode(data)


def test_a_name_that_is_no_text_is_an_error_that_can_be_caught() -> None:
    data = c.encode(c.Envelope(c.FORMAT_VERSION, CLIENT, 1, c.FormCluster("name")))
    with pytest.raises(msgspec.MsgspecError):
        c.decode(data.replace(b"name", b"n\xc4me"))


def test_a_command_of_a_later_format_is_not_guessed_at() -> None:
    later = msgspec.msgpack.encode((c.FORMAT_VERSION + 1, CLIENT, 1, c.Barrier()))
    with pytest.raises(msgspec.ValidationError, match="format 2"):
        c.decode(later)


def test_an_oversize_command_is_refused_before_it_is_proposed() -> None:
    huge = c.ChangeConfig(topic_id(1), 0, {"k": "v" * c.COMMAND_SIZE_MAX})
    with pytest.raises(ValueError, match="split it"):
        c.encode(c.Envelope(c.FORMAT_VERSION, CLIENT, 1, huge))
