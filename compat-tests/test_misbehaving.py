"""Members that do what no client would: they are told so, and nobody else notices."""

import struct
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest
from conftest import Launch

from harness.clients import Message, confluent_write
from harness.group_wire import (
    GROUP_MAX_SIZE_REACHED,
    HEARTBEAT,
    ILLEGAL_GENERATION,
    JOIN_GROUP,
    LEAVE_GROUP,
    LIST_GROUPS,
    OFFSET_COMMIT,
    REBALANCE_IN_PROGRESS,
    SYNC_GROUP,
    UNKNOWN_MEMBER_ID,
    commit,
    commit_error,
    first_error,
    heartbeat,
    join,
    leave,
    parse_joined,
    sync,
)
from harness.groups import ConfluentMember, create, describe, positions, until
from harness.server import Server
from harness.wire import Wire, request

SESSION_MS = 30_000
"""Of members that come by the thousand: from its join to its sync one may wait for all others."""

pytestmark = [pytest.mark.confluent]


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
        (1, "a member of another group", UNKNOWN_MEMBER_ID),
        (-1, "", UNKNOWN_MEMBER_ID),
        (1_000_000, "its own id", ILLEGAL_GENERATION),
        (0, "its own id", ILLEGAL_GENERATION),
        (-7, "its own id", ILLEGAL_GENERATION),
    ],
)
def test_stranger_that_speaks_for_a_group(
    server: Server, topic: str, generation: int, member: str, error: int
) -> None:
    """Neither its heartbeats nor its commits count, it assigns nothing and sends nobody away; the
    group's own member reads on."""
    create(server.kafka, topic)
    victim = ConfluentMember(server.kafka, topic, [topic])
    try:
        confluent_write(server.kafka, topic, [Message(b"a"), Message(b"b")])
        until(lambda: victim.committed.get(topic) == 2, "it has read and committed")
        (known,) = describe(server.kafka, topic).members
        with Wire(server.kafka_port) as wire:
            other = parse_joined(wire.ask(JOIN_GROUP, 2, join(f"{topic}-other")))
            assert (other.error, other.generation) == (0, 1)
            ids = {"its own id": known.member_id, "a member of another group": other.member}
            who = ids.get(member, member)
            body = wire.ask(HEARTBEAT, 0, heartbeat(topic, generation, who))
            assert first_error(body) == error
            body = wire.ask(SYNC_GROUP, 0, sync(topic, generation, who, {known.member_id: b""}))
            assert first_error(body) == error
            body = wire.ask(OFFSET_COMMIT, 2, commit(topic, generation, who, topic, 0))
            assert commit_error(body) == error
            if who != known.member_id:
                assert first_error(wire.ask(LEAVE_GROUP, 0, leave(topic, who))) == error
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


@contextmanager
def witness(server: Server, topic: str) -> Iterator[ConfluentMember]:
    """A well-behaved member of another group: at the end it reads on, and was never disturbed."""
    create(server.kafka, topic)
    member = ConfluentMember(server.kafka, "witness", [topic])
    try:
        until(lambda: member.assigned, "it is a member")
        yield member
        confluent_write(server.kafka, topic, [Message(b"a"), Message(b"b")])
        until(lambda: member.committed.get(topic) == 2, "it reads on")
        assert member.rebalance_count == 1
    finally:
        member.close()


def pipelined(
    wires: Sequence[Wire], key: int, version: int, bodies: Sequence[bytes]
) -> list[bytes]:
    """The answers to all, sent over the connections in turns, in the order of the bodies."""
    for start, wire in enumerate(wires):
        wire.send(
            b"".join(
                request(key, version, number, bodies[number])
                for number in range(start, len(bodies), len(wires))
            )
        )
    found = {}
    for wire in wires:
        for _ in range(wires.index(wire), len(bodies), len(wires)):
            number, body = wire.receive()
            found[number] = body
    return [found[number] for number in range(len(bodies))]


@contextmanager
def connections(server: Server, count: int = 10) -> Iterator[list[Wire]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Wire(server.kafka_port, timeout_s=120)) for _ in range(count)]


@contextmanager
def measured(server: Server, what: str) -> Iterator[None]:
    """Print what it costs, for whoever wants to know; nothing is asserted about it."""
    begun, size = time.monotonic(), server.memory_size()
    yield
    grown = (server.memory_size() - size) / 2**20
    print(f"{what}: {time.monotonic() - begun:.1f} s, {grown:+.1f} MiB")


