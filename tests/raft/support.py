"""A small world for tests of the state: short ways to say the usual commands."""

import random
from collections.abc import Sequence

from raft import commands as c
from raft.apply import apply
from raft.invariants import check_invariants
from raft.state import EMPTY, ClusterState, Topic

CLIENT = b"c" * 16
DISKS = {node: bytes([node]) * 16 for node in range(1, 10)}


def topic_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


class World:
    """A state, the next raft index, and a client that numbers its commands."""

    def __init__(self, state: ClusterState = EMPTY, client: bytes = CLIENT) -> None:
        self.state = state
        self.client = client
        self.sequence = 0
        self.log: list[c.Envelope] = []

    def do(self, command: c.AnyCommand, *, sequence: int | None = None) -> c.Applied:
        """Apply, with all invariants checked."""
        self.sequence += sequence is None
        envelope = c.Envelope(
            c.FORMAT_VERSION, self.client, self.sequence if sequence is None else sequence, command
        )
        self.log.append(envelope)
        before = self.state
        self.state, answer = apply(before, before.revision + 1, envelope)
        check_invariants(self.state, before)
        check_invariants(self.state)
        return answer

    def ok(self, command: c.AnyCommand) -> c.Applied:
        answer = self.do(command)
        assert answer.refusal == ""
        return answer

    def refused(self, command: c.AnyCommand) -> str:
        """The refusal, having checked that it left nothing behind but the answer."""
        before = self.state
        answer = self.do(command)
        assert answer.refusal != ""
        assert (self.state.topics, self.state.brokers) == (before.topics, before.brokers)
        assert (self.state.names, self.state.deleted_topics) == (
            before.names,
            before.deleted_topics,
        )
        return answer.refusal

    def register(self, node: int, *, disk: bytes | None = None, clean: bool = True) -> int:
        return self.ok(register(node, disk=disk, clean=clean)).value

    def next(self, writer: int, replicas: Sequence[int] | None = None) -> c.Next:
        return c.Next(
            writer=writer,
            writer_incarnation=self.state.brokers[writer].incarnation,
            replicas=tuple(replicas or (writer,)),
        )

    def create(self, number: int = 1, name: str = "t", replicas: Sequence[int] = (1,)) -> Topic:
        self.ok(create(number, name, self.next(replicas[0], replicas)))
        return self.topic(number)

    def topic(self, number: int = 1) -> Topic:
        return self.state.topics[topic_id(number)]

    def roll(self, end: int, number: int = 1, writer: int | None = None) -> c.Applied:
        topic = self.topic(number)
        last = topic.last
        return self.ok(
            c.CommitRoll(
                topic_id=topic.topic_id,
                sid=last.sid,
                open_epoch=topic.epoch,
                end=sealed_end(last.base_offset, end),
                holders=holders(last.replicas),
                next=self.next(writer or last.writer, last.replicas),
            )
        )


def register(node: int, *, disk: bytes | None = None, clean: bool = True) -> c.RegisterBroker:
    return c.RegisterBroker(
        node=node,
        disk=disk or DISKS[node],
        raft_host="127.0.0.1",
        raft_port=6000 + node,
        listeners=(("native", "127.0.0.1", 8080), ("kafka", "127.0.0.1", 9092)),
        rack=None,
        clean=clean,
    )


def create(number: int, name: str, opens: c.Next) -> c.CreateTopic:
    return c.CreateTopic(
        topic_id=topic_id(number),
        name=name,
        configs={"retention.ms": "1000"},
        replication_factor=3,
        internal=False,
        pinned=False,
        next=opens,
    )


def sealed_end(base: int, end: int) -> c.SealedEnd:
    empty = base == end
    return c.SealedEnd(
        end_offset=end,
        size=0 if empty else (end - base) * 100,
        digest=0 if empty else 7,
        max_timestamp=-1 if empty else 5,
    )


def holders(nodes: Sequence[int]) -> tuple[tuple[int, bytes], ...]:
    return tuple((node, DISKS[node]) for node in nodes)


def world(nodes: int = 1) -> World:
    """A formed cluster of registered brokers 1 to `nodes`."""
    made = World()
    made.ok(c.FormCluster("cluster"))
    for node in range(1, nodes + 1):
        made.register(node)
    return made


def seeded(seed: int) -> random.Random:
    """A generator that says where it came from when a test fails."""
    print(f"seed {seed}")
    return random.Random(seed)
