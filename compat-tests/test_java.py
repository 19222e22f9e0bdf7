"""Java's clients: producer, consumer, groups and Admin, by small programs on Kafka's jars.

The programs are in compat-tests/java; each throws, and so fails, where it is disappointed.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.groups import create, positions, until, write
from harness.java import VERSIONS, Java
from harness.processes import Client, read_in_order, share_is_even
from harness.server import Server

pytestmark = [pytest.mark.java, pytest.mark.confluent]

WAIT_S_MAX = 60.0

EAGER = "org.apache.kafka.clients.consumer.RoundRobinAssignor"
COOPERATIVE = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"

Start = Callable[[Sequence[str]], Client]


@pytest.fixture(params=VERSIONS)
def java(request: pytest.FixtureRequest, tmp_path: Path) -> Java:
    return Java(request.param, tmp_path)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start clients that do not outlive the test."""
    clients: list[Client] = []

    def start(command: Sequence[str]) -> Client:
        clients.append(Client(command, tmp_path / f"client-{len(clients)}.log"))
        return clients[-1]

    yield start
    for client in clients:
        client.discard()


def six(topic: str) -> list[str]:
    """A topic has one partition, so three members share six topics."""
    return [f"{topic}-{number}" for number in range(6)]


def all_read(members: Sequence[Client], written: set[bytes]) -> Callable[[], bool]:
    wanted = {value.decode() for value in written}
    return lambda: {value for member in members for value in member.values()} == wanted


def test_record_that_comes_back_different(java: Java, server: Server, topic: str) -> None:
    """All codecs, positions by time, pause and resume, seek; and clear refusals of the rest."""
    said = java.run("RoundTrip.java", server.kafka, topic)
    assert said.splitlines() == [
        "transactions\tTransactionalIdAuthorizationException",
        "group.protocol\tUnsupportedVersionException",
        "closed",
    ]


def test_admin_call_that_answers_what_kafka_would_not(
    java: Java, server: Server, topic: str
) -> None:
    assert java.run("AdminCalls.java", server.kafka, topic).splitlines() == ["closed"]


def test_configs_of_a_group_that_are_lost(server: Server, topic: str, tmp_path: Path) -> None:
    java = Java("4.3.1", tmp_path)  # 3.9 knows no configs of groups
    assert java.run("GroupConfigs.java", server.kafka, topic).splitlines() == ["closed"]


@pytest.mark.parametrize(
    "assignor", [EAGER, pytest.param(COOPERATIVE, marks=pytest.mark.full)], ids=["eager", "coop"]
)
def test_member_that_takes_messages_to_its_grave(
    java: Java, start: Start, server: Server, topic: str, assignor: str
) -> None:
    """Three join one by one, one is killed, one leaves; every message is read, in order."""
    topics = six(topic)
    create(server.kafka, *topics)
    written = write(server.kafka, topics, ["before"])
    everybody: list[Client] = []
    for _ in range(3):
        everybody.append(
            start(java.member(server.kafka, topic, topics, partition_assignment_strategy=assignor))
        )
        until(lambda: share_is_even(everybody, topics), "the topics are shared", WAIT_S_MAX)
        written |= write(server.kafka, topics, [f"with {len(everybody)}"])
    until(all_read(everybody, written), "all is read", WAIT_S_MAX)

    killed, leaving, last = everybody
    killed.kill()
    until(lambda: share_is_even([leaving, last], topics), "the others take over", WAIT_S_MAX)
    written |= write(server.kafka, topics, ["after a death"])
    until(all_read(everybody, written), "all is read after a death", WAIT_S_MAX)
    leaving.close()
    until(lambda: share_is_even([last], topics), "the last has all", WAIT_S_MAX)
    written |= write(server.kafka, topics, ["at the end"])
    until(all_read(everybody, written), "all is read at the end", WAIT_S_MAX)
    last.close()

    assert read_in_order(everybody)
    values = [value for member in everybody for value in member.values()]
    # At least once: what the killed one had read and not committed may come again, once.
    assert len(values) - len(set(values)) <= len(topics)
    assert positions(server.kafka, topic) == dict.fromkeys(topics, 6)


def test_static_member_that_returns_to_a_rebalance(
    java: Java, start: Start, server: Server, topic: str
) -> None:
    """A killed static member that is back in time has its share, and the other noticed nothing."""
    topics = six(topic)
    create(server.kafka, *topics)

    def join(name: str) -> Client:
        return start(
            java.member(
                server.kafka,
                topic,
                topics,
                group_instance_id=name,
                session_timeout_ms=60_000,
                partition_assignment_strategy=EAGER,
            )
        )

    stays, dies = join("stays"), join("dies")
    until(lambda: share_is_even([stays, dies], topics), "both have a share", WAIT_S_MAX)
    share, seen = dies.assigned, len(stays.of("assigned", "revoked"))
    dies.kill()
    back = join("dies")
    until(lambda: back.assigned == share, "its share is back", WAIT_S_MAX)
    written = write(server.kafka, topics, ["for both"])
    until(all_read([stays, back], written), "all is read", WAIT_S_MAX)
    assert len(stays.of("assigned", "revoked")) == seen
    back.close()
    stays.close()


def test_consumer_that_resumes_elsewhere(
    java: Java, start: Start, server: Server, topic: str
) -> None:
    """What was committed is not read again; what was not is."""
    create(server.kafka, topic)
    first = write(server.kafka, [topic], [f"first {number}" for number in range(50)])
    member = start(java.member(server.kafka, topic, [topic]))
    until(all_read([member], first), "the first part is read", WAIT_S_MAX)
    member.close()
    assert positions(server.kafka, topic) == {topic: 50}
    second = write(server.kafka, [topic], [f"second {number}" for number in range(50)])
    member = start(java.member(server.kafka, topic, [topic]))
    until(all_read([member], second), "the second part is read", WAIT_S_MAX)
    member.close()
    assert [int(offset) for _, offset, _ in member.of("read")] == list(range(50, 100))


def test_retry_that_writes_twice(java: Java, start: Start, server: Server, topic: str) -> None:
    """The producer is idempotent, as is Java's default: acknowledged once, in order, once."""
    create(server.kafka, topic)
    writer = start(java.command("Writer.java", server.kafka, topic, "n", "500", "0"))
    writer.wait()
    assert [(int(offset), value) for _, offset, value in writer.of("acked")] == [
        (number, f"{topic}/n{number}") for number in range(500)
    ]
