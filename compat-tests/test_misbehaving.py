"""Members that do what no client would: they are told so, and nobody else notices."""

import struct
from collections import Counter
from collections.abc import Sequence

import pytest
from conftest import Launch

from harness.clients import Message, confluent_write
from harness.groups import ConfluentMember, create, describe, positions, until
from harness.server import Server
from harness.wire import Wire, request, string

JOIN_GROUP, HEARTBEAT, OFFSET_COMMIT = 11, 12, 8

UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, GROUP_MAX_SIZE_REACHED = 25, 22, 81

pytestmark = [pytest.mark.confluent]


def join(group: str) -> bytes:
    """JoinGroup 2 of a new member, which gets its id at once."""
    timeouts = struct.pack(">ii", 6_000, 6_000)
    protocol = struct.pack(">i", 1) + string("range") + struct.pack(">i", 0)
    return string(group) + timeouts + string("") + string("consumer") + protocol


def heartbeat(group: str, generation: int, member: str) -> bytes:
    """Heartbeat 0."""
    return string(group) + struct.pack(">i", generation) + string(member)


def commit(group: str, generation: int, member: str, topic: str, offset: int) -> bytes:
    """OffsetCommit 2."""
    who = string(group) + struct.pack(">i", generation) + string(member)
    what = struct.pack(">iiq", 1, 0, offset) + string("")
    return who + struct.pack(">qi", -1, 1) + string(topic) + what


def commit_error(body: bytes) -> int:
    """The error of the one partition in an answer to OffsetCommit 2."""
    return int(struct.unpack(">h", body[-2:])[0])


def error_codes(wires: Sequence[Wire], count: int) -> Counter[int]:
    """The errors of `count` answers to JoinGroup 2 on each connection."""
    found: Counter[int] = Counter()
    for wire in wires:
        for _ in range(count):
            _, body = wire.receive()
            found[struct.unpack_from(">h", body, 4)[0]] += 1
    return found


@pytest.mark.parametrize(
    ("generation", "member", "error"),
    [
        (1, "", UNKNOWN_MEMBER_ID),
        (1, "somebody else", UNKNOWN_MEMBER_ID),
        (-1, "", UNKNOWN_MEMBER_ID),
        (1_000_000, "its own id", ILLEGAL_GENERATION),
        (-7, "its own id", ILLEGAL_GENERATION),
    ],
)
def test_stranger_that_speaks_for_a_group(
    server: Server, topic: str, generation: int, member: str, error: int
) -> None:
    """Neither its heartbeats nor its commits count; the group's own member reads on."""
    create(server.kafka, topic)
    victim = ConfluentMember(server.kafka, topic, [topic])
    try:
        confluent_write(server.kafka, topic, [Message(b"a"), Message(b"b")])
        until(lambda: victim.committed.get(topic) == 2, "it has read and committed")
        (known,) = describe(server.kafka, topic).members
        who = known.member_id if member == "its own id" else member
        with Wire(server.kafka_port) as wire:
            body = wire.ask(HEARTBEAT, 0, heartbeat(topic, generation, who))
            assert struct.unpack(">h", body)[0] == error
            body = wire.ask(OFFSET_COMMIT, 2, commit(topic, generation, who, topic, 0))
            assert commit_error(body) == error
        assert positions(server.kafka, topic) == {topic: 2}
        rebalance_count = victim.rebalance_count
        confluent_write(server.kafka, topic, [Message(b"c")])
        until(lambda: victim.committed.get(topic) == 3, "it reads on")
        assert victim.rebalance_count == rebalance_count
    finally:
        victim.close()


def test_thousand_members_that_join_and_never_sync(launch: Launch, topic: str) -> None:
    """More than may be in a group are refused; the others' sessions end; another group goes on."""
    server = launch(environment={"WALRUS_GROUP_MAX_SIZE": "900"})
    create(server.kafka, topic)
    victim = ConfluentMember(server.kafka, "victim", [topic])
    wires = [Wire(server.kafka_port, timeout_s=60) for _ in range(20)]
    try:
        until(lambda: victim.assigned, "it is a member")
        for wire in wires:
            wire.send(b"".join(request(JOIN_GROUP, 2, n, join("crowd")) for n in range(50)))
        confluent_write(server.kafka, topic, [Message(b"a"), Message(b"b")])
        until(lambda: victim.committed.get(topic) == 2, "it reads meanwhile")
        answers = error_codes(wires, 50)
        assert answers.total() == 1000
        assert answers[GROUP_MAX_SIZE_REACHED] >= 100
        assert set(answers) <= {0, GROUP_MAX_SIZE_REACHED}, answers
        until(lambda: not describe(server.kafka, "crowd").members, "they go")
        confluent_write(server.kafka, topic, [Message(b"c")])
        until(lambda: victim.committed.get(topic) == 3, "it reads on")
        assert victim.rebalance_count == 1
    finally:
        victim.close()
        for wire in wires:
            wire.socket.close()
