"""Clients in other languages: codecs, groups, administration, and a leader that is killed."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupState

from harness.clients import confluent_end, confluent_read, values
from harness.foreign import CLIENTS, Foreign, Program
from harness.groups import create, describe, positions, until, write
from harness.server import Server
from tests.cluster.processes import Cluster

LEADER_S_MAX = 90.0
"""Until everything goes on after a leader's death. Generous: a machine may be slow."""

pytestmark = [
    pytest.mark.parametrize(
        "client",
        [
            pytest.param(client, id=client.name, marks=getattr(pytest.mark, client.language))
            for client in CLIENTS
        ],
    )
]


def test_record_lost_changed_or_moved_by_a_codec(
    server: Server, topic: str, client: Foreign
) -> None:
    create(server.kafka, topic)
    written: list[str] = []
    for codec in client.codecs:
        lines = [f"{codec} {number} {'x' * 200}" for number in range(50)]
        acked = client.write(server.kafka, topic, codec, lines)
        assert acked == {line: len(written) + number for number, line in enumerate(lines)}
        written += lines
    assert client.read(server.kafka, topic, len(written)) == written
    found = confluent_read(server.kafka, topic, len(written))
    assert values(found) == [value.encode() for value in written]
    assert confluent_end(server.kafka, topic) == len(written)


def test_administration_that_finds_something_else(
    server: Server, topic: str, client: Foreign
) -> None:
    used = f"{topic}-used"
    create(server.kafka, used)
    write(server.kafka, [used], ["a"])
    with client.run("join", server.kafka, used, "member", used) as member:
        until(lambda: positions(server.kafka, used).get(used) == 1, "it has committed")
        member.finish()
    with client.run("admin", server.kafka, topic, used) as program:
        program.finish()
        found = {step["name"]: step["found"] for step in program.said("step")}
    assert found.pop("lag", 0) == 0
    assert found == {
        "partitions": 1,
        "created twice": "TOPIC_ALREADY_EXISTS",
        "retention": "7200000",
        "retention altered": "3600000",
        "group is listed": True,
        "group": "Empty",
        "group deleted twice": "GROUP_ID_NOT_FOUND",
        "topic is listed": False,
    }


class Group:
    """A group of programs, and the rules that hold at every moment of its life."""

    def __init__(self, client: Foreign, kafka: str, name: str, topics: Sequence[str]) -> None:
        self.client, self.kafka, self.name, self.topics = client, kafka, name, topics
        self.alive: dict[str, Program] = {}
        self.everybody: list[Program] = []
        self.furthest: dict[str, int] = {}

    def join(self) -> None:
        name = f"member-{len(self.everybody) + 1}"
        program = self.client.run("join", self.kafka, self.name, name, *self.topics)
        self.alive[name] = program
        self.everybody.append(program)

    def shares(self) -> dict[str, list[str]]:
        """Which member has which topics; empty while the group rebalances."""
        found = describe(self.kafka, self.name)
        if found.state != ConsumerGroupState.STABLE:
            return {}
        return {
            one.client_id: sorted(part.topic for part in one.assignment.topic_partitions)
            for one in found.members
        }

    def is_settled(self) -> bool:
        """Everybody who lives is a member, nobody else is, and each topic has one reader."""
        shares = self.shares()
        dealt = sorted(topic for share in shares.values() for topic in share)
        return shares.keys() == self.alive.keys() and dealt == sorted(self.topics)

    def reads(self) -> list[tuple[str, int, str]]:
        return [
            (one["topic"], one["offset"], one["value"])
            for program in self.everybody
            for one in program.said("read")
        ]

    def committed(self) -> dict[str, int]:
        """What is committed now. Raises AssertionError when that is less than it was."""
        found = positions(self.kafka, self.name)
        for topic, offset in found.items():
            assert offset >= self.furthest.get(topic, 0), f"{topic} went back to {offset}"
        assert found.keys() >= self.furthest.keys()
        self.furthest = found
        return found

    def wait(self, holds: Callable[[], object], what: str, wait_s_max: float = 60.0) -> None:
        """Raises AssertionError with what the members complained of."""

        def holds_or_died() -> bool:
            for name, program in self.alive.items():
                assert program.is_running(), f"{name} died:\n{program.complaints()}"
            return bool(holds())

        try:
            until(holds_or_died, what, wait_s_max)
        except AssertionError as error:
            said = "\n".join(program.complaints() for program in self.alive.values())
            state = f"committed {self.furthest}, shared {self.shares()}, alive {[*self.alive]}"
            raise AssertionError(f"{error}: {state}\n{said}") from None

    def wait_all_committed(self, count: int) -> None:
        """Every topic has `count` records, all read and committed."""
        self.wait(lambda: self.committed() == dict.fromkeys(self.topics, count), "all is committed")

    def close(self) -> None:
        for program in self.everybody:
            program.kill()


