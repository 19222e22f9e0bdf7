"""Two nodes that live through the same, one of them without the quick way of a Fetch: their answers
are the same to the byte, and so is what they remember of the clients."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import anyio
import pytest

from broker.errors import StorageFailed
from broker.kafka_api.wire import load
from tests.broker.kafka_api.fakes import FakePartition, batch
from tests.broker.kafka_api.harness import Asked, Connection, Node, Way
from tests.broker.kafka_api.layouts import FETCH, decode_response

NAMES = ("a", "b", "c")
STEP_COUNT = 60
WAIT_MS = 60_000
"""Nobody waits so long: what does not come by itself is ended by a node that stops."""


@dataclass
class Twins:
    """Both nodes, and one client that talks to both."""

    rng: random.Random
    version: int
    nodes: tuple[Node, Node] = field(default_factory=lambda: (Node(), Node(way=Way.ALONE)))
    connections: list[Connection] = field(default_factory=list)
    at: dict[str, int] = field(default_factory=dict)
    """What the client believes that its session holds: the next offset by topic."""
    session_id: int = 0
    epoch: int = 0

    async def start(self) -> None:
        for node in self.nodes:
            self.connections.append(node.connect())
            for number, name in enumerate(NAMES, 1):
                partition = await node.create(name)
                partition.view = replace(partition.view, topic_id=UUID(int=number))

    def both(self, act: Callable[[FakePartition], object], name: str) -> None:
        for node in self.nodes:
            act(node.controller.partitions[name])

    async def append(self, name: str, data: bytes) -> None:
        for node in self.nodes:
            partition = node.controller.partitions[name]
            if partition.error is None:
                await partition.append(data, acks=-1)

    def topic(self, name: str, offset: int) -> dict[str, Any]:
        rng = self.rng
        partition = {
            "partition": int(rng.random() < 0.01),
            "fetch_offset": offset,
            "current_leader_epoch": 2 if rng.random() < 0.02 else rng.choice([-1, 3]),
            "max_bytes": rng.choice([0, 1, 300, 2**20]),
        }
        named = {"topic": name} if self.version < 13 else {"topic_id": UUID(int=ord(name) - 96)}
        return {**named, "partitions": [partition]}

    def request(self) -> dict[str, Any]:
        """Mostly what a client with a session would ask; sometimes what it should not."""
        rng = self.rng
        if rng.random() < 0.1 or not self.session_id:
            self.epoch = rng.choice([0, 0, 0, -1])
        is_full = self.epoch <= 0
        if is_full or rng.random() < 0.1:
            names = rng.sample(NAMES, rng.randint(1, 3))
        else:
            names = [name for name in self.at if rng.random() < 0.5]
        forgotten = [name for name in self.at if not is_full and rng.random() < 0.03]
        ends = {name: self.nodes[0].controller.partitions[name].end_offset for name in NAMES}
        if is_full:
            self.at = {}
        for name in names:
            self.at[name] = rng.choice([0, ends[name], ends[name], rng.randint(0, ends[name])])
            if rng.random() < 0.02:
                self.at[name] = rng.choice([-1, ends[name] + 1])
        topics = [self.topic(name, self.at[name]) for name in names]
        for name in forgotten:
            self.at.pop(name, None)
        key = "topic" if self.version < 13 else "topic_id"
        return {
            "topics": topics,
            "forgotten": [{key: self.topic(name, 0)[key], "partitions": [0]} for name in forgotten],
            "session_id": self.session_id + (rng.random() < 0.03),
            "session_epoch": self.epoch + (0 if is_full else rng.random() < 0.03),
            "max_bytes": rng.choice([0, 400, 2**20]),
            "min_bytes": rng.choice([1] * 10 + [0, 500]),
            "isolation_level": rng.choice([0, 1]),
            "max_wait_ms": rng.choice([WAIT_MS, WAIT_MS, 0]),
        }

    async def fetch(self) -> None:
        """The same request to both; while they are parked something may happen."""
        values = self.request()
        asked = [
            await one.send(FETCH, self.version, rack_id="", **values) for one in self.connections
        ]
        replies: dict[int, bytes] = {}

        async def answer(number: int, one: Asked) -> None:
            replies[number] = await one.reply()

        async with anyio.create_task_group() as tasks:
            for number, one in enumerate(asked):
                tasks.start_soon(answer, number, one)
            await anyio.wait_all_tasks_blocked()
            parked = sorted(replies)
            assert parked in ([], [0, 1]), f"only one of both waits: {values}"
            if not parked:
                await self.happen()
                await anyio.wait_all_tasks_blocked()
                for node in self.nodes:
                    node.stopping.set()
        for node in self.nodes:
            node.stopping.is_set = False
        assert replies[0] == replies[1], values
        self._learn(asked[0], replies[0], values)

    def _learn(self, asked: Asked, reply: bytes, values: dict[str, Any]) -> None:
        _, answer = decode_response(FETCH, self.version, reply)
        self.session_id = answer.get("session_id", 0)
        self.epoch = values["session_epoch"] + 1 if self.session_id else 0

    async def happen(self) -> None:
        """Something that may concern who waits."""
        rng = self.rng
        name = rng.choice(NAMES)
        match rng.randrange(8):
            case 0 | 1 | 2:
                await self.append(name, batch(b"x" * rng.randint(1, 400)))
            case 3:
                self.both(lambda one: setattr(one, "error", StorageFailed("EIO")), name)
                self.both(FakePartition.wake, name)
            case 4:
                self.both(lambda one: setattr(one, "must_wait", True), name)
                await self.append(name, batch(b"on the disk"))
            case 5:
                self.both(FakePartition.wake, name)
            case 6:
                self.both(lambda one: setattr(one, "is_held", True), name)
                await self.append(name, batch(b"not committed"))
                self.both(FakePartition.wake, name)

    async def heal(self) -> None:
        for name in NAMES:
            self.both(lambda one: setattr(one, "must_wait", False), name)
            self.both(lambda one: setattr(one, "error", None), name)
            self.both(FakePartition.release, name)

    def remembered(self) -> list[object]:
        """Of both, the general one first."""
        return [
            [
                (one.session_id, one.epoch, [(*entry.asked, entry.told) for entry in entries])
                for one in node.sessions._sessions.values()
                for entries in (one._entries.values(),)
            ]
            for node in self.nodes
        ]


@pytest.mark.parametrize("seed", range(40))
async def test_both_ways_say_the_same_and_remember_the_same(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    version = rng.choice([10, 11, 12, 13, 15, 16, 17])
    await load(1, version)
    twins = Twins(rng, version)
    await twins.start()
    for _ in range(STEP_COUNT):
        await twins.fetch()
        general, quick = twins.remembered()
        assert general == quick
        if rng.random() < 0.8:
            await twins.heal()
        if rng.random() < 0.5:
            await twins.append(rng.choice(NAMES), batch(b"y" * rng.randint(1, 300)))
        if rng.random() < 0.02:
            for node in twins.nodes:
                view = node.controller.partitions["a"].view
                await node.controller.delete_records(view, -1)
    outcomes = [node.counters.requests.of("Fetch").outcomes for node in twins.nodes]
    assert outcomes[0] == outcomes[1]
    assert sum(one.watcher_count for one in twins.nodes[1].controller.partitions.values()) == 0
    assert twins.connections[1].general_count < STEP_COUNT, "the quick way took part"


async def test_a_fetch_waits_no_longer_than_it_asks(node: Node) -> None:
    partition = await node.create("t")
    await load(1, 11)
    connection = node.connect()
    connection.way = Way.ALONE
    with anyio.fail_after(20):
        answer = await connection.fetch("t", 0, max_wait_ms=10)
    assert (answer["error"], answer["records"], answer["high_watermark"]) == (0, b"", 0)
    assert (partition.watcher_count, partition.read_count) == (0, 0), "and no task"


async def test_a_wait_that_turns_out_to_need_the_disk_goes_on_in_a_task(node: Node) -> None:
    partition = await node.create("t")
    await load(1, 11)
    connection = node.connect()
    connection.way = Way.ALONE

    async def act() -> None:
        partition.must_wait = True
        await partition.append(batch(b"on the disk"), acks=-1)

    answer = await connection.fetch_woken_by(act)
    assert answer["records"] == partition.batches[0][2]
    assert partition.watcher_count == 0
    assert connection.general_count == 0, "it was not asked again"
