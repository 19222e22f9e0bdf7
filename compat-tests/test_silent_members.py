"""Members that join a group of others and then do not do their part: the others get over it."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from conftest import Launch

from harness.clients import Message, confluent_write
from harness.group_wire import (
    GROUP_MAX_SIZE_REACHED,
    HEARTBEAT,
    INCONSISTENT_PROTOCOL,
    INVALID_SESSION_TIMEOUT,
    JOIN_GROUP,
    MEMBER_ID_REQUIRED,
    UNKNOWN_MEMBER_ID,
    Joined,
    first_error,
    heartbeat,
    join,
    parse_joined,
    subscription,
)
from harness.groups import ConfluentMember, create, describe, until
from harness.server import Server
from harness.wire import Wire, request

pytestmark = [pytest.mark.confluent]


@contextmanager
def member(server: Server, topic: str) -> Iterator[ConfluentMember]:
    """A well-behaved member; the group is called as the topic. Its rebalance timeout is that of
    the whole group, and the least that its client allows."""
    found = ConfluentMember(server.kafka, topic, [topic], max_poll_interval_ms=6_000)
    try:
        yield found
    finally:
        found.close()


def joined_to(wire: Wire, topic: str, member_id: str = "") -> Joined:
    """Returns when the join phase is over; the good member takes part in it by itself."""
    body = join(topic, member_id, protocol="roundrobin", metadata=subscription(topic))
    answer = parse_joined(wire.ask(JOIN_GROUP, 2, body))
    assert answer.error == 0
    return answer


def beats_until_refused(server: Server, topic: str, who: Joined) -> int:
    """Heartbeats of its generation; the error that ends them."""
    with Wire(server.kafka_port) as wire:
        pause = threading.Event()
        while True:
            body = wire.ask(HEARTBEAT, 0, heartbeat(topic, who.generation, who.member))
            if first_error(body):
                return first_error(body)
            pause.wait(0.1)


def sole_member_reads(server: Server, topic: str, good: ConfluentMember, offset: int) -> None:
    """What is written from `offset` on is read by `good`, who is alone in the group, or will be."""
    confluent_write(server.kafka, topic, [Message(b"a"), Message(b"b")])
    until(lambda: len(describe(server.kafka, topic).members) == 1, "the others go", 60)
    until(lambda: good.committed.get(topic) == offset + 2, "it reads on", 60)
    assert good.values() == [b"a", b"b"] * (offset // 2 + 1)


@pytest.mark.slow
@pytest.mark.parametrize("does_beat", [False, True], ids=["silent", "beating"])
def test_follower_that_never_syncs(server: Server, topic: str, does_beat: bool) -> None:
    """The one topic may be dealt to it, and then nobody reads. It goes with its session, or, if it
    sends heartbeats, when the time for the rebalance is over."""
    create(server.kafka, topic)
    with member(server, topic) as good, Wire(server.kafka_port) as wire:
        sole_member_reads(server, topic, good, 0)
        rogue = joined_to(wire, topic)
        assert rogue.leader != rogue.member
        if does_beat:
            assert beats_until_refused(server, topic, rogue) == UNKNOWN_MEMBER_ID
        sole_member_reads(server, topic, good, 2)


@pytest.mark.slow
@pytest.mark.parametrize("does_beat", [False, True], ids=["silent", "beating"])
def test_leader_that_never_syncs(server: Server, topic: str, does_beat: bool) -> None:
    """Everybody waits for its assignment. The next generation is led by another."""
    create(server.kafka, topic)
    with Wire(server.kafka_port) as wire:
        rogue = joined_to(wire, topic)
        assert rogue.leader == rogue.member
        with member(server, topic) as good:
            until(lambda: len(describe(server.kafka, topic).members) == 2, "the other joins")
            rogue = joined_to(wire, topic, rogue.member)
            assert rogue.leader == rogue.member
            if does_beat:
                assert beats_until_refused(server, topic, rogue) == UNKNOWN_MEMBER_ID
            sole_member_reads(server, topic, good, 0)


def test_member_of_another_kind(server: Server, topic: str) -> None:
    """What shares neither kind nor protocol, or wants an absurd session, is refused at the door."""
    create(server.kafka, topic)
    with member(server, topic) as good, Wire(server.kafka_port) as wire:
        sole_member_reads(server, topic, good, 0)
        for body, error in [
            (join(topic, protocol_type="connect", protocol="roundrobin"), INCONSISTENT_PROTOCOL),
            (join(topic, protocol="a protocol of its own"), INCONSISTENT_PROTOCOL),
            (join(topic, protocol_type=""), INCONSISTENT_PROTOCOL),
            (join(topic, "a member of nowhere", protocol="roundrobin"), UNKNOWN_MEMBER_ID),
            (join(topic, protocol="roundrobin", session_ms=1), INVALID_SESSION_TIMEOUT),
            (join(topic, protocol="roundrobin", session_ms=2**31 - 1), INVALID_SESSION_TIMEOUT),
        ]:
            assert parse_joined(wire.ask(JOIN_GROUP, 2, body)).error == error
        sole_member_reads(server, topic, good, 2)
        assert good.rebalance_count == 1


@pytest.mark.slow
def test_member_ids_that_are_taken_and_never_used(launch: Launch, topic: str) -> None:
    """JoinGroup 4 gives an id, and wants to be asked again with it. Ids are limited as members are,
    hold nobody up, and are free again when their session is over."""
    server = launch(environment={"WALRUS_GROUP_MAX_SIZE": "900"})
    create(server.kafka, topic)
    with member(server, topic) as good, Wire(server.kafka_port, timeout_s=60) as wire:
        sole_member_reads(server, topic, good, 0)
        body = join(topic, protocol="roundrobin", metadata=subscription(topic))
        wire.send(b"".join(request(JOIN_GROUP, 4, number, body) for number in range(1_000)))
        answers = Counter(parse_joined(wire.receive()[1]).error for _ in range(1_000))
        # One place is the good member's.
        assert answers == {MEMBER_ID_REQUIRED: 899, GROUP_MAX_SIZE_REACHED: 101}
        sole_member_reads(server, topic, good, 2)
        assert good.rebalance_count == 1

        def is_free() -> bool:
            return parse_joined(wire.ask(JOIN_GROUP, 4, body)).error == MEMBER_ID_REQUIRED

        until(is_free, "the ids are forgotten")