def test_ten_thousand_groups_that_only_commit(launch: Launch, topic: str) -> None:
    """All are kept, across a restart, too; those beyond the node's limit are refused by name."""
    server = launch(environment={"WALRUS_GROUPS_MAX": "10000"})
    with witness(server, topic):
        create(server.kafka, "t")
        bodies = [commit(f"g{n}", -1, "", "t", n) for n in range(10_500)]
        with connections(server) as wires, measured(server, "10,000 groups that commit"):
            answers = Counter(map(commit_error, pipelined(wires, OFFSET_COMMIT, 2, bodies)))
        # One of them is the witness.
        assert answers == {0: 9_999, GROUP_MAX_SIZE_REACHED: 501}
    server.kill()
    begun = time.monotonic()
    server.start()
    print(f"restart with 10,000 groups: {time.monotonic() - begun:.1f} s")
    assert positions(server.kafka, "g1234") == {"t": 1234}
    with Wire(server.kafka_port) as wire:
        (count,) = struct.unpack_from(">i", wire.ask(LIST_GROUPS, 0, b""), 2)
        assert count == 10_000
        # Who is there already may go on.
        assert commit_error(wire.ask(OFFSET_COMMIT, 2, commit("g7", -1, "", "t", 8))) == 0
    assert positions(server.kafka, "g7") == {"t": 8}


@pytest.mark.slow
@pytest.mark.full
def test_ten_thousand_groups_with_a_member_each(launch: Launch, topic: str) -> None:
    """Each gets its generation and its share; when they fall silent all of them go."""
    server = launch()
    names = [f"g{number}" for number in range(10_000)]
    with witness(server, topic):
        with connections(server) as wires, measured(server, "10,000 groups with a member each"):
            bodies = [join(name, session_ms=SESSION_MS) for name in names]
            joins = pipelined(wires, JOIN_GROUP, 2, bodies)
            joined = [parse_joined(body) for body in joins]
            assert Counter(one.error for one in joined) == {0: 10_000}
            assert all(one.leader == one.member for one in joined)
            syncs = [
                sync(name, one.generation, one.member, {one.member: b"share of it"})
                for name, one in zip(names, joined, strict=True)
            ]
            for body in pipelined(wires, SYNC_GROUP, 0, syncs):
                assert body.endswith(b"share of it")
        assert server.metric("walrus_group_groups", state="Stable") == 10_001
        until(lambda: server.metric("walrus_group_members") == 1, "they go", 120)
    assert server.metric("walrus_group_members_dropped_total", reason="session") == 10_000


@pytest.mark.slow
def test_thousand_members_that_all_take_part(launch: Launch, topic: str) -> None:
    """A generation of a thousand, each with its share; one leaves, and all hear of it."""
    server = launch()
    with witness(server, topic), connections(server, 20) as wires:
        with measured(server, "1,000 members of one group"):
            bodies = [join("crowd", session_ms=SESSION_MS)] * 1_000
            joins = pipelined(wires, JOIN_GROUP, 2, bodies)
            joined = [parse_joined(body) for body in joins]
            assert Counter((one.error, one.generation, one.leader) for one in joined) == {
                (0, 1, joined[0].leader): 1_000
            }
            shares = {one.member: b"for %b" % one.member.encode() for one in joined}
            assert len(shares) == 1_000
            syncs = [
                sync("crowd", 1, one.member, shares if one.member == one.leader else {})
                for one in joined
            ]
            for one, body in zip(joined, pipelined(wires, SYNC_GROUP, 0, syncs), strict=True):
                assert body.endswith(shares[one.member])
        with measured(server, "1,000 heartbeats"):
            beats = [heartbeat("crowd", 1, one.member) for one in joined]
            assert set(pipelined(wires, HEARTBEAT, 0, beats)) == {bytes(2)}
        assert wires[0].ask(LEAVE_GROUP, 0, leave("crowd", joined[-1].member)) == bytes(2)
        answers = Counter(pipelined(wires, HEARTBEAT, 0, beats))
        assert answers == {
            struct.pack(">h", REBALANCE_IN_PROGRESS): 999,
            struct.pack(">h", UNKNOWN_MEMBER_ID): 1,
        }