@pytest.fixture
def gather() -> Iterator[Callable[..., Group]]:
    """Make groups whose members do not outlive the test."""
    groups: list[Group] = []

    def gather(*arguments: Any) -> Group:
        groups.append(Group(*arguments))
        return groups[-1]

    yield gather
    for group in groups:
        group.close()


def test_member_that_joins_leaves_or_dies(
    server: Server, topic: str, client: Foreign, gather: Callable[..., Group]
) -> None:
    """Whatever happens while all is committed: each record is read once, and in its order."""
    topics = [f"{topic}-{number}" for number in range(6)]
    create(server.kafka, *topics)
    group = gather(client, server.kafka, topic, topics)
    written: set[bytes] = set()

    def settle(words: Sequence[str]) -> None:
        nonlocal written
        group.wait(group.is_settled, "each topic has one reader")
        written |= write(server.kafka, topics, words)
        group.wait_all_committed(len(written) // len(topics))

    group.join()
    settle(["a", "b"])
    group.join()
    group.join()
    settle(["c", "d"])
    leaver = sorted(group.alive)[-1]
    group.alive.pop(leaver).finish()
    settle(["e", "f"])
    shares = group.shares()
    victim = max(shares, key=lambda name: len(shares[name]))
    group.alive.pop(victim).kill()
    written |= write(server.kafka, topics, ["g", "h"])
    settle(["i", "j"])
    group.alive.popitem()[1].finish()
    assert describe(server.kafka, topic).state == ConsumerGroupState.EMPTY
    written |= write(server.kafka, topics, ["k", "l"])
    group.join()
    settle(["m", "n"])
    group.alive.popitem()[1].finish()

    found = group.reads()
    assert Counter(value.encode() for _, _, value in found) == Counter(written), "not each once"
    for program in group.everybody:
        for name in topics:
            seen = [one["offset"] for one in program.said("read") if one["topic"] == name]
            assert all(before < after for before, after in pairwise(seen)), seen
    assert group.committed() == dict.fromkeys(topics, len(written) // len(topics))


@pytest.mark.crash
@pytest.mark.slow
def test_leader_killed_under_writers_and_readers(
    tmp_path: Path, client: Foreign, gather: Callable[..., Group]
) -> None:
    """What was acknowledged is there, once if the client is idempotent, and in order."""
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        cluster.register("t")
        _kill_leader(cluster, client, gather(client, cluster.bootstrap, "g", ["t"]))
    finally:
        cluster.close()


def _kill_leader(cluster: Cluster, client: Foreign, group: Group) -> None:
    group.join()
    lines = [str(number) for number in range(600)]
    with client.run("write", cluster.bootstrap, "t", "none") as writer:
        writer.send(lines[:200])
        until(lambda: len(writer.acked()) >= 50, "the first are acknowledged", LEADER_S_MAX)
        leader = cluster.leader("t")
        assert leader is not None
        writer.send(lines[200:400])
        leader.kill()
        writer.send(lines[400:])
        until(lambda: len(writer.acked()) == len(lines), "all are acknowledged", LEADER_S_MAX)
        writer.finish()
        acked = writer.acked()
    count = max(acked.values()) + 1
    stored = client.read(cluster.bootstrap, "t", count)
    assert list(dict.fromkeys(stored)) == lines, "lost or out of order"
    assert all(stored[offset] == value for value, offset in acked.items())
    if client.is_idempotent:
        assert stored == lines, "stored twice"
    group.wait(lambda: group.committed().get("t") == count, "all is committed", LEADER_S_MAX)
    # What is committed was said to have been read before, and may not have come here yet.
    group.wait(lambda: any(offset == count - 1 for _, offset, _ in group.reads()), "the last")
    first_seen = list(dict.fromkeys(value for _, _, value in group.reads()))
    assert first_seen == lines, "the group missed some, or saw them out of order"
